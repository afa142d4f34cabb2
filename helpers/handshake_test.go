// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// rsaKey makes a key from two primes. rsa.GenerateKey refuses some sizes, and needs minutes for others.
func rsaKey(t testing.TB, p, q *big.Int) *rsa.PrivateKey {
	t.Helper()
	one := big.NewInt(1)
	totient := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537},
		D:         new(big.Int).ModInverse(big.NewInt(65537), totient),
		Primes:    []*big.Int{p, q},
	}
	require.NotNil(t, key.D)
	key.Precompute()
	return key
}

// mersenne returns 2ⁿ-1, which is a prime for some n.
func mersenne(n uint) *big.Int {
	one := big.NewInt(1)
	return one.Sub(new(big.Int).Lsh(one, n), one)
}

func prime(t testing.TB, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits) // its two highest bits are 1
	require.NoError(t, err)
	return p
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

// Each row runs a TLS handshake with a server written in Go, like API servers.
func TestRESTConfigForTakesWhatTLSTakes(t *testing.T) {
	a := pki.New()
	server := serveClientsOf(t, a)
	strong := pki.ECDSAKey()
	strongCert := pki.Certificates(a.Issue("alice", strong))
	with := func(key crypto.Signer) func() (cert, key []byte) {
		return func() ([]byte, []byte) { return pki.Certificates(a.Issue("alice", key)), pki.PKCS8(key) }
	}
	chain := func(blocks ...[]byte) func() (cert, key []byte) {
		return func() ([]byte, []byte) {
			return slices.Concat(append([][]byte{strongCert}, blocks...)...), pki.PKCS8(strong)
		}
	}
	withPEM := func(key []byte) func() (cert, key []byte) {
		return func() ([]byte, []byte) { return strongCert, key }
	}
	longKey := pki.Block("RSA PRIVATE KEY", make([]byte, 9<<10)) // parsing one of 192 KiB takes a minute
	tooLarge := rsaKey(t, mersenne(4253), mersenne(4423))
	require.Equal(t, 8676, tooLarge.N.BitLen())

	for name, test := range map[string]struct {
		make  func() (cert, key []byte)
		field string // "" is success
		says  string
	}{
		"P-224":                   {with(ecdsaKey(t, elliptic.P224())), fieldKey, "P-256, P-384 or P-521"},
		"P-256":                   {make: with(ecdsaKey(t, elliptic.P256()))},
		"P-384":                   {make: with(ecdsaKey(t, elliptic.P384()))},
		"P-521":                   {make: with(ecdsaKey(t, elliptic.P521()))},
		"RSA of 512 bits":         {with(rsaKey(t, prime(t, 256), prime(t, 256))), fieldKey, "1024 to 8192 bits"},
		"RSA of 1023 bits":        {with(rsaKey(t, prime(t, 512), prime(t, 511))), fieldKey, "1024 to 8192 bits"},
		"RSA of 1024 bits":        {make: with(rsaKey(t, prime(t, 512), prime(t, 512)))},
		"RSA of 8676 bits":        {with(tooLarge), fieldKey, "1024 to 8192 bits"},
		"a key too long to parse": {withPEM(longKey), fieldKey, "longer than an RSA key of 8192 bits"},
		"a key too long to parse, after one that TLS skips": {
			withPEM(slices.Concat(corrupt(pki.PKCS8(strong)), longKey)), fieldKey, "longer than an RSA key of 8192 bits",
		},
		"an intermediate":           {make: chain(pki.Certificates(a.Cert))},
		"an intermediate of P-224":  {make: chain(pki.Certificates(a.Issue("ca", ecdsaKey(t, elliptic.P224()))))},
		"an intermediate too large": {chain(pki.Certificates(a.Issue("ca", tooLarge))), fieldCert, "more than 8192 bits"},
		"a second block without a certificate": {
			chain(pki.Block("CERTIFICATE", []byte("hunter2"))), fieldCert, "certificate 2 can't be parsed",
		},
		"a second block that TLS skips":        {make: chain(corrupt(pki.Certificates(a.Cert)))},
		"a second block of OpenSSL's own type": {make: chain(pki.Block("TRUSTED CERTIFICATE", []byte("junk")))},
		"a third block without a certificate, after one that TLS skips": {
			chain(corrupt(pki.Certificates(a.Cert)), pki.Block("CERTIFICATE", []byte("hunter2"))), fieldCert, "certificate 3 can't be parsed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cert, key := test.make()
			err := request(t.Context(), server, cert, key)
			assert.Equal(t, test.field == "", err == nil, "the row must agree with TLS: %v", err)

			dp := dataplanetest.DataPlane("default", "production-dataplane")
			creds := &dp.Spec.KubernetesCluster.Credentials
			creds.ClientCert, creds.ClientKey = pki.Encode(cert), pki.Encode(key)
			reason := helpers.CredentialsReasonInvalidPEM
			if test.field == "" {
				reason = ""
			}
			requireFault(t, dp, test.field, reason, "hunter2", test.says)
		})
	}
}

// serveClientsOf starts a server that accepts client certificates of an authority.
func serveClientsOf(t *testing.T, a *pki.Authority) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	clients := x509.NewCertPool()
	clients.AddCert(a.Cert)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // hides failed handshakes
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// request makes one request with a client certificate.
func request(ctx context.Context, server *httptest.Server, cert, key []byte) error {
	client, err := rest.HTTPClientFor(&rest.Config{
		Host:            server.URL,
		TLSClientConfig: rest.TLSClientConfig{CAData: pki.Certificates(server.Certificate()), CertData: cert, KeyData: key},
	})
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
