// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/serverurl"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// Validate returns all faults of dp, for webhooks and tools that check a DataPlane before they
// store it.
//
// Each error names one field, says what to do, and never contains a value. There are errors
// if and only if no client can connect with [ConfigFor], or an API server rejects what a typed
// client writes:
//   - Without a clusterAgent: [RESTConfigFor] fails. A DataPlane with neither credentials nor
//     clusterAgent has one error.
//   - With a clusterAgent, as in OpenChoreo v1: the cluster gateway can't read
//     spec.clusterAgent.clientCA and so refuses every agent, or a name, planeID, port or
//     observabilityPlaneRef breaks a rule of the CustomResourceDefinition. For a DataPlane
//     without a namespace, as from [v1alpha1.ClusterDataPlane.AsDataPlane], the rules are those
//     of ClusterDataPlane. An empty name is accepted if metadata.generateName is set.
//   - With both: either has a fault.
//
// Validate doesn't read the Secret of a secretKeyRef, and doesn't look at the status.
//
// Warnings depend on the clock or concern something that works in part: a client certificate
// that is expired or not yet valid, CA certificates that are all expired, a certificate that is
// ignored beside a good one, a private key in clientCert or clientCA, or an observer URL that
// isn't https. In OpenChoreo v1 they include a clientCA without a certificate that is valid now,
// an empty name or host, and fields of v0.3. For each field, Validate names the first three
// certificates with a fault and counts the others. The only checks of spec.registry.prefix are
// that it is set and has no scheme.
func Validate(dp *v1alpha1.DataPlane) (warnings []string, errs field.ErrorList) {
	f := &findings{now: time.Now()}
	if dp == nil {
		f.refuse(field.ErrorTypeRequired, fieldCredentials, dataplane.ErrNil.Error())
		return nil, f.errs
	}
	isV1 := dp.Spec.ClusterAgent != nil
	if isV1 {
		f.checkIdentity(dp)
		f.checkClientCA(dp)
		f.checkGateway(dp)
		f.checkSecretStore(dp)
		f.checkObservabilityPlane(dp)
		f.checkLeftovers(dp)
	}
	if !isV1 || hasCredentials(dp) {
		f.checkCredentials(dp)
		f.checkObserver(dp)
		f.checkRegistry(dp)
	}
	return f.warnings, f.errs
}

type findings struct {
	now      time.Time
	warnings []string
	errs     field.ErrorList
}

func (f *findings) warn(path, text string) { f.warnings = append(f.warnings, path+": "+text) }

func (f *findings) warnIf(wrong bool, path, text string) {
	if wrong {
		f.warn(path, text)
	}
}

func (f *findings) warnUnlessSet(path, value string) { f.warnIf(value == "", path, "must be set") }

// refuse adds errors without the value; field.Invalid would show it.
func (f *findings) refuse(kind field.ErrorType, path string, details ...string) {
	for _, detail := range details {
		f.errs = append(f.errs, &field.Error{Type: kind, Field: path, Detail: detail, BadValue: field.OmitValueType{}})
	}
}

func (f *findings) refuseUnlessSet(path, value string) {
	if value == "" {
		f.refuse(field.ErrorTypeRequired, path, "must be set")
	}
}

// refuseFaults adds an error for each CredentialsError.
func (f *findings) refuseFaults(faults ...error) {
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
		f.refuse(kind, fault.Field, fault.Err.Error())
	}
}

// warnOfCertificates names the first few certificates of a field with a fault, and counts the
// others.
func (f *findings) warnOfCertificates(d *decoded, fault func(certificate) string) {
	const named = 3
	found := 0
	for i, c := range d.certificates {
		says := fault(c)
		if says == "" {
			continue
		}
		if found++; found <= named {
			f.warn(d.field, fmt.Sprintf("certificate %d %s", i+1, says))
		}
	}
	if found > named {
		f.warn(d.field, fmt.Sprintf("%d more certificates have such a fault", found-named))
	}
}

// warnOfIgnored warns of CA certificates that clients ignore because they can't use them.
func (f *findings) warnOfIgnored(ca *decoded) {
	hint := ca.hint()
	f.warnOfCertificates(ca, func(c certificate) string {
		if c.parsed == nil {
			return "can't be used and is ignored" + hint
		}
		return ""
	})
}

func (f *findings) checkCredentials(dp *v1alpha1.DataPlane) {
	m := decodeCredentials(dp.Spec.KubernetesCluster.Credentials)
	switch err := requireCredentials(dp); {
	case errors.Is(err, ErrNoCredentials):
		f.refuse(field.ErrorTypeRequired, fieldCredentials, "must be set, or spec.clusterAgent in OpenChoreo v1")
	case err != nil:
		f.refuse(field.ErrorTypeRequired, fieldCredentials, err.Error())
	default:
		f.refuseFaults(m.faults()...)
	}
	f.warnOfIgnored(m.ca)
	expiry := latestExpiry(m.ca)
	f.warnIf(!expiry.IsZero() && f.now.After(expiry), fieldCA, "all certificates are expired")
	hint := m.cert.hint()
	f.warnOfCertificates(m.cert, func(c certificate) string {
		switch {
		case c.parsed == nil:
			return "can't be used" + hint
		case f.now.After(c.parsed.NotAfter):
			return "expired at " + c.parsed.NotAfter.UTC().Format(time.RFC3339)
		case f.now.Before(c.parsed.NotBefore):
			return "is not valid before " + c.parsed.NotBefore.UTC().Format(time.RFC3339)
		}
		return ""
	})
	f.warnIf(slices.ContainsFunc(m.cert.blocks, isPrivateKey), fieldCert, keyDisclosed)
}

func (f *findings) checkObserver(dp *v1alpha1.DataPlane) {
	if observer := dp.Spec.Observer; observer != nil {
		if _, err := serverurl.ParseHTTPS(observer.URL); err != nil {
			f.warn("spec.observer.url", err.Error())
		}
		f.warnIf(strings.Contains(observer.Authentication.BasicAuth.Username, ":"),
			"spec.observer.authentication.basicAuth.username", "must not contain a colon")
	}
}

func (f *findings) checkRegistry(dp *v1alpha1.DataPlane) {
	prefix := dp.Spec.Registry.Prefix
	f.warnIf(prefix == "" || strings.Contains(prefix, "://"),
		"spec.registry.prefix", "must be a registry without a scheme, such as docker.io/myorg")
}
