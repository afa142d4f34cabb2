// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

const (
	fieldServer = "spec.kubernetesCluster.credentials.apiServerURL"
	fieldCA     = "spec.kubernetesCluster.credentials.caCert"
	fieldCert   = "spec.kubernetesCluster.credentials.clientCert"
	fieldKey    = "spec.kubernetesCluster.credentials.clientKey"
)

func TestRESTConfigForHoldsWhatTheSpecSays(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	before := dp.DeepCopy()

	config, err := helpers.RESTConfigFor(dp)
	require.NoError(t, err)

	creds := dp.Spec.KubernetesCluster.Credentials
	assert.Equal(t, "https://k8s-api.example.com:6443", config.Host)
	assert.Equal(t, creds.CACert, pki.Encode(config.CAData))
	assert.Equal(t, creds.ClientCert, pki.Encode(config.CertData))
	assert.Equal(t, creds.ClientKey, pki.Encode(config.KeyData))
	assert.False(t, config.Insecure)
	assert.Zero(t, config.Timeout, "a timeout would cut watches")
	assert.EqualValues(t, 50, config.QPS)
	assert.Equal(t, 100, config.Burst)

	config.KeyData[0] ^= 1
	assert.Equal(t, before, dp, "the caller owns the configuration; the object stays as it is")
}

// The configuration is used here, not only looked at: the server must be verified
// against the CA in the spec, and must see the client certificate of the spec.
func TestRESTConfigForConnectsWithMutualTLS(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	get := func() (string, error) {
		config, err := helpers.RESTConfigFor(dp)
		require.NoError(t, err)
		client, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		body, err := client.Discovery().RESTClient().Get().AbsPath("/whoami").DoRaw(t.Context())
		return string(body), err
	}
	user, err := get()
	require.NoError(t, err)
	assert.Equal(t, "alice", user)

	dp.Spec.KubernetesCluster.Credentials.CACert = dataplanetest.DataPlane("default", "production-dataplane").Spec.KubernetesCluster.Credentials.CACert
	_, err = get()
	var unknownAuthority x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknownAuthority, "the CA in the spec did not sign the server's certificate")
}

func TestRESTConfigForServerURL(t *testing.T) {
	for server, want := range map[string]helpers.CredentialsReason{
		"https://k8s-api.example.com:6443":  "",
		"https://k8s-api.example.com":       "",
		"https://k8s-api.example.com:6443/": "",
		"https://k8s-api.example.com.:6443": "",
		"https://10.0.0.1:6443":             "",
		"https://[::1]:6443":                "",
		"https://[::1]":                     "",
		"https://host:":                     "",
		"https://[fe80::1%25eth0]:6443":     "",
		"https://localhost/k8s/clusters/c1": "",
		"https://node_1.kind":               "",
		"https://bücher.example":            "",
		"https://host/a%20b/%c3%bc":         "",

		"":                           helpers.CredentialsReasonRequired,
		"http://k8s-api.example.com": helpers.CredentialsReasonInsecureURL,
		"HTTP://k8s-api.example.com": helpers.CredentialsReasonInsecureURL,
		"ftp://k8s-api.example.com":  helpers.CredentialsReasonInvalidURL,
		"k8s-api.example.com:6443":   helpers.CredentialsReasonInvalidURL,
		"k8s-api.example.com":        helpers.CredentialsReasonInvalidURL,
		"https://":                   helpers.CredentialsReasonInvalidURL,
		"https://:6443":              helpers.CredentialsReasonInvalidURL,
		"https://host:99999":         helpers.CredentialsReasonInvalidURL,
		"https://host:0":             helpers.CredentialsReasonInvalidURL,
		"https://host:6443:1":        helpers.CredentialsReasonInvalidURL,
		"https://fd00::1:6443":       helpers.CredentialsReasonInvalidURL,
		"https://::1":                helpers.CredentialsReasonInvalidURL,
		"https://ho]st":              helpers.CredentialsReasonInvalidURL,
		"https:k8s-api.example.com":  helpers.CredentialsReasonInvalidURL,
		"https://user:hunter2@host":  helpers.CredentialsReasonInvalidURL,
		"https://host?token=hunter2": helpers.CredentialsReasonInvalidURL,
		"https://host?":              helpers.CredentialsReasonInvalidURL,
		"https://host#hunter2":       helpers.CredentialsReasonInvalidURL,
		"https://host#":              helpers.CredentialsReasonInvalidURL,
		"https://[::1":               helpers.CredentialsReasonInvalidURL,
		"https://user:hunter2@[::1":  helpers.CredentialsReasonInvalidURL,
		"https://host/%zz":           helpers.CredentialsReasonInvalidURL,
		"https://host\n":             helpers.CredentialsReasonInvalidURL,
		" https://host":              helpers.CredentialsReasonInvalidURL,
		"https://host:6443/a b":      helpers.CredentialsReasonInvalidURL,
		"https://host\u00a0":         helpers.CredentialsReasonInvalidURL,
		"https://host/a%2Fb":         helpers.CredentialsReasonInvalidURL,
		"https://host/a%2fb":         helpers.CredentialsReasonInvalidURL,
		"https://<host>:6443":        helpers.CredentialsReasonInvalidURL,

		"https://host/" + longText(2<<10): helpers.CredentialsReasonTooLarge,
	} {
		t.Run(fmt.Sprintf("%.40q", server), func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "production-dataplane")
			dp.Spec.KubernetesCluster.Credentials.APIServerURL = server
			requireFault(t, dp, fieldServer, want, "hunter2")
		})
	}
}

