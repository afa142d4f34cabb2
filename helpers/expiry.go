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
