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
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// ErrNoCredentials reports a DataPlane without any of the four values in
// spec.kubernetesCluster.credentials. Later releases of OpenChoreo keep credentials
// elsewhere, under the same API version: such an object is sound, but this module
// can't connect to its cluster.
var ErrNoCredentials = errors.New("data plane has no credentials in spec.kubernetesCluster.credentials")

// ErrInvalidCredentials reports that at least one value in
// spec.kubernetesCluster.credentials can't be used. errors.As finds the first
// [CredentialsError] beside it.
var ErrInvalidCredentials = errors.New("invalid data plane credentials")

// CredentialsError reports a field of a DataPlane's credentials that can't be used.
// It never contains the value of a field, whole or in part, so it may be logged.
// errors.Is(err, ErrInvalidCredentials) holds for it.
type CredentialsError struct {
	// Field is the path of the field at fault, such as
	// "spec.kubernetesCluster.credentials.clientKey".
	Field string
	// Reason is the kind of fault, for programs.
	Reason CredentialsReason
	// Err says for people what is wrong and, where it can be told, what to do.
	Err error
}

// Error returns the field, the reason and the explanation.
func (e *CredentialsError) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.Field, e.Reason, e.Err)
}

// Unwrap returns the explanation.
func (e *CredentialsError) Unwrap() error { return e.Err }

// Is reports whether target is ErrInvalidCredentials.
func (e *CredentialsError) Is(target error) bool { return target == ErrInvalidCredentials }

// CredentialsReason is why a field of the credentials can't be used.
type CredentialsReason string

// The reasons of a CredentialsError.
const (
	// ReasonRequired says that the field is empty while others are not.
	ReasonRequired CredentialsReason = "Required"
	// ReasonInvalidURL says that apiServerURL is no URL of an API server.
	ReasonInvalidURL CredentialsReason = "InvalidURL"
	// ReasonInsecureURL says that apiServerURL is a URL without TLS.
	ReasonInsecureURL CredentialsReason = "InsecureURL"
	// ReasonInvalidBase64 says that the value is not standard, padded base64.
	ReasonInvalidBase64 CredentialsReason = "InvalidBase64"
	// ReasonInvalidPEM says that the value, once decoded, is not PEM of the kind
	// that belongs into the field.
	ReasonInvalidPEM CredentialsReason = "InvalidPEM"
	// ReasonKeyMismatch says that clientKey is not the key of clientCert.
	ReasonKeyMismatch CredentialsReason = "KeyMismatch"
	// ReasonEncryptedKey says that clientKey is protected by a passphrase.
	ReasonEncryptedKey CredentialsReason = "EncryptedKey"
	// ReasonTooLarge says that the value is longer than 2 KiB for apiServerURL, or
	// than 256 KiB of PEM for the others.
	ReasonTooLarge CredentialsReason = "TooLarge"
)

const credentialsPath = "spec.kubernetesCluster.credentials."

const (
	fieldServer = credentialsPath + "apiServerURL"
	fieldCA     = credentialsPath + "caCert"
	fieldCert   = credentialsPath + "clientCert"
	fieldKey    = credentialsPath + "clientKey"
)

const (
	maxURL = 2 << 10
	maxPEM = 256 << 10
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
		if c := server[i]; c <= ' ' || c >= 0x7f {
			return invalid(fmt.Sprintf("has a space, control or non-ASCII character at byte %d; write an international name in its xn-- form", i))
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
	case strings.HasSuffix(host, "."):
		return "must not end its host in a dot"
	case strings.HasPrefix(u.Host, "["):
		if address, err := netip.ParseAddr(host); err != nil || !address.Is6() {
			return "must have an IPv6 address in its brackets"
		}
	case strings.Contains(host, ":"):
		return "must write an IPv6 address in brackets, such as https://[::1]:6443"
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "must have a port from 1 to 65535"
		}
	}
	return ""
}

// decodeField decodes as strictly as OpenChoreo's own controller does, which takes
// line breaks but neither spaces nor another alphabet.
func decodeField(field, value string) ([]byte, error) {
	switch {
	case value == "":
		return nil, fault(field, ReasonRequired, "must be set")
	case base64.StdEncoding.DecodedLen(len(value)) > maxPEM+2:
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
	index, leaf := 0, error(nil)
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != blockCertificate {
			continue
		}
		if index == 0 {
			_, leaf = x509.ParseCertificate(block.Bytes)
		}
		index++
	}
	switch {
	case index == 0 && hasPrivateKey(data):
		return fault(fieldCert, ReasonInvalidPEM, "contains a private key and no certificate: are clientCert and clientKey swapped?")
	case index == 0:
		return fault(fieldCert, ReasonInvalidPEM, diagnosePEM(data, "contains no PEM block CERTIFICATE"))
	case leaf != nil:
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
			return fault(fieldKey, ReasonInvalidPEM, "contains no PKCS #1, PKCS #8 or SEC 1 private key that can be parsed")
		}
		return nil
	}
	if block, _ := pem.Decode(data); block != nil && block.Type == blockCertificate {
		return fault(fieldKey, ReasonInvalidPEM, "contains a certificate and no private key: are clientCert and clientKey swapped?")
	}
	return fault(fieldKey, ReasonInvalidPEM, diagnosePEM(data, "contains no PEM block PRIVATE KEY"))
}

func hasPrivateKey(data []byte) bool {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, blockPrivateKey) {
			return true
		}
	}
	return false
}

func parsesAsKey(der []byte) bool {
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return true
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