func TestRESTConfigForNamesTheSchemeThatIsMissing(t *testing.T) {
	for _, server := range []string{"10.0.0.1:6443", "host:6443", "host", "[::1]:6443", "https//host", "https:/host", "://host"} {
		dp := dataplanetest.DataPlane("default", "production-dataplane")
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = server
		_, err := helpers.RESTConfigFor(dp)
		assert.EqualError(t, err, fieldServer+": InvalidURL: must start with https://", server)
	}
}

func TestRESTConfigForCredentials(t *testing.T) {
	a, other := pki.New(), pki.ECDSAKey()
	othersCert := pki.Certificates(a.Issue("alice", other))
	set := func(field *string, value string) { *field = value }
	type creds = v1alpha1.APIServerCredentials

	for name, test := range map[string]struct {
		edit   func(*creds)
		field  string
		reason helpers.CredentialsReason
		says   string
	}{
		"no CA": {
			edit:  func(c *creds) { c.CACert = "" },
			field: fieldCA, reason: helpers.CredentialsReasonRequired, says: "must be set",
		},
		"a certificate without key": {
			edit:  func(c *creds) { c.ClientKey = "" },
			field: fieldKey, reason: helpers.CredentialsReasonRequired, says: "must be set",
		},
		"a key without certificate": {
			edit:  func(c *creds) { c.ClientCert = "" },
			field: fieldCert, reason: helpers.CredentialsReasonRequired, says: "must be set",
		},
		"base64 wrapped with LF":   {edit: func(c *creds) { set(&c.CACert, wrap(c.CACert, "\n")) }},
		"base64 wrapped with CRLF": {edit: func(c *creds) { set(&c.ClientKey, wrap(c.ClientKey, "\r\n")) }},
		"not base64": {
			edit:  func(c *creds) { c.ClientKey = "hunter2!" },
			field: fieldKey, reason: helpers.CredentialsReasonInvalidBase64, says: "at byte 7",
		},
		"raw PEM pasted": {
			edit:  func(c *creds) { c.ClientCert = string(pki.Decode(c.ClientCert)) },
			field: fieldCert, reason: helpers.CredentialsReasonInvalidBase64, says: "the value is PEM itself; base64-encode it",
		},
		"base64 with spaces": {
			edit:  func(c *creds) { c.CACert = wrap(c.CACert, " ") },
			field: fieldCA, reason: helpers.CredentialsReasonInvalidBase64, says: "remove spaces and tabs",
		},
		"URL-safe base64": {
			edit: func(c *creds) {
				c.CACert = base64.URLEncoding.EncodeToString(append(pki.Decode(c.CACert), 0xff, 0xff, 0xfe, 0xff, 0xff))
			},
			field: fieldCA, reason: helpers.CredentialsReasonInvalidBase64, says: "URL-safe alphabet",
		},
		"unpadded base64": {
			edit: func(c *creds) {
				c.CACert = base64.RawStdEncoding.EncodeToString(unaligned(pki.Decode(c.CACert)))
			},
			field: fieldCA, reason: helpers.CredentialsReasonInvalidBase64, says: "padding with = is missing",
		},
		"base64 twice": {
			edit:  func(c *creds) { c.ClientKey = pki.Encode([]byte(c.ClientKey)) },
			field: fieldKey, reason: helpers.CredentialsReasonInvalidPEM, says: "encoded twice",
		},
		"base64 of something else": {
			edit:  func(c *creds) { c.CACert = pki.Encode([]byte("hunter2")) },
			field: fieldCA, reason: helpers.CredentialsReasonInvalidPEM, says: "no PEM block CERTIFICATE",
		},
		"a block that is no certificate": {
			edit:  func(c *creds) { c.ClientCert = pki.Encode(pki.Block("CERTIFICATE", []byte("hunter2"))) },
			field: fieldCert, reason: helpers.CredentialsReasonInvalidPEM, says: "can't be used",
		},
		"a CA block that is no certificate": {
			edit:  func(c *creds) { c.CACert = pki.Encode(pki.Block("CERTIFICATE", []byte("hunter2"))) },
			field: fieldCA, reason: helpers.CredentialsReasonInvalidPEM, says: "no certificate that can be used",
		},
		"one usable CA of two": {
			edit: func(c *creds) {
				c.CACert = pki.Encode(append(pki.Block("CERTIFICATE", []byte("junk")), pki.Decode(c.CACert)...))
			},
		},
		"several CAs with text between": {
			edit: func(c *creds) {
				c.CACert = pki.Encode([]byte("# first\n" + string(pki.Certificates(a.Cert)) + "# second\n" + string(pki.Decode(c.CACert)) + "end\n"))
			},
		},
		"a private key among the CAs": {
			edit: func(c *creds) {
				c.CACert = pki.Encode(append(pki.Decode(c.CACert), pki.Decode(c.ClientKey)...))
			},
			field: fieldCA, reason: helpers.CredentialsReasonInvalidPEM, says: "contains a private key",
		},
		"the key of another certificate": {
			edit:  func(c *creds) { c.ClientKey = pki.Encode(pki.PKCS8(other)) },
			field: fieldKey, reason: helpers.CredentialsReasonKeyMismatch, says: "not the private key of the client certificate",
		},
		"a key that is none": {
			edit:  func(c *creds) { c.ClientKey = pki.Encode(pki.Block("PRIVATE KEY", []byte("hunter2"))) },
			field: fieldKey, reason: helpers.CredentialsReasonInvalidPEM, says: "no RSA, ECDSA or Ed25519 private key",
		},
		"an encrypted PKCS #8 key": {
			edit: func(c *creds) {
				c.ClientKey = pki.Encode(pki.Block("ENCRYPTED PRIVATE KEY", []byte("hunter2")))
			},
			field: fieldKey, reason: helpers.CredentialsReasonEncryptedKey, says: "passphrase",
		},
		"an encrypted key of RFC 1421": {
			edit: func(c *creds) {
				c.ClientKey = pki.Encode(pem.EncodeToMemory(&pem.Block{
					Type: "RSA PRIVATE KEY", Bytes: []byte("hunter2"),
					Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"},
				}))
			},
			field: fieldKey, reason: helpers.CredentialsReasonEncryptedKey, says: "passphrase",
		},
		"a key of a kind that TLS has no use for": {
			edit:  func(c *creds) { c.ClientKey = pki.Encode(x25519(t)) },
			field: fieldKey, reason: helpers.CredentialsReasonInvalidPEM, says: "no RSA, ECDSA or Ed25519 private key",
		},
		"a key after a certificate": {
			edit: func(c *creds) {
				c.ClientKey = pki.Encode(append(pki.Decode(c.ClientCert), pki.Decode(c.ClientKey)...))
			},
		},
		"a certificate with intermediates": {
			edit: func(c *creds) {
				c.ClientCert = pki.Encode(append(pki.Decode(c.ClientCert), pki.Certificates(a.Cert)...))
			},
		},
		"a client certificate after a byte order mark": {
			edit:  func(c *creds) { c.ClientCert = pki.Encode([]byte(bom + string(pki.Decode(c.ClientCert)))) },
			field: fieldCert, reason: helpers.CredentialsReasonInvalidPEM, says: "without indentation or byte order mark",
		},
		"a client certificate and an intermediate after a byte order mark": {
			edit: func(c *creds) {
				c.ClientCert = pki.Encode([]byte(bom + string(pki.Decode(c.ClientCert)) + string(pki.Certificates(a.Cert))))
			},
			field: fieldCert, reason: helpers.CredentialsReasonInvalidPEM, says: "begins with a certificate that can't be used",
		},
		"a client certificate glued to an intermediate": {
			edit: func(c *creds) {
				c.ClientCert = pki.Encode(glue(pki.Decode(c.ClientCert), pki.Certificates(a.Cert)))
			},
			field: fieldCert, reason: helpers.CredentialsReasonInvalidPEM, says: "a line of their own",
		},
		"a damaged intermediate": {
			edit: func(c *creds) {
				c.ClientCert = pki.Encode(append(pki.Decode(c.ClientCert), corrupt(pki.Certificates(a.Cert))...))
			},
		},
		"a corrupt key": {
			edit:  func(c *creds) { c.ClientKey = pki.Encode(corrupt(pki.Decode(c.ClientKey))) },
			field: fieldKey, reason: helpers.CredentialsReasonInvalidPEM, says: "the text between must be base64",
		},
		"an indented key": {
			edit:  func(c *creds) { c.ClientKey = pki.Encode(indent(pki.Decode(c.ClientKey))) },
			field: fieldKey, reason: helpers.CredentialsReasonInvalidPEM, says: "without indentation",
		},
		"a corrupt private key among the CAs": {
			edit: func(c *creds) {
				c.CACert = pki.Encode(append(pki.Decode(c.CACert), corrupt(pki.Decode(c.ClientKey))...))
			},
			field: fieldCA, reason: helpers.CredentialsReasonInvalidPEM, says: "contains a private key",
		},
		"a private key in a comment among the CAs": {
			edit: func(c *creds) {
				c.CACert = pki.Encode(slices.Concat([]byte("# never put -----BEGIN PRIVATE KEY----- here\n"), pki.Decode(c.CACert),
					[]byte("# -----BEGIN EC PRIVATE KEY-----\n")))
			},
		},
		"an indented private key among the CAs": {
			edit: func(c *creds) {
				c.CACert = pki.Encode(append(pki.Decode(c.CACert), indent(pki.Decode(c.ClientKey))...))
			},
			field: fieldCA, reason: helpers.CredentialsReasonInvalidPEM, says: "contains a private key",
		},
		"a private key glued to a CA": {
			edit:  func(c *creds) { c.CACert = pki.Encode(glue(pki.Decode(c.CACert), pki.Decode(c.ClientKey))) },
			field: fieldCA, reason: helpers.CredentialsReasonInvalidPEM, says: "contains a private key",
		},
		"the client certificate after its CA": {
			edit: func(c *creds) {
				c.ClientCert = pki.Encode(slices.Concat(pki.Certificates(a.Cert), othersCert))
				c.ClientKey = pki.Encode(pki.PKCS8(other))
			},
			field: fieldCert, reason: helpers.CredentialsReasonKeyMismatch, says: "must begin with the certificate of clientKey, which is number 2 in it",
		},
		"the client certificate in the place of the CA": {
			edit: func(c *creds) {
				c.CACert, c.ClientCert = pki.Encode(othersCert), c.CACert
				c.ClientKey = pki.Encode(pki.PKCS8(other))
			},
			field: fieldCert, reason: helpers.CredentialsReasonKeyMismatch, says: "the certificate of clientKey is in caCert: are caCert and clientCert swapped?",
		},
		"PEM with CRLF": {
			edit: func(c *creds) {
				for _, value := range []*string{&c.CACert, &c.ClientCert, &c.ClientKey} {
					*value = pki.Encode(bytes.ReplaceAll(pki.Decode(*value), []byte("\n"), []byte("\r\n")))
				}
			},
		},
		"much text around a CA, wrapped": {
			edit: func(c *creds) {
				ca := append(bytes.Repeat([]byte("#\n"), 150<<10), pki.Decode(c.CACert)...)
				c.CACert = wrap(pki.Encode(ca), "\r\n")
			},
		},
		"an expired client certificate": {
			edit: func(c *creds) {
				c.ClientCert = pki.Encode(pki.Certificates(a.Issue("alice", other, pki.Expired)))
				c.ClientKey = pki.Encode(pki.PKCS8(other))
			},
		},
		"too long": {
			edit:  func(c *creds) { c.ClientKey = longText(512<<10 + 1) },
			field: fieldKey, reason: helpers.CredentialsReasonTooLarge, says: "512 KiB",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "production-dataplane")
			test.edit(&dp.Spec.KubernetesCluster.Credentials)
			requireFault(t, dp, test.field, test.reason, "hunter2", test.says)
		})
	}
}

