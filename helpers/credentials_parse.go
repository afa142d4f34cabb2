// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

const (
	fieldCredentials = "spec.kubernetesCluster.credentials"

	fieldServer = fieldCredentials + ".apiServerURL"
	fieldCA     = fieldCredentials + ".caCert"
	fieldCert   = fieldCredentials + ".clientCert"
	fieldKey    = fieldCredentials + ".clientKey"
)

const (
	maxURL    = 2 << 10
	maxBase64 = 512 << 10

	blockCertificate = "CERTIFICATE"
	blockPrivateKey  = "PRIVATE KEY" // also the end of RSA, EC and ENCRYPTED PRIVATE KEY
)

// decodeCredentials returns a fault or nil for each of the four fields, in their order.
// The configuration is only good if all are nil.
func decodeCredentials(creds v1alpha1.APIServerCredentials) (*rest.Config, []error) {
	ca, caErr := decodeField(fieldCA, creds.CACert)
	cert, certErr := decodeField(fieldCert, creds.ClientCert)
	key, keyErr := decodeField(fieldKey, creds.ClientKey)
	if caErr == nil {
		caErr = checkCA(ca)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		certErr, keyErr = cmp.Or(certErr, checkCert(cert)), cmp.Or(keyErr, checkKey(key))
		if certErr == nil && keyErr == nil {
			keyErr = fault(fieldKey, CredentialsReasonKeyMismatch,
				"is not the private key of the client certificate: both must come from the same key pair")
		}
	}
	return &rest.Config{
		Host:            creds.APIServerURL,
		QPS:             50,
		Burst:           100,
		TLSClientConfig: rest.TLSClientConfig{CAData: ca, CertData: cert, KeyData: key},
	}, []error{checkURL(fieldServer, creds.APIServerURL), caErr, certErr, keyErr}
}

// fault returns a CredentialsError. The explanation must not contain input.
func fault(field string, reason CredentialsReason, explanation string) error {
	return &CredentialsError{Field: field, Reason: reason, Err: errors.New(explanation)}
}

// checkURL refuses what client-go would ignore (a query), send as credentials (a user
// name), or send in clear text. It leaves the rest to net/url and the network.
func checkURL(field, text string) error {
	u, err := url.Parse(text)
	unprintable := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	switch {
	case text == "":
		return fault(field, CredentialsReasonRequired, "must be set, to a URL such as https://host:6443")
	case len(text) > maxURL:
		return fault(field, CredentialsReasonTooLarge, "must not be longer than 2 KiB")
	case strings.ContainsFunc(text, unprintable):
		return fault(field, CredentialsReasonInvalidURL, "must not contain spaces or control characters")
	case err != nil:
		return fault(field, CredentialsReasonInvalidURL, "can't be parsed; want a URL such as https://host:6443")
	case u.Scheme == "http":
		return fault(field, CredentialsReasonInsecureURL, "must use https: credentials are sent only over TLS")
	case u.Scheme != "https":
		return fault(field, CredentialsReasonInvalidURL, "must start with https://")
	case u.User != nil:
		return fault(field, CredentialsReasonInvalidURL, "must not contain a user name or password")
	case strings.ContainsAny(text, "?#"):
		return fault(field, CredentialsReasonInvalidURL, "must not contain a query or fragment")
	case u.Hostname() == "":
		return fault(field, CredentialsReasonInvalidURL, "must name a host")
	}
	if _, err := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16); err != nil {
		return fault(field, CredentialsReasonInvalidURL, "must not have a port above 65535")
	}
	return nil
}

// decodeField is as strict as OpenChoreo's controller, which accepts line breaks but
// neither spaces nor another alphabet.
func decodeField(field, value string) ([]byte, error) {
	switch {
	case value == "":
		return nil, fault(field, CredentialsReasonRequired, "must be set")
	case len(value) > maxBase64:
		return nil, fault(field, CredentialsReasonTooLarge, "must not be longer than 512 KiB of base64")
	}
	decoded, err := base64.StdEncoding.DecodeString(value)
	if err == nil {
		return decoded, nil
	}
	explanation := "is not base64"
	var offset base64.CorruptInputError
	if errors.As(err, &offset) {
		explanation += fmt.Sprintf(" at byte %d", int64(offset))
	}
	_, unpadded := base64.RawStdEncoding.DecodeString(value)
	switch {
	case strings.Contains(value, pemBegin):
		explanation += ": the value is PEM itself; base64-encode it"
	case strings.ContainsAny(value, " \t"):
		explanation += ": remove spaces and tabs"
	case strings.ContainsAny(value, "-_"):
		explanation += ": the value is in the URL-safe alphabet; use the standard one, with + and /"
	case unpadded == nil:
		explanation += ": the padding with = is missing"
	}
	return nil, fault(field, CredentialsReasonInvalidBase64, explanation)
}

const pemBegin = "-----BEGIN "

// pemBlocks returns a block for each BEGIN in data, in order. Its Bytes are nil if
// encoding/pem, and so crypto/tls and crypto/x509, skips it as damaged.
func pemBlocks(data []byte) []*pem.Block {
	var blocks []*pem.Block
	for len(data) > 0 {
		block, remaining := pem.Decode(data)
		if block == nil {
			remaining = nil
		}
		read := string(data[:len(data)-len(remaining)])
		for _, begun := range strings.Split(read, pemBegin)[1:] {
			kind, _, _ := strings.Cut(begun, "-----")
			blocks = append(blocks, &pem.Block{Type: kind})
		}
		if block != nil {
			blocks[len(blocks)-1] = block // what precedes it was skipped
		}
		data = remaining
	}
	return blocks
}

