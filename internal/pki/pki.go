// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes throw-away certificates and keys for tests. Its functions panic on errors.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"time"
)

// Authority issues certificates. Its own certificate is valid for a day, from an hour ago.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// New returns an authority with a new key.
func New() *Authority {
	a := &Authority{key: ECDSAKey()}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "test authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	a.Cert = a.sign(template, template, a.key.Public())
	return a
}

// Issue returns a client certificate for a user and a key. Edits change its template first.
func (a *Authority) Issue(user string, key crypto.Signer, edits ...func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: user},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, edit := range edits {
		edit(template)
	}
	return a.sign(template, a.Cert, key.Public())
}

func (a *Authority) sign(template, parent *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	if template.SerialNumber == nil {
		template.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))
	}
	if template.NotAfter.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
		template.NotAfter = time.Now().Add(23 * time.Hour)
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent, public, a.key))))
}

// Expired makes a certificate that expired an hour ago.
func Expired(template *x509.Certificate) {
	template.NotBefore = time.Now().Add(-2 * time.Hour)
	template.NotAfter = time.Now().Add(-time.Hour)
}

// ECDSAKey returns a new P-256 key.
func ECDSAKey() *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
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
func PKCS8(key crypto.PrivateKey) []byte {
	return Block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
}

// Block returns a PEM block.
func Block(blockType string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
}

// Encode returns standard base64.
func Encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// Decode decodes standard base64.
func Decode(value string) []byte { return must(base64.StdEncoding.DecodeString(value)) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