func TestRESTConfigForTakesEveryKindOfKey(t *testing.T) {
	a := pki.New()
	for name, key := range privateKeys(t) {
		t.Run(name, func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "production-dataplane")
			dp.Spec.KubernetesCluster.Credentials.ClientCert = pki.Encode(pki.Certificates(a.Issue("alice", key.Signer)))
			dp.Spec.KubernetesCluster.Credentials.ClientKey = pki.Encode(key.PEM)
			requireFault(t, dp, "", "", "")
		})
	}
}

func TestRESTConfigForReportsAllFaultsAtOnce(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.APIServerURL = "http://host"
	creds.CACert = ""
	creds.ClientCert, creds.ClientKey = creds.ClientKey, creds.ClientCert

	_, err := helpers.RESTConfigFor(dp)
	require.ErrorIs(t, err, helpers.ErrInvalidCredentials)
	assert.Regexp(t, `(?s)apiServerURL: InsecureURL.*caCert: Required.*clientCert: InvalidPEM.*swapped\?.*clientKey: InvalidPEM.*swapped\?`, err.Error())
}

func TestRESTConfigForWithoutCredentials(t *testing.T) {
	config, err := helpers.RESTConfigFor(&v1alpha1.DataPlane{})
	assert.Nil(t, config)
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
	assert.NotErrorIs(t, err, helpers.ErrInvalidCredentials)
	assert.ErrorContains(t, err, "GatewayConfigFor")

	_, err = helpers.RESTConfigFor(nil)
	require.EqualError(t, err, "nil data plane")
}

