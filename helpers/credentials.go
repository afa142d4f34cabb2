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
// Each error names one field, says what to do, and never contains a value. There are errors
// if and only if no client can connect by [ConfigFor], or an API server refuses what a typed
// client writes:
//   - Without a clusterAgent, that is if [RESTConfigFor] fails. A DataPlane without
//     credentials and clusterAgent has one error.
//   - With a clusterAgent, as in OpenChoreo v1, that is if the cluster gateway can't read
//     spec.clusterAgent.clientCA and so refuses every agent, or if a name, planeID, port or
//     observabilityPlaneRef breaks a rule of the CustomResourceDefinition. A DataPlane without
//     a namespace has the rules of a ClusterDataPlane, as
//     [v1alpha1.ClusterDataPlane.AsDataPlane] returns it.
//   - With both, if either has a fault.
//
// Validate doesn't read the Secret of a secretKeyRef, and doesn't look at the status.
//
// Warnings depend on the clock or concern something that works in part: a client
// certificate that is expired or not valid yet, CAs that are all expired, a certificate
// that is ignored beside a good one, a private key in clientCert or clientCA, or an observer
// URL that isn't https. In OpenChoreo v1 they include a clientCA of which no certificate is
// valid now, an empty name or host, and fields of v0.3. For each field, Validate names the
// first three certificates with a fault and counts the others. Of spec.registry.prefix, it
// checks only that it is set and has no scheme.
func Validate(dp *v1alpha1.DataPlane) (warnings []string, errs field.ErrorList) {
	now := time.Now()
	if dp != nil && dp.Spec.ClusterAgent != nil {
		warnings, errs = validateV1(dp, now)
		if !hasCredentials(dp) {
			return warnings, errs
		}
	}
	moreWarnings, moreErrs := validateV03(dp, now)
	return append(warnings, moreWarnings...), append(errs, moreErrs...)
}

func validateV03(dp *v1alpha1.DataPlane, now time.Time) (warnings []string, errs field.ErrorList) {
	switch err := requireCredentials(dp); {
	case errors.Is(err, ErrNoCredentials):
		errs = append(errs, field.Required(field.NewPath(fieldCredentials), "must be set, or spec.clusterAgent in OpenChoreo v1"))
	case err != nil:
		errs = append(errs, field.Required(field.NewPath(fieldCredentials), err.Error()))
	}
	if dp == nil {
		return nil, errs
	}
	m := decodeCredentials(dp.Spec.KubernetesCluster.Credentials)
	if len(errs) == 0 {
		errs = fieldErrors(m.faults()...)
	}
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

const ignored = "can't be used and is ignored"

func caWarnings(ca *decoded, now time.Time) []string {
	hint := ca.hint()
	warnings := certificateWarnings(ca, func(c certificate) string {
		if c.parsed == nil {
			return ignored + hint
		}
		return ""
	})
	if expiry := latestExpiry(ca); !expiry.IsZero() && now.After(expiry) {
		warnings = append(warnings, fieldCA+": all certificates are expired")
	}
	return warnings
}

// latestExpiry returns when the last of the certificates that can be used expires, or the
// zero time without one.
func latestExpiry(ca *decoded) (latest time.Time) {
	for _, c := range ca.certificates {
		if c.parsed != nil && c.parsed.NotAfter.After(latest) {
			latest = c.parsed.NotAfter
		}
	}
	return latest
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
func fieldErrors(faults ...error) (errs field.ErrorList) {
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

// CertificateExpiry returns when the certificates by which dp is reached expire. It doesn't
// compare that with the clock.
//
// With credentials, that is the earliest NotAfter of the client certificate and its
// intermediates. The error is [ErrSecretsDropped] or a [CredentialsError] for clientCert; other
// fields don't matter.
//
// With a clusterAgent, as in OpenChoreo v1, that is the latest NotAfter of the certificates in
// spec.clusterAgent.clientCA.value. Each of them alone makes the cluster gateway accept an
// agent, and dp doesn't show which one issued the agent's certificate. So the earliest NotAfter
// would be a false alarm while a new authority stands beside an old one, and the latest is
// certain: after it, the gateway refuses every agent that connects. It can refuse an agent
// earlier: if the agent's own certificate or its authority expires before the others, or if
// clientCA is no authority but the agent's own certificate, and that is renewed. For a clientCA
// in a Secret the error is [ErrClientCAInSecret], for one that can't be used a
// [CredentialsError].
//
// Without either, the error is [ErrNoCredentials].
func CertificateExpiry(dp *v1alpha1.DataPlane) (time.Time, error) {
	switch {
	case dp == nil:
		return time.Time{}, errors.New("nil data plane")
	case !hasCredentials(dp) && dp.Spec.ClusterAgent != nil:
		return clientCAExpiry(dp.Spec.ClusterAgent.ClientCA)
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
// spec.kubernetesCluster.credentials, or spec.clusterAgent.clientCA, is invalid. errors.As
// finds the first [CredentialsError].
var ErrInvalidCredentials = errors.New("invalid data plane credentials")

// ErrClientCAInSecret reports that [CertificateExpiry] can't know the answer, because
// spec.clusterAgent.clientCA names a Secret.
var ErrClientCAInSecret = errors.New("the certificates are in a Secret, so the data plane doesn't show when they expire")

// CredentialsError reports an invalid field of a DataPlane's credentials, or its clientCA. It never
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
