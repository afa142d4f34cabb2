// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func TestRESTConfigForHoldsWhatTheSpecSays(t *testing.T) {
	dp := newDataPlane(t)
	before := dp.DeepCopy()

	config, err := RESTConfigFor(dp)
	require.NoError(t, err)

	creds := dp.Spec.KubernetesCluster.Credentials
	assert.Equal(t, "https://k8s-api.example.com:6443", config.Host)
	assert.Equal(t, creds.CACert, encode(config.CAData))
	assert.Equal(t, creds.ClientCert, encode(config.CertData))
	assert.Equal(t, creds.ClientKey, encode(config.KeyData))
	assert.False(t, config.Insecure)
	assert.Zero(t, config.Timeout, "a timeout would cut watches")
	assert.EqualValues(t, 50, config.QPS)
	assert.Equal(t, 100, config.Burst)

	config.KeyData[0] ^= 1
	assert.Equal(t, before, dp, "the caller owns the configuration; the object stays as it is")
}

func TestRESTConfigForOptions(t *testing.T) {
	dp := newDataPlane(t)

	config, err := RESTConfigFor(dp, WithUserAgent("tool/v1"), WithServerName("kubernetes"), WithRateLimit(-1, 0))
	require.NoError(t, err)
	assert.Equal(t, "tool/v1", config.UserAgent)
	assert.Equal(t, "kubernetes", config.ServerName)
	assert.EqualValues(t, -1, config.QPS)
	assert.Equal(t, 100, config.Burst)

	config, err = RESTConfigFor(dp, WithRateLimit(5, 7))
	require.NoError(t, err)
	assert.EqualValues(t, 5, config.QPS)
	assert.Equal(t, 7, config.Burst)
}

// The configuration is used here, not only looked at: the server must be verified
// against the CA in the spec, and must see the client certificate of the spec.
func TestRESTConfigForConnectsWithMutualTLS(t *testing.T) {
	dp := newDataPlane(t)
	clients := x509.NewCertPool()
	ca, err := base64.StdEncoding.DecodeString(dp.Spec.KubernetesCluster.Credentials.CACert)
	require.NoError(t, err)
	clients.AppendCertsFromPEM(ca)

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.Config.ErrorLog = discardLog
	server.StartTLS()
	defer server.Close()
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = server.URL

	get := func() (string, error) {
		config, err := RESTConfigFor(dp)
		require.NoError(t, err)
		client, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		body, err := client.Discovery().RESTClient().Get().AbsPath("/whoami").DoRaw(t.Context())
		return string(body), err
	}

	_, err = get()
	var unknownAuthority x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknownAuthority, "the CA in the spec did not sign the server's certificate")

	dp.Spec.KubernetesCluster.Credentials.CACert = encode(pemCertificate(server.Certificate()))
	user, err := get()
	require.NoError(t, err)
	assert.Equal(t, "test user", user)
}

