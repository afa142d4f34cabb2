// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package testpki

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Authority issues certificates for a test. Nothing of it is kept.
type Authority struct {
	t    testing.TB
	Cert *x509.Certificate
	key  crypto.Signer
}

// New returns an authority for the time of a test.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, key: ECDSAKey(t)}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "test authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	a.Cert = a.sign(template, template, a.key.Public())
	return a
}

// Issue returns a client certificate for the key. Edits change its template.
func (a *Authority) Issue(key crypto.Signer, edits ...func(*x509.Certificate)) *x509.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "test user"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, edit := range edits {
		edit(template)
	}
	return a.sign(template, a.Cert, key.Public())
}

func (a *Authority) sign(template, parent *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	if template.SerialNumber == nil {
		serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
		require.NoError(a.t, err)
		template.SerialNumber = serial
	}
	if template.NotAfter.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	require.NoError(a.t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return certificate
}

// ECDSAKey returns a new P-256 key.
func ECDSAKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// Key is a private key and one of the forms that tools write it in.
type Key struct {
	Signer crypto.Signer
	PEM    []byte
}

// Keys returns a key of each kind that TLS uses, in each form that tools write.
func Keys(t testing.TB) map[string]Key {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecdsaKey := ECDSAKey(t)
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	sec1, err := x509.MarshalECPrivateKey(ecdsaKey)
	require.NoError(t, err)
	return map[string]Key{
		"RSA in PKCS #1":   {rsaKey, Block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
		"RSA in PKCS #8":   {rsaKey, PKCS8(t, rsaKey)},
		"ECDSA in SEC 1":   {ecdsaKey, Block("EC PRIVATE KEY", sec1)},
		"ECDSA in PKCS #8": {ecdsaKey, PKCS8(t, ecdsaKey)},
		"ECDSA in SEC 1 after its parameters": {
			ecdsaKey,
			append(Block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}), Block("EC PRIVATE KEY", sec1)...),
		},
		"Ed25519 in PKCS #8": {ed25519Key, PKCS8(t, ed25519Key)},
	}
}

// X25519 returns a private key that signs nothing.
func X25519(t testing.TB) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return Block("PRIVATE KEY", der)
}

// Certificates returns PEM of certificates.
func Certificates(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, certificate := range certificates {
		out = append(out, Block("CERTIFICATE", certificate.Raw)...)
	}
	return out
}

// PKCS8 returns PEM of a private key.
func PKCS8(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return Block("PRIVATE KEY", der)
}

// Block returns a PEM block.
func Block(blockType string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
}

// Encode returns standard base64.
func Encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// DataPlane returns a DataPlane whose credentials are sound.
func DataPlane(t testing.TB) *v1alpha1.DataPlane {
	t.Helper()
	a, key := New(t), ECDSAKey(t)
	return &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "production-dataplane", UID: "uid-1", Generation: 1},
		Spec: v1alpha1.DataPlaneSpec{
			KubernetesCluster: v1alpha1.KubernetesClusterSpec{
				Name: "production-cluster",
				Credentials: v1alpha1.APIServerCredentials{
					APIServerURL: "https://k8s-api.example.com:6443",
					CACert:       Encode(Certificates(a.Cert)),
					ClientCert:   Encode(Certificates(a.Issue(key))),
					ClientKey:    Encode(PKCS8(t, key)),
				},
			},
		},
	}
}

// Decode decodes standard base64, and panics on anything else.
func Decode(value string) []byte {
	data, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		panic(err)
	}
	return data
}

// Unaligned pads PEM until its base64 needs padding.
func Unaligned(data []byte) []byte {
	for len(data)%3 == 0 {
		data = append(data, '\n')
	}
	return data
}

// Wrap breaks text into lines of 64 characters.
func Wrap(text, separator string) string {
	var out strings.Builder
	for len(text) > 64 {
		out.WriteString(text[:64] + separator)
		text = text[64:]
	}
	return out.String() + text
}

// LongText returns n characters.
func LongText(n int) string { return strings.Repeat("A", n) }

// Expired makes a certificate that expired an hour ago.
func Expired(template *x509.Certificate) {
	template.NotBefore = time.Now().Add(-2 * time.Hour)
	template.NotAfter = time.Now().Add(-time.Hour)
}
