// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// privateKey is a private key and its PEM, in one of the forms that tools write.
type privateKey struct {
	Signer crypto.Signer
	PEM    []byte
}

// privateKeys returns a key of each kind that TLS uses, in each form that tools write.
func privateKeys(t testing.TB) map[string]privateKey {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecdsaKey := pki.ECDSAKey()
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	sec1, err := x509.MarshalECPrivateKey(ecdsaKey)
	require.NoError(t, err)
	return map[string]privateKey{
		"RSA in PKCS #1":   {rsaKey, pki.Block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
		"RSA in PKCS #8":   {rsaKey, pki.PKCS8(rsaKey)},
		"ECDSA in SEC 1":   {ecdsaKey, pki.Block("EC PRIVATE KEY", sec1)},
		"ECDSA in PKCS #8": {ecdsaKey, pki.PKCS8(ecdsaKey)},
		"ECDSA in SEC 1 after its parameters": {
			ecdsaKey,
			append(pki.Block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}), pki.Block("EC PRIVATE KEY", sec1)...),
		},
		"Ed25519 in PKCS #8": {ed25519Key, pki.PKCS8(ed25519Key)},
	}
}

// x25519 returns PEM of a private key that can't sign.
func x25519(t testing.TB) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	return pki.PKCS8(key)
}

// unaligned pads PEM until its base64 needs padding.
func unaligned(data []byte) []byte {
	for len(data)%3 == 0 {
		data = append(data, '\n')
	}
	return data
}

// wrap breaks text into lines of 64 characters.
func wrap(text, separator string) string {
	var out strings.Builder
	for len(text) > 64 {
		out.WriteString(text[:64] + separator)
		text = text[64:]
	}
	return out.String() + text
}

// longText returns n characters.
func longText(n int) string { return strings.Repeat("A", n) }
