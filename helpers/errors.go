// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
)

var (
	// ErrDeleted reports that a DataPlane was deleted or is being deleted.
	ErrDeleted = errors.New("data plane was deleted")
	// ErrReplaced reports that a DataPlane was deleted and another was created under its
	// name.
	ErrReplaced = errors.New("data plane was replaced by another of the same name")
	// ErrSecretsDropped reports that a DataPlane can't be written or connected to, because
	// its secrets were replaced by the marker REDACTED.
	ErrSecretsDropped = errors.New("the secrets of the data plane were dropped")
	// ErrNoCredentials reports a DataPlane whose four values in
	// spec.kubernetesCluster.credentials are all empty. Later OpenChoreo releases keep no
	// credentials there; [ConfigFor] connects to such a data plane through the cluster gateway.
	ErrNoCredentials = errors.New("data plane has no credentials in spec.kubernetesCluster.credentials")
	// ErrInvalidCredentials reports that at least one value in
	// spec.kubernetesCluster.credentials, or spec.clusterAgent.clientCA, is invalid: errors.As
	// then finds the first [CredentialsError]. It also reports what [GatewayConfigFor] refuses.
	ErrInvalidCredentials = errors.New("invalid data plane credentials")
	// ErrClientCAInSecret reports that [CertificateExpiry] can't see the certificates, because
	// spec.clusterAgent.clientCA names a Secret.
	ErrClientCAInSecret = errors.New("the certificates are in a Secret, so the data plane doesn't show when they expire")
)

// gatewayConfigError is an error of GatewayConfigFor, after which no request is sent.
type gatewayConfigError struct{ error }

func (e gatewayConfigError) Unwrap() error        { return e.error }
func (e gatewayConfigError) Is(target error) bool { return target == ErrInvalidCredentials }

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
	// is later in clientCert, or in caCert.
	CredentialsReasonKeyMismatch CredentialsReason = "KeyMismatch"
	// CredentialsReasonEncryptedKey means that clientKey is protected by a passphrase.
	CredentialsReasonEncryptedKey CredentialsReason = "EncryptedKey"
	// CredentialsReasonTooLarge means that apiServerURL is longer than 2 KiB, or another value
	// longer than 512 KiB.
	CredentialsReasonTooLarge CredentialsReason = "TooLarge"
)
