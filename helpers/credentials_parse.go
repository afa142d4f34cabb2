// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

const (
	credentialsField = "spec.kubernetesCluster.credentials"

	fieldServer = credentialsField + ".apiServerURL"
	fieldCA     = credentialsField + ".caCert"
	fieldCert   = credentialsField + ".clientCert"
	fieldKey    = credentialsField + ".clientKey"
)

const (
	maxURL = 2 << 10
	maxPEM = 256 << 10
	// maxEncoded is the length of a value that isn't even looked at; base64 of maxPEM
	// in lines of four characters or more is shorter.
	maxEncoded = 1 << 20
)

// PEM block types of RFC 7468 section 5 and 10, and of older tools.
const (
	blockCertificate = "CERTIFICATE"
	blockPrivateKey  = "PRIVATE KEY" // also the suffix of RSA, EC and ENCRYPTED ones
)

// credentials is what the spec holds, decoded and checked.
type credentials struct {
	server        string
	ca, cert, key []byte // PEM
}

// parseCredentials reports all faults at once, in the order of the fields.
func parseCredentials(dp *v1alpha1.DataPlane) (*credentials, error) {
	if dp == nil {
		return nil, fmt.Errorf("nil data plane: %w", ErrNoCredentials)
	}
	spec := dp.Spec.KubernetesCluster.Credentials
	if spec == (v1alpha1.APIServerCredentials{}) {
		return nil, ErrNoCredentials
	}
	if credentialsDropped(dp) {
		return nil, ErrSecretsDropped
	}
	creds := &credentials{server: spec.APIServerURL}
	serverErr := checkServer(spec.APIServerURL)
	ca, caErr := decodeField(fieldCA, spec.CACert)
	if caErr == nil {
		caErr = checkCA(ca)
	}
	cert, certErr := decodeField(fieldCert, spec.ClientCert)
	key, keyErr := decodeField(fieldKey, spec.ClientKey)
	if certErr == nil && keyErr == nil {
		// The common case costs one parse of each; what is wrong is found out
		// only when something is.
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			certErr, keyErr = diagnoseCert(cert), diagnoseKey(key)
			if certErr == nil && keyErr == nil {
				keyErr = fault(fieldKey, ReasonKeyMismatch,
					"is not the private key of clientCert: both must come from the same key pair")
			}
		}
	} else {
		if certErr == nil {
			certErr = diagnoseCert(cert)
		}
		if keyErr == nil {
			keyErr = diagnoseKey(key)
		}
	}
	creds.ca, creds.cert, creds.key = ca, cert, key
	if err := errors.Join(serverErr, caErr, certErr, keyErr); err != nil {
		return nil, err
	}
	return creds, nil
}

// fault makes a CredentialsError. The explanation must not contain input.
func fault(field string, reason CredentialsReason, explanation string) error {
	return &CredentialsError{Field: field, Reason: reason, Err: errors.New(explanation)}
}

// checkServer parses more strictly than net/url and client-go do, which accept what
// they then ignore (a query), send elsewhere (a user name), or can't dial.
func checkServer(server string) error {
	invalid := func(explanation string) error { return fault(fieldServer, ReasonInvalidURL, explanation) }
	switch {
	case server == "":
		return fault(fieldServer, ReasonRequired, "must be set, to a URL such as https://host:6443")
	case len(server) > maxURL:
		return fault(fieldServer, ReasonTooLarge, "must not be longer than 2 KiB")
	}
	for i := range len(server) {
		switch c := server[i]; {
		case c <= ' ' || c == 0x7f:
			return invalid(fmt.Sprintf("has a space or control character at byte %d", i))
		case c > 0x7f:
			return invalid(fmt.Sprintf("is not ASCII at byte %d; write an international name in its xn-- form", i))
		}
	}
	u, err := url.Parse(server)
	if err != nil {
		return invalid("can't be parsed; want a URL such as https://host:6443")
	}
	switch {
	case u.Scheme == "http":
		return fault(fieldServer, ReasonInsecureURL, "must use https: credentials are sent only over TLS")
	case u.Scheme != "https":
		return invalid("must start with https://")
	case u.User != nil:
		return invalid("must not contain a user name or password")
	case u.RawQuery != "" || u.ForceQuery:
		return invalid("must not contain a query")
	case strings.Contains(server, "#"):
		return invalid("must not contain a fragment")
	}
	if err := checkHost(u); err != "" {
		return invalid(err)
	}
	if strings.ContainsFunc(u.Path, unicode.IsControl) {
		return invalid("must not contain a control character in its path")
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == ".." || segment == "." {
			return invalid("must not contain . or .. in its path")
		}
	}
	return nil
}

// checkHost returns what is wrong with the host and port of u, or "".
func checkHost(u *url.URL) string {
	host := u.Hostname()
	switch {
	case host == "":
		return "must name a host"
	case strings.HasPrefix(u.Host, "["):
		// A certificate can't name an address with a zone.
		if address, err := netip.ParseAddr(host); err != nil || !address.Is6() || address.Zone() != "" {
			return "must have an IPv6 address without zone in its brackets"
		}
	case strings.Contains(host, ":"):
		return "must write an IPv6 address in brackets, such as https://[::1]:6443"
	case !isIPv4(host) && !isDNSName(host):
		return "must have a DNS name or an IP address as host"
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "must have a port from 1 to 65535"
		}
	}
	return ""
}

func isIPv4(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Is4()
}

