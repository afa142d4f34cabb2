// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"fmt"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// CertificateExpiry returns when the certificates for connections to dp expire. It doesn't
// look at the clock.
//
// With credentials, the result is the earliest NotAfter of the client certificate and its
// intermediates. The error is [ErrSecretsDropped] or a [CredentialsError] for clientCert; other
// fields don't matter.
//
// With a clusterAgent, as in OpenChoreo v1, the result is the latest NotAfter of the
// certificates in spec.clusterAgent.clientCA.value. After it, the cluster gateway refuses every
// agent that connects. The earliest NotAfter would be a false alarm while a new CA stands beside
// an old one: each certificate alone makes the gateway accept an agent, and dp doesn't show
// which one issued the agent's certificate. The gateway can refuse an agent earlier: if the
// agent's own certificate or its CA expires before the others, or if clientCA holds the agent's
// own certificate instead of a CA's, and the agent's certificate is renewed. For a clientCA in a
// Secret the error is [ErrClientCAInSecret], for an unusable clientCA a [CredentialsError].
//
// With neither, the error is [ErrNoCredentials].
func CertificateExpiry(dp *v1alpha1.DataPlane) (time.Time, error) {
	switch {
	case dp == nil:
		return time.Time{}, dataplane.ErrNil
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

func clientCAExpiry(from v1alpha1.ValueFrom) (time.Time, error) {
	switch {
	case from.Value == "" && from.SecretKeyRef == nil:
		return time.Time{}, missingClientCA()
	case from.Value == "":
		return time.Time{}, fmt.Errorf("%s.secretKeyRef: %w", fieldClientCA, ErrClientCAInSecret)
	}
	ca := parsePEM(fieldClientCAValue, []byte(from.Value))
	return latestExpiry(ca), checkPool(ca)
}

func missingClientCA() error {
	return fault(fieldClientCA, CredentialsReasonRequired, "needs value or secretKeyRef; without it, the cluster gateway refuses every agent")
}

// latestExpiry returns the latest NotAfter of the usable certificates, or the zero time.
func latestExpiry(ca *decoded) (latest time.Time) {
	for _, c := range ca.certificates {
		if c.parsed != nil && c.parsed.NotAfter.After(latest) {
			latest = c.parsed.NotAfter
		}
	}
	return latest
}
