// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

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

// authority issues certificates for a test. Nothing of it is kept.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, key: newECDSAKey(t)}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "test authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, template, a.key.Public())
	return a
}

// issue returns a client certificate for the key. Edits change its template.
func (a *authority) issue(key crypto.Signer, edits ...func(*x509.Certificate)) *x509.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "test user"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, edit := range edits {
		edit(template)
	}
	return a.sign(template, a.cert, key.Public())
}

func (a *authority) sign(template, parent *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
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

func newECDSAKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// newKeys returns a key of each kind that TLS uses, in each form that tools write.
func newKeys(t testing.TB) map[string]struct {
	signer crypto.Signer
	pem    []byte
} {
	t.Helper()
	type keys = map[string]struct {
		signer crypto.Signer
		pem    []byte
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecdsaKey := newECDSAKey(t)
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	sec1, err := x509.MarshalECPrivateKey(ecdsaKey)
	require.NoError(t, err)
	return keys{
		"RSA in PKCS #1":   {rsaKey, pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
		"RSA in PKCS #8":   {rsaKey, pemPKCS8(t, rsaKey)},
		"ECDSA in SEC 1":   {ecdsaKey, pemBlock("EC PRIVATE KEY", sec1)},
		"ECDSA in PKCS #8": {ecdsaKey, pemPKCS8(t, ecdsaKey)},
		"ECDSA in SEC 1 after its parameters": {
			ecdsaKey,
			append(pemBlock("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}), pemBlock("EC PRIVATE KEY", sec1)...),
		},
		"Ed25519 in PKCS #8": {ed25519Key, pemPKCS8(t, ed25519Key)},
	}
}

// pemX25519 returns a private key that signs nothing.
func pemX25519(t testing.TB) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pemBlock("PRIVATE KEY", der)
}

func pemCertificate(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, certificate := range certificates {
		out = append(out, pemBlock("CERTIFICATE", certificate.Raw)...)
	}
	return out
}

func pemPKCS8(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pemBlock("PRIVATE KEY", der)
}

func pemBlock(blockType string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
}

func encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// newDataPlane returns a DataPlane whose credentials are sound.
func newDataPlane(t testing.TB) *v1alpha1.DataPlane {
	t.Helper()
	a, key := newAuthority(t), newECDSAKey(t)
	return &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "production-dataplane", UID: "uid-1", Generation: 1},
		Spec: v1alpha1.DataPlaneSpec{
			KubernetesCluster: v1alpha1.KubernetesClusterSpec{
				Name: "production-cluster",
				Credentials: v1alpha1.APIServerCredentials{
					APIServerURL: "https://k8s-api.example.com:6443",
					CACert:       encode(pemCertificate(a.cert)),
					ClientCert:   encode(pemCertificate(a.issue(key))),
					ClientKey:    encode(pemPKCS8(t, key)),
				},
			},
		},
	}
}

func decode(value string) []byte {
	data, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		panic(err)
	}
	return data
}

// unaligned pads PEM until its base64 needs padding.
func unaligned(data []byte) []byte {
	for len(data)%3 == 0 {
		data = append(data, '\n')
	}
	return data
}

func wrap(text, separator string) string {
	var out strings.Builder
	for len(text) > 64 {
		out.WriteString(text[:64] + separator)
		text = text[64:]
	}
	return out.String() + text
}

func longText(n int) string { return strings.Repeat("A", n) }

func expired(template *x509.Certificate) {
	template.NotBefore = time.Now().Add(-2 * time.Hour)
	template.NotAfter = time.Now().Add(-time.Hour)
}