func TestRESTConfigForNamesAFieldThatWasRedacted(t *testing.T) {
	_, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "production-dataplane").Redacted())
	require.ErrorIs(t, err, helpers.ErrSecretsDropped)
	require.ErrorContains(t, err, "spec.kubernetesCluster.credentials.clientKey: ")
}

// BenchmarkRESTConfigFor against decoding and parsing the same material.
func BenchmarkRESTConfigFor(b *testing.B) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	b.Run("floor", func(b *testing.B) {
		creds := dp.Spec.KubernetesCluster.Credentials
		for b.Loop() {
			ca, err := base64.StdEncoding.DecodeString(creds.CACert)
			require.NoError(b, err)
			cert, err := base64.StdEncoding.DecodeString(creds.ClientCert)
			require.NoError(b, err)
			key, err := base64.StdEncoding.DecodeString(creds.ClientKey)
			require.NoError(b, err)
			block, _ := pem.Decode(ca)
			_, err = x509.ParseCertificate(block.Bytes)
			require.NoError(b, err)
			_, err = tls.X509KeyPair(cert, key)
			require.NoError(b, err)
		}
	})
	b.Run("sdk", func(b *testing.B) {
		for b.Loop() {
			_, err := helpers.RESTConfigFor(dp)
			require.NoError(b, err)
		}
	})
}

// requireFault requires exactly this fault of helpers.RESTConfigFor, or success for "".
func requireFault(t *testing.T, dp *v1alpha1.DataPlane, field string, reason helpers.CredentialsReason, secret string, says ...string) {
	t.Helper()
	before := dp.DeepCopy()
	config, err := helpers.RESTConfigFor(dp)
	assert.Equal(t, before, dp, "must not be changed")
	if reason == "" {
		require.NoError(t, err)
		_, err = rest.HTTPClientFor(config)
		require.NoError(t, err, "client-go must be able to use what was accepted")
		return
	}
	require.Error(t, err)
	assert.Nil(t, config)
	assert.ErrorIs(t, err, helpers.ErrInvalidCredentials)
	var fault *helpers.CredentialsError
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
