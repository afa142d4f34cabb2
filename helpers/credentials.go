// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/serverurl"
)

// Validate returns everything that is wrong with dp. It serves webhooks and tools that
// check a DataPlane before they store it.
//
// Each error names one field of the credentials, says what to do, and never contains a
// value. There are errors if and only if [RESTConfigFor] fails, so a DataPlane without
// credentials has one.
//
// Warnings depend on the clock or concern something that works in part: a client
// certificate that is expired or not valid yet, CAs that are all expired, a certificate
// that is ignored beside a good one, a private key in clientCert, or an observer URL that
// isn't https. For each field, Validate names the first three certificates with a fault and
// counts the others. Of spec.registry.prefix, it checks only that it is set and has no scheme.
func Validate(dp *v1alpha1.DataPlane) (warnings []string, errs field.ErrorList) {
	if err := requireCredentials(dp); err != nil {
		errs = append(errs, field.Required(field.NewPath(fieldCredentials), err.Error()))
	}
	if dp == nil {
		return nil, errs
	}
	m := decodeCredentials(dp.Spec.KubernetesCluster.Credentials)
	if len(errs) == 0 {
		errs = fieldErrors(m.faults())
	}
	now := time.Now()
	warnings = append(caWarnings(m.ca, now), certWarnings(m.cert, now)...)
	if observer := dp.Spec.Observer; observer != nil {
		if _, err := serverurl.ParseHTTPS(observer.URL); err != nil {
			warnings = append(warnings, "spec.observer.url: "+err.Error())
		}
		if strings.Contains(observer.Authentication.BasicAuth.Username, ":") {
			warnings = append(warnings, "spec.observer.authentication.basicAuth.username: must not contain a colon")
		}
	}
	if prefix := dp.Spec.Registry.Prefix; prefix == "" || strings.Contains(prefix, "://") {
		warnings = append(warnings, "spec.registry.prefix: must be a registry without a scheme, such as docker.io/myorg")
	}
	return warnings, errs
}

func caWarnings(ca *decoded, now time.Time) []string {
	hint, usable, expired := ca.hint(), 0, 0
	warnings := certificateWarnings(ca, func(c certificate) string {
		if c.parsed == nil {
			return "can't be used and is ignored" + hint
		}
		usable++
		if now.After(c.parsed.NotAfter) {
			expired++
		}
		return ""
	})
	if usable > 0 && usable == expired {
		warnings = append(warnings, fieldCA+": all certificates are expired")
	}
	return warnings
}

func certWarnings(cert *decoded, now time.Time) []string {
	hint := cert.hint()
	warnings := certificateWarnings(cert, func(c certificate) string {
		switch {
		case c.parsed == nil:
			return "can't be used" + hint
		case now.After(c.parsed.NotAfter):
			return "expired at " + c.parsed.NotAfter.UTC().Format(time.RFC3339)
		case now.Before(c.parsed.NotBefore):
			return "is not valid before " + c.parsed.NotBefore.UTC().Format(time.RFC3339)
		}
		return ""
	})
	if slices.ContainsFunc(cert.blocks, isPrivateKey) {
		warnings = append(warnings, fieldCert+": "+keyDisclosed)
	}
	return warnings
}

// certificateWarnings names the first few certificates of a field with a fault, and counts the
// others.
func certificateWarnings(d *decoded, fault func(certificate) string) (warnings []string) {
	const named = 3
	more := 0
	for i, c := range d.certificates {
		switch says := fault(c); {
		case says == "":
		case len(warnings) < named:
			warnings = append(warnings, fmt.Sprintf("%s: certificate %d %s", d.field, i+1, says))
		default:
			more++
		}
	}
	if more > 0 {
		warnings = append(warnings, fmt.Sprintf("%s: %d more certificates have such a fault", d.field, more))
	}
	return warnings
}

// fieldErrors leaves out the value, which field.Error would print.
func fieldErrors(faults []error) (errs field.ErrorList) {
	for _, err := range faults {
		var fault *CredentialsError
		if !errors.As(err, &fault) {
			continue
		}
		kind := field.ErrorTypeInvalid
		switch fault.Reason {
		case CredentialsReasonRequired:
			kind = field.ErrorTypeRequired
		case CredentialsReasonTooLarge:
			kind = field.ErrorTypeTooLong
		}
		errs = append(errs, &field.Error{Type: kind, Field: fault.Field, Detail: fault.Err.Error(), BadValue: field.OmitValueType{}})
	}
	return errs
}

