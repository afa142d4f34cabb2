// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

const (
	fieldServer = "spec.kubernetesCluster.credentials.apiServerURL"
	fieldCA     = "spec.kubernetesCluster.credentials.caCert"
	fieldCert   = "spec.kubernetesCluster.credentials.clientCert"
	fieldKey    = "spec.kubernetesCluster.credentials.clientKey"
)

const bom = "\ufeff"

// glue joins two PEM blocks without the line break between them.
func glue(one, other []byte) []byte { return append(bytes.TrimSpace(one), other...) }

func indent(block []byte) []byte {
	return append([]byte("  "), bytes.ReplaceAll(bytes.TrimSpace(block), []byte("\n"), []byte("\n  "))...)
}

// corrupt makes the base64 of a PEM block invalid.
func corrupt(block []byte) []byte {
	return bytes.Replace(block, []byte("-----\n"), []byte("-----\n?"), 1)
}

func retyped(certificate []byte, kind string) []byte {
	return bytes.ReplaceAll(certificate, []byte(" CERTIFICATE-"), []byte(" "+kind+"-"))
}

func withHeader(certificate []byte) []byte {
	return bytes.Replace(certificate, []byte("-----\n"), []byte("-----\nSubject: x\n\n"), 1)
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
		"a block without a certificate": {
			edit:  func(c *creds) { c.ClientCert = pki.Encode(pki.Block("CERTIFICATE", []byte("hunter2"))) },
			field: fieldCert, reason: helpers.CredentialsReasonInvalidPEM, says: "can't be used",
		},
		"a CA block without a certificate": {
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
		"a key of a kind that TLS doesn't use": {
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
		"the client certificate instead of the CA": {
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

// requireFault requires that helpers.RESTConfigFor returns exactly this fault, or none for reason "".
func requireFault(t *testing.T, dp *v1alpha1.DataPlane, field string, reason helpers.CredentialsReason, secret string, says ...string) {
	t.Helper()
	before := dp.DeepCopy()
	config, err := helpers.RESTConfigFor(dp)
	assert.Equal(t, before, dp, "must not be changed")
	if reason == "" {
		require.NoError(t, err)
		_, err = rest.HTTPClientFor(config)
		require.NoError(t, err, "client-go must be able to use accepted credentials")
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

func TestFingerprint(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	fingerprint := helpers.Fingerprint(dp)
	assert.Regexp(t, "^[0-9a-f]{64}$", fingerprint)

	same := dp.DeepCopy()
	same.Name, same.UID, same.Generation = "other", "uid-2", 9
	same.Spec.Gateway.PublicVirtualHost = "changed"
	assert.Equal(t, fingerprint, helpers.Fingerprint(same), "nothing else counts")

	seen := map[string]bool{fingerprint: true}
	for _, edit := range []func(*v1alpha1.APIServerCredentials){
		func(c *v1alpha1.APIServerCredentials) { c.APIServerURL += "/" },
		func(c *v1alpha1.APIServerCredentials) { c.CACert += "\n" },
		func(c *v1alpha1.APIServerCredentials) { c.ClientCert += "\n" },
		func(c *v1alpha1.APIServerCredentials) { c.ClientKey += "\n" },
		// One character moves from one value to the next.
		func(c *v1alpha1.APIServerCredentials) {
			c.CACert, c.ClientCert = c.CACert[:len(c.CACert)-1], c.CACert[len(c.CACert)-1:]+c.ClientCert
		},
	} {
		changed := dp.DeepCopy()
		edit(&changed.Spec.KubernetesCluster.Credentials)
		assert.False(t, seen[helpers.Fingerprint(changed)])
		seen[helpers.Fingerprint(changed)] = true
	}
	assert.Empty(t, helpers.Fingerprint(nil))
	assert.Empty(t, helpers.Fingerprint(&v1alpha1.DataPlane{}))
	assert.Empty(t, helpers.Fingerprint(dp.Redacted()), "another certificate and key would have the same")
}