func TestRESTConfigForServerURL(t *testing.T) {
	for server, want := range map[string]CredentialsReason{
		"https://k8s-api.example.com:6443":  "",
		"https://k8s-api.example.com":       "",
		"https://k8s-api.example.com:6443/": "",
		"https://10.0.0.1:6443":             "",
		"https://[::1]:6443":                "",
		"https://localhost/k8s/clusters/c1": "",
		"https://xn--bcher-kva.example":     "",

		"":                                  ReasonRequired,
		"http://k8s-api.example.com":        ReasonInsecureURL,
		"HTTP://k8s-api.example.com":        ReasonInsecureURL,
		"ftp://k8s-api.example.com":         ReasonInvalidURL,
		"k8s-api.example.com:6443":          ReasonInvalidURL,
		"k8s-api.example.com":               ReasonInvalidURL,
		"https://":                          ReasonInvalidURL,
		"https://:6443":                     ReasonInvalidURL,
		"https:k8s-api.example.com":         ReasonInvalidURL,
		"https://user:hunter2@host":         ReasonInvalidURL,
		"https://host?token=hunter2":        ReasonInvalidURL,
		"https://host?":                     ReasonInvalidURL,
		"https://host#hunter2":              ReasonInvalidURL,
		"https://host#":                     ReasonInvalidURL,
		"https://host/a/../b":               ReasonInvalidURL,
		"https://host/a/%2e%2e/b":           ReasonInvalidURL,
		"https://::1:6443":                  ReasonInvalidURL,
		"https://[::1":                      ReasonInvalidURL,
		"https://[host]:6443":               ReasonInvalidURL,
		"https://host:":                     ReasonInvalidURL,
		"https://host:0":                    ReasonInvalidURL,
		"https://host:99999":                ReasonInvalidURL,
		"https://host.example.com.":         ReasonInvalidURL,
		"https://bücher.example":            ReasonInvalidURL,
		"https://host\n":                    ReasonInvalidURL,
		" https://host":                     ReasonInvalidURL,
		"https://host/" + longText(maxURL):  ReasonTooLarge,
		"https://host/%zz":                  ReasonInvalidURL,
		"https://user:hunter2@[::1":         ReasonInvalidURL,
		"https://host:6443/a b":             ReasonInvalidURL,
		"https://<your-api-server>:6443":    ReasonInvalidURL,
		"https://b%C3%BCcher.example":       ReasonInvalidURL,
		"https://host%25":                   ReasonInvalidURL,
		"https://host;x":                    ReasonInvalidURL,
		"https://*.example.com":             ReasonInvalidURL,
		"https://a..b":                      ReasonInvalidURL,
		"https://-a.b":                      ReasonInvalidURL,
		"https://999.1.1.1":                 ReasonInvalidURL,
		"https://host/%0a":                  ReasonInvalidURL,
		"https://" + longText(64):           ReasonInvalidURL,
		"https://node_1.kind":               "",
		"https://[fe80::1%25eth0]:6443/zid": ReasonInvalidURL,
	} {
		t.Run(fmt.Sprintf("%.40q", server), func(t *testing.T) {
			dp := newDataPlane(t)
			dp.Spec.KubernetesCluster.Credentials.APIServerURL = server
			requireFault(t, dp, fieldServer, want, "hunter2")
		})
	}
}