// CertificateExpiry returns when the client certificate of dp expires: the earliest
// NotAfter of it and its intermediates. It doesn't compare that with the clock. The error
// is [ErrNoCredentials], [ErrSecretsDropped], or a [CredentialsError] for clientCert;
// other fields don't matter.
func CertificateExpiry(dp *v1alpha1.DataPlane) (time.Time, error) {
	switch {
	case dp == nil:
		return time.Time{}, errors.New("nil data plane")
	case !hasCredentials(dp):
		return time.Time{}, ErrNoCredentials
	case dp.Spec.KubernetesCluster.Credentials.ClientCert == v1alpha1.Redacted:
		return time.Time{}, fmt.Errorf("%s: %w", fieldCert, ErrSecretsDropped)
	}
	cert := decode(fieldCert, dp.Spec.KubernetesCluster.Credentials.ClientCert)
	if err := cmp.Or(cert.err, checkCert(cert)); err != nil {
		return time.Time{}, err
	}
	var earliest time.Time
	for _, c := range cert.certificates {
		if c.parsed != nil && (earliest.IsZero() || c.parsed.NotAfter.Before(earliest)) {
			earliest = c.parsed.NotAfter
		}
	}
	return earliest, nil
}

// Fingerprint returns a SHA-256 in hexadecimal of the API server's URL and the
// credentials of dp. Two DataPlanes have the same fingerprint if and only if these four values
// are the same. It doesn't reveal them, so it may be logged. It is "" if dp has no
// credentials.
func Fingerprint(dp *v1alpha1.DataPlane) string {
	if !hasCredentials(dp) {
		return ""
	}
	creds := dp.Spec.KubernetesCluster.Credentials
	hash := sha256.New()
	for _, value := range []string{creds.APIServerURL, creds.CACert, creds.ClientCert, creds.ClientKey} {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(value), value) // without the length, values could run together
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// requireCredentials returns an error if dp has nothing to decode.
func requireCredentials(dp *v1alpha1.DataPlane) error {
	switch {
	case dp == nil:
		return errors.New("nil data plane")
	case !hasCredentials(dp):
		return ErrNoCredentials
	}
	creds := &dp.Spec.KubernetesCluster.Credentials
	for _, field := range []struct{ name, value string }{
		{fieldCA, creds.CACert}, {fieldCert, creds.ClientCert}, {fieldKey, creds.ClientKey},
	} {
		if field.value == v1alpha1.Redacted {
			return fmt.Errorf("%s: %w", field.name, ErrSecretsDropped)
		}
	}
	return nil
}

func hasCredentials(dp *v1alpha1.DataPlane) bool {
	return dp != nil && dp.Spec.KubernetesCluster.Credentials != v1alpha1.APIServerCredentials{}
}

// ErrNoCredentials reports a DataPlane with all four values empty in
// spec.kubernetesCluster.credentials. Later OpenChoreo releases keep no credentials
// there; [GatewayConfigFor] connects to such a data plane.
var ErrNoCredentials = errors.New("data plane has no credentials in spec.kubernetesCluster.credentials " +
	"(those of OpenChoreo v0.9 and later have none: use helpers.GatewayConfigFor)")

// ErrInvalidCredentials reports that at least one value in
// spec.kubernetesCluster.credentials is invalid. errors.As finds the first
// [CredentialsError].
var ErrInvalidCredentials = errors.New("invalid data plane credentials")

// CredentialsError reports an invalid field of a DataPlane's credentials. It never
// contains any part of the value, so it may be logged. errors.Is(err,
// ErrInvalidCredentials) is true for it.
type CredentialsError struct {
	// Field is the path of the field, such as
	// "spec.kubernetesCluster.credentials.clientKey".
	Field string
	// Reason is the kind of fault, for programs.
	Reason CredentialsReason
	// Err says what is wrong and, if possible, what to do.
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

// CredentialsReason says why a field of the credentials is invalid.
type CredentialsReason string

// The reasons of a CredentialsError.
const (
	// CredentialsReasonRequired means that the field is empty, but others are not.
	CredentialsReasonRequired CredentialsReason = "Required"
	// CredentialsReasonInvalidURL means that apiServerURL is not the URL of an API server.
	CredentialsReasonInvalidURL CredentialsReason = "InvalidURL"
	// CredentialsReasonInsecureURL means that apiServerURL is an http URL.
	CredentialsReasonInsecureURL CredentialsReason = "InsecureURL"
	// CredentialsReasonInvalidBase64 means that the value is not standard, padded base64.
	CredentialsReasonInvalidBase64 CredentialsReason = "InvalidBase64"
	// CredentialsReasonInvalidPEM means that the decoded value is not PEM of the right kind,
	// or holds a key or certificate that TLS can't use.
	CredentialsReasonInvalidPEM CredentialsReason = "InvalidPEM"
	// CredentialsReasonKeyMismatch means that clientKey is not the key of the first
	// certificate in clientCert. The field at fault is clientCert if the key's certificate
	// is elsewhere.
	CredentialsReasonKeyMismatch CredentialsReason = "KeyMismatch"
	// CredentialsReasonEncryptedKey means that clientKey is protected by a passphrase.
	CredentialsReasonEncryptedKey CredentialsReason = "EncryptedKey"
	// CredentialsReasonTooLarge means that apiServerURL is longer than 2 KiB, or another value
	// longer than 512 KiB.
	CredentialsReasonTooLarge CredentialsReason = "TooLarge"
)