// isDNSName takes underscores, which resolvers do, but no dot at the end, which the names
// in certificates don't have, and no number at the end, which is a misspelt address.
func isDNSName(host string) bool {
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool {
				return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
			}) {
			return false
		}
	}
	_, err := strconv.ParseUint(labels[len(labels)-1], 10, 64)
	return len(host) <= 253 && err != nil
}

// decodeField decodes as strictly as OpenChoreo's own controller does, which takes
// line breaks but neither spaces nor another alphabet.
func decodeField(field, value string) ([]byte, error) {
	switch {
	case value == "":
		return nil, fault(field, ReasonRequired, "must be set")
	case len(value) > maxEncoded:
		return nil, fault(field, ReasonTooLarge, "must not hold more than 256 KiB of PEM")
	}
	decoded, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, fault(field, ReasonInvalidBase64, diagnoseBase64(value, err))
	}
	if len(decoded) > maxPEM {
		return nil, fault(field, ReasonTooLarge, "must not hold more than 256 KiB of PEM")
	}
	return decoded, nil
}

func diagnoseBase64(value string, err error) string {
	explanation := "is not base64"
	var offset base64.CorruptInputError
	if errors.As(err, &offset) {
		explanation = fmt.Sprintf("is not base64 at byte %d", int64(offset))
	}
	compact := strings.NewReplacer("\r", "", "\n", "").Replace(value)
	switch {
	case strings.Contains(value, "-----BEGIN"):
		return explanation + ": the value is PEM itself; base64-encode it"
	case strings.ContainsAny(value, " \t"):
		return explanation + ": remove spaces and tabs"
	case strings.ContainsAny(value, "-_"):
		return explanation + ": the value is in the URL-safe alphabet; use the standard one, with + and /"
	case len(compact)%4 != 0 && decodes(base64.RawStdEncoding, compact):
		return explanation + ": the padding with = is missing"
	}
	return explanation
}

func decodes(encoding *base64.Encoding, value string) bool {
	_, err := encoding.DecodeString(value)
	return err == nil
}

// checkCA accepts what x509.CertPool would use: at least one certificate. It is
// stricter on one thing: a private key has no business in a field that isn't secret.
func checkCA(data []byte) error {
	certificates, usable := 0, 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case strings.HasSuffix(block.Type, blockPrivateKey):
			return fault(fieldCA, ReasonInvalidPEM, "contains a private key, which does not belong there: consider that key disclosed")
		case block.Type == blockCertificate && len(block.Headers) == 0:
			certificates++
			if _, err := x509.ParseCertificate(block.Bytes); err == nil {
				usable++
			}
		}
	}
	switch {
	case certificates == 0:
		return fault(fieldCA, ReasonInvalidPEM, diagnosePEM(data, "contains no PEM block CERTIFICATE"))
	case usable == 0:
		return fault(fieldCA, ReasonInvalidPEM, "contains no certificate that can be parsed")
	}
	return nil
}

// diagnoseCert returns what is wrong with a client certificate on its own.
func diagnoseCert(data []byte) error {
	certificates := 0
	var leafErr error
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != blockCertificate {
			continue
		}
		if certificates == 0 {
			_, leafErr = x509.ParseCertificate(block.Bytes)
		}
		certificates++
	}
	switch {
	case certificates == 0 && hasBlock(data, blockPrivateKey):
		return fault(fieldCert, ReasonInvalidPEM, "contains a private key and no certificate: are clientCert and clientKey swapped?")
	case certificates == 0:
		return fault(fieldCert, ReasonInvalidPEM, diagnosePEM(data, "contains no PEM block CERTIFICATE"))
	case leafErr != nil:
		return fault(fieldCert, ReasonInvalidPEM, "begins with a certificate that can't be parsed")
	}
	return nil
}

// diagnoseKey returns what is wrong with a private key on its own.
func diagnoseKey(data []byte) error {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, blockPrivateKey) {
			continue
		}
		// The first is PKCS #8 (RFC 5958), the second the header of RFC 1421.
		if strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return fault(fieldKey, ReasonEncryptedKey, "is protected by a passphrase; store the key without one")
		}
		if !parsesAsKey(block.Bytes) {
			return fault(fieldKey, ReasonInvalidPEM,
				"contains no RSA, ECDSA or Ed25519 private key in PKCS #1, PKCS #8 or SEC 1 that can be parsed")
		}
		return nil
	}
	if hasBlock(data, blockCertificate) {
		return fault(fieldKey, ReasonInvalidPEM, "contains a certificate and no private key: are clientCert and clientKey swapped?")
	}
	return fault(fieldKey, ReasonInvalidPEM, diagnosePEM(data, "contains no PEM block PRIVATE KEY"))
}

// hasBlock says whether there is a PEM block whose type ends so.
func hasBlock(data []byte, suffix string) bool {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, suffix) {
			return true
		}
	}
	return false
}

// parsesAsKey takes what crypto/tls takes.
func parsesAsKey(der []byte) bool {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		switch key.(type) {
		case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
			return true
		}
		return false
	}
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return true
	}
	_, err := x509.ParseECPrivateKey(der)
	return err == nil
}

// diagnosePEM adds the most common cause to an explanation why PEM was not found.
func diagnosePEM(data []byte, explanation string) string {
	again := make([]byte, base64.StdEncoding.DecodedLen(len(data)))
	if n, err := base64.StdEncoding.Decode(again, data); err == nil && bytes.Contains(again[:n], []byte("-----BEGIN")) {
		return explanation + ": the value is base64-encoded twice"
	}
	return explanation
}
