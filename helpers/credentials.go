// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Validate returns everything that is wrong with dp, for a webhook or a tool that
// checks before it stores. RESTConfigFor succeeds exactly when there is no error.
//
// Errors are about the credentials: one for each field at fault, with its path and
// what to do, never with a value. A DataPlane without any credentials is an error too.
// Warnings are about what works in part or may not work: a client certificate that is
// expired or not valid yet, or authorities that are all expired, which are warnings since
// they depend on the clock; a certificate authority that can't be parsed beside others
// that can; an observer or registry that the other helpers refuse.
func Validate(dp *v1alpha1.DataPlane) (warnings []string, errs field.ErrorList) {
	return validate(dp, time.Now())
}

func validate(dp *v1alpha1.DataPlane, now time.Time) (warnings []string, errs field.ErrorList) {
	if _, err := parseCredentials(dp); err != nil {
		errs = fieldErrors(err)
	}
	if dp == nil {
		return nil, errs
	}
	creds := dp.Spec.KubernetesCluster.Credentials
	warn := func(path, format string, args ...any) {
		warnings = append(warnings, path+": "+fmt.Sprintf(format, args...))
	}
	if ca, err := decodeField(fieldCA, creds.CACert); err == nil {
		warnOfCA(ca, now, func(text string) { warn(fieldCA, "%s", text) })
	}
	if cert, err := decodeField(fieldCert, creds.ClientCert); err == nil {
		warnOfClient(cert, now, func(text string) { warn(fieldCert, "%s", text) })
	}
	if dp.Spec.Observer != nil {
		if _, err := parseObserverURL(dp.Spec.Observer.URL); err != nil {
			warn(fieldObserverURL, "%v", err)
		} else if u, err := url.Parse(dp.Spec.Observer.URL); err == nil && u.Scheme == "http" {
			warn(fieldObserverURL, "sends the password in clear text over http")
		}
	}
	if err := checkRegistryPrefix(dp.Spec.Registry.Prefix); err != nil {
		warn(fieldRegistryPrefix, "%v", err)
	}
	return warnings, errs
}

// fieldErrors turns what parseCredentials returns into errors of the API machinery.
func fieldErrors(err error) field.ErrorList {
	var list field.ErrorList
	faults := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		faults = joined.Unwrap()
	}
	for _, err := range faults {
		e := &field.Error{
			Type: field.ErrorTypeRequired, Field: credentialsField, Detail: err.Error(),
			// The value of a field error is printed with it.
			BadValue: field.OmitValueType{},
		}
		var fault *CredentialsError
		if errors.As(err, &fault) {
			e.Field, e.Detail = fault.Field, fault.Err.Error()
			switch fault.Reason {
			case ReasonRequired:
			case ReasonTooLarge:
				e.Type = field.ErrorTypeTooLong
			default:
				e.Type = field.ErrorTypeInvalid
			}
		}
		list = append(list, e)
	}
	return list
}

func warnOfCA(data []byte, now time.Time, warn func(string)) {
	usable, expired, index := 0, 0, 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != blockCertificate || len(block.Headers) != 0 {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			warn(fmt.Sprintf("certificate %d can't be parsed and is left out", index))
		case now.After(certificate.NotAfter):
			usable, expired = usable+1, expired+1
		default:
			usable++
		}
		index++
	}
	if usable > 0 && usable == expired {
		warn("all certificates are expired")
	}
}

func warnOfClient(data []byte, now time.Time, warn func(string)) {
	for i, certificate := range parseChain(data) {
		switch {
		case now.After(certificate.NotAfter):
			warn(fmt.Sprintf("certificate %d expired at %s", i, certificate.NotAfter.UTC().Format(time.RFC3339)))
		case now.Before(certificate.NotBefore):
			warn(fmt.Sprintf("certificate %d is not valid before %s", i, certificate.NotBefore.UTC().Format(time.RFC3339)))
		}
	}
}

// parseChain returns the certificates that can be parsed.
func parseChain(data []byte) []*x509.Certificate {
	var chain []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != blockCertificate {
			continue
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			chain = append(chain, certificate)
		}
	}
	return chain
}

// CertificateExpiry returns when the client certificate of dp expires: the earliest
// NotAfter (RFC 5280 section 4.1.2.5) of it and of the intermediates that come with
// it. It does not compare it with the clock. The error is [ErrNoCredentials],
// [ErrSecretsDropped] after [DropSecrets], or a [CredentialsError] of clientCert; other
// fields don't matter.
func CertificateExpiry(dp *v1alpha1.DataPlane) (time.Time, error) {
	switch {
	case !hasCredentials(dp):
		return time.Time{}, ErrNoCredentials
	case dp.Spec.KubernetesCluster.Credentials.ClientCert == v1alpha1.Redacted:
		return time.Time{}, ErrSecretsDropped
	}
	data, err := decodeField(fieldCert, dp.Spec.KubernetesCluster.Credentials.ClientCert)
	if err != nil {
		return time.Time{}, err
	}
	if err := diagnoseCert(data); err != nil {
		return time.Time{}, err
	}
	var earliest time.Time
	for _, certificate := range parseChain(data) {
		if earliest.IsZero() || certificate.NotAfter.Before(earliest) {
			earliest = certificate.NotAfter
		}
	}
	return earliest, nil
}

// Fingerprint returns what identifies the API server and the credentials of dp: 64
// hexadecimal digits of SHA-256 over the four values, each preceded by its length. Two
// DataPlanes have the same fingerprint exactly when they have the same four values. It
// can't be turned back, so it may be logged. It is "" when dp has no credentials.
func Fingerprint(dp *v1alpha1.DataPlane) string {
	if !hasCredentials(dp) {
		return ""
	}
	creds := dp.Spec.KubernetesCluster.Credentials
	hash := sha256.New()
	for _, value := range []string{creds.APIServerURL, creds.CACert, creds.ClientCert, creds.ClientKey} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(value)))
		hash.Write(length[:])
		_, _ = io.WriteString(hash, value)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func hasCredentials(dp *v1alpha1.DataPlane) bool {
	return dp != nil && dp.Spec.KubernetesCluster.Credentials != v1alpha1.APIServerCredentials{}
}

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