func TestRESTConfigForCredentials(t *testing.T) {
	a, other := newAuthority(t), newECDSAKey(t)
	set := func(field *string, value string) { *field = value }
	type creds = v1alpha1.APIServerCredentials

	for name, test := range map[string]struct {
		edit   func(*creds)
		field  string
		reason CredentialsReason
		says   string
	}{
		"no CA": {
			edit:  func(c *creds) { c.CACert = "" },
			field: fieldCA, reason: ReasonRequired, says: "must be set",
		},
		"a certificate without key": {
			edit:  func(c *creds) { c.ClientKey = "" },
			field: fieldKey, reason: ReasonRequired, says: "must be set",
		},
		"a key without certificate": {
			edit:  func(c *creds) { c.ClientCert = "" },
			field: fieldCert, reason: ReasonRequired, says: "must be set",
		},
		"base64 wrapped with LF":   {edit: func(c *creds) { set(&c.CACert, wrap(c.CACert, "\n")) }},
		"base64 wrapped with CRLF": {edit: func(c *creds) { set(&c.ClientKey, wrap(c.ClientKey, "\r\n")) }},
		"not base64": {
			edit:  func(c *creds) { c.ClientKey = "hunter2!" },
			field: fieldKey, reason: ReasonInvalidBase64, says: "at byte 7",
		},
		"raw PEM pasted": {
			edit:  func(c *creds) { c.ClientCert = string(decode(c.ClientCert)) },
			field: fieldCert, reason: ReasonInvalidBase64, says: "the value is PEM itself; base64-encode it",
		},
		"base64 with spaces": {
			edit:  func(c *creds) { c.CACert = wrap(c.CACert, " ") },
			field: fieldCA, reason: ReasonInvalidBase64, says: "remove spaces and tabs",
		},
		"URL-safe base64": {
			edit: func(c *creds) {
				c.CACert = base64.URLEncoding.EncodeToString(append(decode(c.CACert), 0xff, 0xff, 0xfe, 0xff, 0xff))
			},
			field: fieldCA, reason: ReasonInvalidBase64, says: "URL-safe alphabet",
		},
		"unpadded base64": {
			edit:  func(c *creds) { c.CACert = base64.RawStdEncoding.EncodeToString(unaligned(decode(c.CACert))) },
			field: fieldCA, reason: ReasonInvalidBase64, says: "padding with = is missing",
		},
		"base64 twice": {
			edit:  func(c *creds) { c.ClientKey = encode([]byte(c.ClientKey)) },
			field: fieldKey, reason: ReasonInvalidPEM, says: "encoded twice",
		},
		"base64 of something else": {
			edit:  func(c *creds) { c.CACert = encode([]byte("hunter2")) },
			field: fieldCA, reason: ReasonInvalidPEM, says: "no PEM block CERTIFICATE",
		},
		"a certificate that is none": {
			edit:  func(c *creds) { c.ClientCert = encode(pemBlock("CERTIFICATE", []byte("hunter2"))) },
			field: fieldCert, reason: ReasonInvalidPEM, says: "can't be parsed",
		},
		"a CA that is none": {
			edit:  func(c *creds) { c.CACert = encode(pemBlock("CERTIFICATE", []byte("hunter2"))) },
			field: fieldCA, reason: ReasonInvalidPEM, says: "no certificate that can be parsed",
		},
		"one usable CA of two": {
			edit: func(c *creds) {
				c.CACert = encode(append(pemBlock("CERTIFICATE", []byte("junk")), decode(c.CACert)...))
			},
		},
		"several CAs with text between": {
			edit: func(c *creds) {
				c.CACert = encode([]byte("# first\n" + string(pemCertificate(a.cert)) + "# second\n" + string(decode(c.CACert)) + "end\n"))
			},
		},
		"a private key among the CAs": {
			edit:  func(c *creds) { c.CACert = encode(append(decode(c.CACert), decode(c.ClientKey)...)) },
			field: fieldCA, reason: ReasonInvalidPEM, says: "contains a private key",
		},
		"the key of another certificate": {
			edit:  func(c *creds) { c.ClientKey = encode(pemPKCS8(t, other)) },
			field: fieldKey, reason: ReasonKeyMismatch, says: "not the private key of clientCert",
		},
		"a key that is none": {
			edit:  func(c *creds) { c.ClientKey = encode(pemBlock("PRIVATE KEY", []byte("hunter2"))) },
			field: fieldKey, reason: ReasonInvalidPEM, says: "no RSA, ECDSA or Ed25519 private key",
		},
		"an encrypted PKCS #8 key": {
			edit:  func(c *creds) { c.ClientKey = encode(pemBlock("ENCRYPTED PRIVATE KEY", []byte("hunter2"))) },
			field: fieldKey, reason: ReasonEncryptedKey, says: "passphrase",
		},
		"an encrypted key of RFC 1421": {
			edit: func(c *creds) {
				c.ClientKey = encode(pem.EncodeToMemory(&pem.Block{
					Type: "RSA PRIVATE KEY", Bytes: []byte("hunter2"),
					Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"},
				}))
			},
			field: fieldKey, reason: ReasonEncryptedKey, says: "passphrase",
		},
		"a key of a kind that TLS has no use for": {
			edit:  func(c *creds) { c.ClientKey = encode(pemX25519(t)) },
			field: fieldKey, reason: ReasonInvalidPEM, says: "no RSA, ECDSA or Ed25519 private key",
		},
		"a key after a certificate": {
			edit: func(c *creds) { c.ClientKey = encode(append(decode(c.ClientCert), decode(c.ClientKey)...)) },
		},
		"a certificate with intermediates": {
			edit: func(c *creds) { c.ClientCert = encode(append(decode(c.ClientCert), pemCertificate(a.cert)...)) },
		},
		"PEM with CRLF": {
			edit: func(c *creds) {
				for _, value := range []*string{&c.CACert, &c.ClientCert, &c.ClientKey} {
					*value = encode(bytes.ReplaceAll(decode(*value), []byte("\n"), []byte("\r\n")))
				}
			},
		},
		"256 KiB in short lines": {
			edit: func(c *creds) {
				ca := decode(c.CACert)
				ca = append(ca, bytes.Repeat([]byte("#\n"), (maxPEM-len(ca))/2)...)
				c.CACert = wrap(encode(ca), "\r\n")
			},
		},
		"an expired client certificate": {
			edit: func(c *creds) {
				c.ClientCert = encode(pemCertificate(a.issue(other, expired)))
				c.ClientKey = encode(pemPKCS8(t, other))
			},
		},
		"too much of a CA": {
			edit:  func(c *creds) { c.CACert = longText(2 * maxPEM) },
			field: fieldCA, reason: ReasonTooLarge, says: "256 KiB",
		},
		"2 MB": {
			edit:  func(c *creds) { c.ClientKey = longText(2 << 20) },
			field: fieldKey, reason: ReasonTooLarge, says: "256 KiB",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := newDataPlane(t)
			test.edit(&dp.Spec.KubernetesCluster.Credentials)
			requireFault(t, dp, test.field, test.reason, "hunter2", test.says)
		})
	}
}

