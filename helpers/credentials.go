// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/serverurl"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

const (
	fieldCredentials = "spec.kubernetesCluster.credentials"

	fieldServer = fieldCredentials + ".apiServerURL"
	fieldCA     = fieldCredentials + ".caCert"
	fieldCert   = fieldCredentials + ".clientCert"
	fieldKey    = fieldCredentials + ".clientKey"

	fieldClientCA      = "spec.clusterAgent.clientCA"
	fieldClientCAValue = fieldClientCA + ".value"
)

// material is decoded credentials.
type material struct {
	server        string
	ca, cert, key *decoded
}

func decodeCredentials(creds v1alpha1.APIServerCredentials) material {
	return material{
		server: creds.APIServerURL,
		ca:     decode(fieldCA, creds.CACert), cert: decode(fieldCert, creds.ClientCert), key: decode(fieldKey, creds.ClientKey),
	}
}

// faults returns a fault or nil for each of the four fields, in their order.
func (m material) faults() []error {
	certErr, keyErr := m.pairFaults()
	return []error{checkServer(m.server), cmp.Or(m.ca.err, checkCA(m.ca)), certErr, keyErr}
}

func (m material) pairFaults() (certErr, keyErr error) {
	if !slices.ContainsFunc(m.key.blocks, isLongKey) {
		if _, err := tls.X509KeyPair(m.cert.data, m.key.data); err == nil {
			return checkPair(m.cert)
		}
	}
	certErr, keyErr = cmp.Or(m.cert.err, checkCert(m.cert)), cmp.Or(m.key.err, checkKey(m.key))
	if certErr == nil && keyErr == nil {
		return mismatch(m)
	}
	return certErr, keyErr
}

// requireCredentials returns an error if dp has no credentials, or redacted ones.
func requireCredentials(dp *v1alpha1.DataPlane) error {
	switch {
	case dp == nil:
		return dataplane.ErrNil
	case !hasCredentials(dp) && dp.Spec.ClusterAgent != nil:
		return fmt.Errorf("%w; it is reached through the cluster gateway: use helpers.ConfigFor", ErrNoCredentials)
	case !hasCredentials(dp):
		return fmt.Errorf("%w, and no spec.clusterAgent", ErrNoCredentials)
	}
	for _, secret := range credentialFields(dp)[1:] {
		if secret.value == v1alpha1.Redacted {
			return fmt.Errorf("%s: %w", secret.path, ErrSecretsDropped)
		}
	}
	return nil
}

type fieldValue struct{ path, value string }

// credentialFields returns the URL, and then the fields that may hold a secret.
func credentialFields(dp *v1alpha1.DataPlane) []fieldValue {
	creds := &dp.Spec.KubernetesCluster.Credentials
	return []fieldValue{
		{fieldServer, creds.APIServerURL}, {fieldCA, creds.CACert}, {fieldCert, creds.ClientCert}, {fieldKey, creds.ClientKey},
	}
}

func hasCredentials(dp *v1alpha1.DataPlane) bool {
	return dp != nil && dp.Spec.KubernetesCluster.Credentials != v1alpha1.APIServerCredentials{}
}