func isPrivateKey(block *pem.Block) bool { return strings.HasSuffix(block.Type, blockPrivateKey) }

// isUnusual reports a certificate as some OpenSSL commands write it: TRUSTED CERTIFICATE,
// X509 CERTIFICATE, or with headers. crypto/x509 skips it; crypto/tls accepts the headers.
func isUnusual(block *pem.Block) bool {
	return strings.HasSuffix(block.Type, blockCertificate) && (block.Type != blockCertificate || len(block.Headers) > 0)
}

// certificates returns all certificates in a field, in order, and nil for each that Go
// can't use.
func certificates(field string, data []byte) []*x509.Certificate {
	var list []*x509.Certificate
	for _, block := range pemBlocks(data) {
		if !strings.HasSuffix(block.Type, blockCertificate) {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != blockCertificate || field == fieldCA && isUnusual(block) {
			certificate = nil
		}
		list = append(list, certificate)
	}
	return list
}

// onlyPEM returns the blocks of data that keep accepts, without headers.
func onlyPEM(data []byte, keep func(*pem.Block) bool) []byte {
	var kept []byte
	for _, block := range pemBlocks(data) {
		if block.Bytes != nil && keep(block) {
			kept = append(kept, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	return kept
}

const keyDisclosed = "contains a private key, which does not belong there: consider that key disclosed"

func invalidPEM(field, explanation string) error {
	return fault(field, CredentialsReasonInvalidPEM, explanation)
}

// checkCA accepts what client-go can use: at least one certificate. Unlike client-go, it
// refuses a private key in this field, which isn't secret.
func checkCA(data []byte) error {
	switch {
	case slices.ContainsFunc(pemBlocks(data), isPrivateKey):
		return invalidPEM(fieldCA, keyDisclosed)
	case x509.NewCertPool().AppendCertsFromPEM(data):
		return nil
	case len(certificates(fieldCA, data)) == 0:
		return invalidPEM(fieldCA, "contains no PEM block CERTIFICATE"+pemHint(data))
	}
	return invalidPEM(fieldCA, "contains no certificate that can be used"+pemHint(data))
}

// checkCert returns what is wrong with a client certificate on its own.
func checkCert(data []byte) error {
	chain := certificates(fieldCert, data)
	switch {
	case len(chain) == 0 && slices.ContainsFunc(pemBlocks(data), isPrivateKey):
		return invalidPEM(fieldCert, "contains a private key and no certificate: are certificate and key swapped?")
	case len(chain) == 0:
		return invalidPEM(fieldCert, "contains no PEM block CERTIFICATE"+pemHint(data))
	case chain[0] == nil:
		return invalidPEM(fieldCert, "begins with a certificate that can't be used"+pemHint(data))
	}
	return nil
}

// checkKey returns what is wrong with a private key on its own.
func checkKey(data []byte) error {
	blocks := pemBlocks(data)
	switch i := slices.IndexFunc(blocks, isPrivateKey); {
	case i < 0 && len(certificates(fieldKey, data)) > 0:
		return invalidPEM(fieldKey, "contains a certificate and no private key: are certificate and key swapped?")
	case i < 0:
		return invalidPEM(fieldKey, "contains no PEM block PRIVATE KEY"+pemHint(data))
	// PKCS #8 says so in the type, RFC 1421 in a header.
	case strings.HasPrefix(blocks[i].Type, "ENCRYPTED"), strings.Contains(blocks[i].Headers["Proc-Type"], "ENCRYPTED"):
		return fault(fieldKey, CredentialsReasonEncryptedKey, "is protected by a passphrase; store the key without one")
	case !parsesAsKey(blocks[i].Bytes):
		return invalidPEM(fieldKey, "contains no RSA, ECDSA or Ed25519 private key in PKCS #1, PKCS #8 or SEC 1 that can be parsed"+pemHint(data))
	}
	return nil
}

// parsesAsKey accepts the same keys as crypto/tls.
func parsesAsKey(der []byte) bool {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		_, signs := key.(crypto.Signer)
		return signs
	}
	_, pkcs1 := x509.ParsePKCS1PrivateKey(der)
	_, sec1 := x509.ParseECPrivateKey(der)
	return pkcs1 == nil || sec1 == nil
}

// pemHint returns the probable cause of unreadable PEM, to end a sentence, or "".
func pemHint(data []byte) string {
	twice, err := base64.StdEncoding.DecodeString(string(data))
	switch {
	case err == nil && bytes.Contains(twice, []byte(pemBegin)):
		return ": the value is base64-encoded twice"
	case slices.ContainsFunc(pemBlocks(data), func(block *pem.Block) bool { return block.Bytes == nil }):
		return ": BEGIN and END must each have a line of their own, without indentation or byte order mark," +
			" and the text between must be base64"
	case slices.ContainsFunc(pemBlocks(data), isUnusual):
		return ": a certificate must be in a PEM block CERTIFICATE without headers"
	}
	return ""
}