func TestRESTConfigForTakesEveryKindOfKey(t *testing.T) {
	a := newAuthority(t)
	for name, key := range newKeys(t) {
		t.Run(name, func(t *testing.T) {
			dp := newDataPlane(t)
			dp.Spec.KubernetesCluster.Credentials.ClientCert = encode(pemCertificate(a.issue(key.signer)))
			dp.Spec.KubernetesCluster.Credentials.ClientKey = encode(key.pem)
			requireFault(t, dp, "", "", "")
		})
	}
}

func TestRESTConfigForReportsAllFaultsAtOnce(t *testing.T) {
	dp := newDataPlane(t)
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.APIServerURL = "http://host"
	creds.CACert = ""
	creds.ClientCert, creds.ClientKey = creds.ClientKey, creds.ClientCert

	_, err := RESTConfigFor(dp)
	require.ErrorIs(t, err, ErrInvalidCredentials)
	assert.Regexp(t, `(?s)apiServerURL: InsecureURL.*caCert: Required.*clientCert: InvalidPEM.*swapped\?.*clientKey: InvalidPEM.*swapped\?`, err.Error())
}

func TestRESTConfigForWithoutCredentials(t *testing.T) {
	for name, dp := range map[string]*v1alpha1.DataPlane{"nil": nil, "later OpenChoreo": {}} {
		t.Run(name, func(t *testing.T) {
			config, err := RESTConfigFor(dp)
			assert.Nil(t, config)
			require.ErrorIs(t, err, ErrNoCredentials)
			assert.NotErrorIs(t, err, ErrInvalidCredentials)
		})
	}
}

// requireFault requires exactly this fault of RESTConfigFor, or success for "".
func requireFault(t *testing.T, dp *v1alpha1.DataPlane, field string, reason CredentialsReason, secret string, says ...string) {
	t.Helper()
	before := dp.DeepCopy()
	config, err := RESTConfigFor(dp)
	assert.Equal(t, before, dp, "must not be changed")
	if reason == "" {
		require.NoError(t, err)
		_, err = rest.HTTPClientFor(config)
		require.NoError(t, err, "client-go must be able to use what was accepted")
		return
	}
	require.Error(t, err)
	assert.Nil(t, config)
	assert.ErrorIs(t, err, ErrInvalidCredentials)
	var fault *CredentialsError
	require.ErrorAs(t, err, &fault)
	assert.Equal(t, field, fault.Field)
	assert.Equal(t, reason, fault.Reason)
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	assert.Len(t, joined.Unwrap(), 1, "one fault, one error")
	for _, want := range says {
		assert.Contains(t, err.Error(), want)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
			assert.NotContains(t, fmt.Sprintf(verb, e), secret)
		}
	}
	var urlErr *url.Error
	assert.NotErrorAs(t, err, &urlErr, "a url.Error holds the URL")
}