// Fingerprint returns a SHA-256 hash, in hexadecimal, of the API server's URL and the
// credentials of dp. Two DataPlanes have the same fingerprint if and only if these four values
// are the same. The hash doesn't reveal them, so it may be logged. It is "" if dp has no
// credentials, or if its secrets were dropped.
func Fingerprint(dp *v1alpha1.DataPlane) string {
	if requireCredentials(dp) != nil {
		return ""
	}
	hash := sha256.New()
	for _, field := range credentialFields(dp) {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(field.value), field.value) // without the length, values could run together
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// fault returns a CredentialsError. The explanation must not contain input.
func fault(field string, reason CredentialsReason, explanation string) error {
	return &CredentialsError{Field: field, Reason: reason, Err: errors.New(explanation)}
}

func checkServer(text string) error {
	_, err := serverurl.ParseAPIServer(text)
	var reason CredentialsReason
	switch {
	case err == nil:
		return nil
	case errors.Is(err, serverurl.ErrMissing):
		reason = CredentialsReasonRequired
	case errors.Is(err, serverurl.ErrTooLong):
		reason = CredentialsReasonTooLarge
	case errors.Is(err, serverurl.ErrInsecure):
		reason = CredentialsReasonInsecureURL
	default:
		reason = CredentialsReasonInvalidURL
	}
	return &CredentialsError{Field: fieldServer, Reason: reason, Err: err}
}

const keyDisclosed = "contains a private key, which does not belong there: consider that key disclosed"

func invalidPEM(field, explanation string) error {
	return fault(field, CredentialsReasonInvalidPEM, explanation)
}

// checkCA accepts what client-go can use: at least one certificate. Unlike client-go, it
// refuses a private key in this field, which isn't secret.
func checkCA(ca *decoded) error {
	if slices.ContainsFunc(ca.blocks, isPrivateKey) {
		return invalidPEM(fieldCA, keyDisclosed)
	}
	return checkPool(ca)
}

// checkPool accepts PEM that crypto/x509 can read at least one certificate from.
func checkPool(ca *decoded) error {
	usable := func(c certificate) bool { return c.parsed != nil }
	switch {
	case len(ca.certificates) == 0:
		return invalidPEM(ca.field, "contains no PEM block CERTIFICATE"+ca.hint())
	case !slices.ContainsFunc(ca.certificates, usable):
		return invalidPEM(ca.field, "contains no certificate that can be used"+ca.hint())
	}
	return nil
}

// checkCert checks a client certificate alone, without its key.
func checkCert(cert *decoded) error {
	switch {
	case len(cert.certificates) == 0 && slices.ContainsFunc(cert.blocks, isPrivateKey):
		return invalidPEM(fieldCert, "contains a private key and no certificate: are certificate and key swapped?")
	case len(cert.certificates) == 0:
		return invalidPEM(fieldCert, "contains no PEM block CERTIFICATE"+cert.hint())
	case cert.certificates[0].parsed == nil:
		return invalidPEM(fieldCert, "begins with a certificate that can't be used"+cert.hint())
	}
	return nil
}

// checkKey checks a private key alone, without its certificate.
func checkKey(key *decoded) error {
	switch i := slices.IndexFunc(key.blocks, isPrivateKey); {
	case i < 0 && len(key.certificates) > 0:
		return invalidPEM(fieldKey, "contains a certificate and no private key: are certificate and key swapped?")
	case i < 0:
		return invalidPEM(fieldKey, "contains no PEM block PRIVATE KEY"+key.hint())
	// PKCS #8 marks encryption in the block's type, RFC 1421 in a header.
	case strings.HasPrefix(key.blocks[i].Type, "ENCRYPTED"), strings.Contains(key.blocks[i].Headers["Proc-Type"], "ENCRYPTED"):
		return fault(fieldKey, CredentialsReasonEncryptedKey, "is protected by a passphrase; store the key without one")
	case slices.ContainsFunc(key.blocks, isLongKey):
		return invalidPEM(fieldKey, fmt.Sprintf("is longer than an RSA key of %d bits, the longest that TLS takes", maxRSABits))
	case parseKey(key.blocks[i].Bytes) == nil:
		return invalidPEM(fieldKey, "contains no RSA, ECDSA or Ed25519 private key in PKCS #1, PKCS #8 or SEC 1 that can be parsed"+key.hint())
	}
	return nil
}

// isLongKey reports whether a private key is longer than any that TLS accepts (about 5 KiB).
// Parsing an RSA key takes quadratic time: a minute for 192 KiB.
func isLongKey(block *pem.Block) bool { return isPrivateKey(block) && len(block.Bytes) > 8<<10 }

// parseKey returns nil unless crypto/tls accepts the key.
func parseKey(der []byte) crypto.Signer {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		signer, _ := key.(crypto.Signer)
		return signer
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	return nil
}

// crypto/tls accepts RSA keys of these sizes, in clients and in API servers.
const minRSABits, maxRSABits = 1024, 8192

// checkPair returns faults that otherwise only a TLS handshake would show: the client can't sign
// with the key, or the API server refuses the certificates.
func checkPair(cert *decoded) (certErr, keyErr error) {
	leaf := true
	for i, c := range cert.certificates {
		switch {
		case c.skipped:
		case c.parsed == nil:
			return invalidPEM(fieldCert, fmt.Sprintf("certificate %d can't be parsed: API servers would refuse all of them", i+1)), keyErr
		case leaf:
			keyErr, leaf = checkPublicKey(c.parsed.PublicKey), false
		case rsaBits(c.parsed.PublicKey) > maxRSABits:
			return invalidPEM(fieldCert, fmt.Sprintf("certificate %d has an RSA key of more than %d bits, which API servers refuse", i+1, maxRSABits)), keyErr
		}
	}
	return nil, keyErr
}

func checkPublicKey(key crypto.PublicKey) error {
	if key, ok := key.(*ecdsa.PublicKey); ok && !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, key.Curve) {
		return invalidPEM(fieldKey, "is on a curve that TLS 1.3 lacks: an ECDSA key must be on P-256, P-384 or P-521")
	}
	if bits := rsaBits(key); bits != 0 && (bits < minRSABits || bits > maxRSABits) {
		return invalidPEM(fieldKey, fmt.Sprintf("has %d bits: an RSA key must have %d to %d bits", bits, minRSABits, maxRSABits))
	}
	return nil
}

// rsaBits returns 0 for keys of other kinds.
func rsaBits(key crypto.PublicKey) int {
	if key, ok := key.(*rsa.PublicKey); ok {
		return key.N.BitLen()
	}
	return 0
}

// mismatch returns the fault of a certificate and a key that are valid, but not a pair.
func mismatch(m material) (certErr, keyErr error) {
	key := m.key.blocks[slices.IndexFunc(m.key.blocks, isPrivateKey)]
	public := parseKey(key.Bytes).Public()
	ofKey := func(c certificate) bool {
		if c.parsed == nil {
			return false
		}
		certified, ok := c.parsed.PublicKey.(interface{ Equal(x crypto.PublicKey) bool })
		return ok && certified.Equal(public)
	}
	if i := slices.IndexFunc(m.cert.certificates, ofKey); i >= 0 {
		return fault(fieldCert, CredentialsReasonKeyMismatch,
			fmt.Sprintf("must begin with the certificate of clientKey, which is number %d in it", i+1)), nil
	}
	if slices.ContainsFunc(m.ca.certificates, ofKey) {
		return fault(fieldCert, CredentialsReasonKeyMismatch,
			"the certificate of clientKey is in caCert: are caCert and clientCert swapped?"), nil
	}
	return nil, fault(fieldKey, CredentialsReasonKeyMismatch,
		"is not the private key of the client certificate: both must come from the same key pair")
}
