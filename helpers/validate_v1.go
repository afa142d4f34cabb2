// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// validateV1 judges a DataPlane with a clusterAgent. A typed client writes an empty string
// where the CustomResourceDefinition requires the field alone, so that is a warning.
func validateV1(dp *v1alpha1.DataPlane, now time.Time) ([]string, field.ErrorList) {
	f, spec := &findings{}, field.NewPath("spec")
	f.checkIdentity(dp)
	f.checkClientCA(dp, now)
	for _, direction := range []struct {
		path    *field.Path
		network *v1alpha1.GatewayNetworkSpec
	}{
		{spec.Child("gateway", "ingress"), dp.Spec.Gateway.Ingress},
		{spec.Child("gateway", "egress"), dp.Spec.Gateway.Egress},
	} {
		if direction.network != nil {
			f.checkEndpoint(direction.path.Child("external"), direction.network.External)
			f.checkEndpoint(direction.path.Child("internal"), direction.network.Internal)
		}
	}
	if store := dp.Spec.SecretStoreRef; store != nil {
		f.wantSet(spec.Child("secretStoreRef", "name"), store.Name)
	}
	f.checkObservabilityPlane(spec.Child("observabilityPlaneRef"), dp)
	f.checkLeftovers(spec, &dp.Spec)
	return f.warnings, f.errs
}

type findings struct {
	warnings []string
	errs     field.ErrorList
}

func (f *findings) warn(path *field.Path, text string) {
	f.warnings = append(f.warnings, path.String()+": "+text)
}

// refuse adds errors without the value, which field.Invalid would show.
func (f *findings) refuse(kind field.ErrorType, path *field.Path, details ...string) {
	for _, detail := range details {
		f.errs = append(f.errs, &field.Error{Type: kind, Field: path.String(), Detail: detail, BadValue: field.OmitValueType{}})
	}
}

func (f *findings) wantSet(path *field.Path, value string) {
	if value == "" {
		f.warn(path, "must be set")
	}
}

func (f *findings) requireSet(path *field.Path, value string) {
	if value == "" {
		f.refuse(field.ErrorTypeRequired, path, "must be set")
	}
}

// checkIdentity judges what GatewayConfigFor makes a path of.
func (f *findings) checkIdentity(dp *v1alpha1.DataPlane) {
	metadata, planeID := field.NewPath("metadata"), field.NewPath("spec", "planeID")
	f.requireSet(metadata.Child("name"), dp.Name)
	if dp.Name != "" {
		f.refuse(field.ErrorTypeInvalid, metadata.Child("name"), validation.IsDNS1123Subdomain(dp.Name)...)
	}
	if dp.Namespace != "" {
		f.refuse(field.ErrorTypeInvalid, metadata.Child("namespace"), validation.IsDNS1123Label(dp.Namespace)...)
	}
	switch {
	case dp.Spec.PlaneID != "":
		f.refuse(field.ErrorTypeInvalid, planeID, validation.IsDNS1123Label(dp.Spec.PlaneID)...)
	case dp.Namespace == "":
		f.refuse(field.ErrorTypeRequired, planeID, "must be set: a ClusterDataPlane has no default")
	}
}

// checkClientCA judges what the cluster gateway can use. The definition accepts anything.
func (f *findings) checkClientCA(dp *v1alpha1.DataPlane, now time.Time) {
	from, ref := dp.Spec.ClusterAgent.ClientCA, field.NewPath(fieldClientCA).Child("secretKeyRef")
	switch secret := from.SecretKeyRef; {
	case from.Value == "" && secret == nil:
		f.errs = append(f.errs, fieldErrors(missingClientCA())...)
		return
	case from.Value == "":
		f.requireSet(ref.Child("name"), secret.Name)
		f.requireSet(ref.Child("key"), secret.Key)
		if dp.Namespace == "" {
			f.requireSet(ref.Child("namespace"), secret.Namespace)
		}
		return
	case secret != nil:
		f.warn(ref, "is ignored beside value")
	}
	ca, path := parsePEM(fieldClientCAValue, []byte(from.Value)), field.NewPath(fieldClientCAValue)
	f.errs = append(f.errs, fieldErrors(checkPool(ca))...)
	hint := ca.hint()
	f.warnings = append(f.warnings, certificateWarnings(ca, func(c certificate) string {
		if c.parsed == nil {
			return ignored + hint
		}
		return "" // stock OpenChoreo pins the agent's own certificate, which is no authority
	})...)
	if text := notValid(ca, now); text != "" {
		f.warn(path, text+": the cluster gateway refuses every agent that connects, while all Pods say Running")
	}
	if slices.ContainsFunc(ca.blocks, isPrivateKey) {
		f.warn(path, keyDisclosed)
	}
}

func missingClientCA() error {
	return fault(fieldClientCA, CredentialsReasonRequired, "needs value or secretKeyRef; without it, the cluster gateway refuses every agent")
}

// notValid says why none of the certificates is valid now, or is "".
func notValid(ca *decoded, now time.Time) string {
	var soonest time.Time
	for _, c := range ca.certificates {
		switch {
		case c.parsed == nil || now.After(c.parsed.NotAfter):
		case !now.Before(c.parsed.NotBefore):
			return ""
		case soonest.IsZero() || c.parsed.NotBefore.Before(soonest):
			soonest = c.parsed.NotBefore
		}
	}
	expiry := latestExpiry(ca)
	switch {
	case !soonest.IsZero():
		return "is not valid before " + soonest.UTC().Format(time.RFC3339)
	case !expiry.IsZero():
		return "expired at " + expiry.UTC().Format(time.RFC3339)
	}
	return "" // no certificate can be used, which is an error
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

func (f *findings) checkEndpoint(path *field.Path, endpoint *v1alpha1.GatewayEndpointSpec) {
	if endpoint == nil {
		return
	}
	f.wantSet(path.Child("name"), endpoint.Name)
	f.wantSet(path.Child("namespace"), endpoint.Namespace)
	for _, listener := range []struct {
		name string
		spec *v1alpha1.GatewayListenerSpec
	}{{"http", endpoint.HTTP}, {"https", endpoint.HTTPS}, {"tls", endpoint.TLS}} {
		if listener.spec == nil {
			continue
		}
		f.wantSet(path.Child(listener.name, "host"), listener.spec.Host)
		if validation.IsValidPortNum(int(listener.spec.Port)) != nil {
			f.refuse(field.ErrorTypeInvalid, path.Child(listener.name, "port"), "must be 1 to 65535")
		}
	}
}

func (f *findings) checkObservabilityPlane(path *field.Path, dp *v1alpha1.DataPlane) {
	const namespaced, cluster = "ObservabilityPlane", "ClusterObservabilityPlane"
	ref := dp.Spec.ObservabilityPlaneRef
	if ref == nil {
		return
	}
	switch {
	case ref.Kind == cluster:
	case dp.Namespace == "":
		f.refuse(field.ErrorTypeNotSupported, path.Child("kind"), "must be "+cluster+" in a ClusterDataPlane")
	case ref.Kind != namespaced:
		f.refuse(field.ErrorTypeNotSupported, path.Child("kind"), "must be "+namespaced+" or "+cluster)
	}
	f.refuse(field.ErrorTypeInvalid, path.Child("name"), validation.IsDNS1123Label(ref.Name)...)
}

// checkLeftovers warns of fields of OpenChoreo v0.3 beside a clusterAgent.
func (f *findings) checkLeftovers(path *field.Path, spec *v1alpha1.DataPlaneSpec) {
	const dropped = "API servers of OpenChoreo v1 drop it"
	if spec.KubernetesCluster != (v1alpha1.KubernetesClusterSpec{}) {
		f.warn(path.Child("kubernetesCluster"), dropped+", and those of v0.3 drop spec.clusterAgent: keep one of them")
	}
	for _, leftover := range []struct {
		path *field.Path
		set  bool
	}{
		{path.Child("registry"), spec.Registry != v1alpha1.Registry{}},
		{path.Child("observer"), spec.Observer != nil},
		{path.Child("gateway", "publicVirtualHost"), spec.Gateway.PublicVirtualHost != ""},
		{path.Child("gateway", "organizationVirtualHost"), spec.Gateway.OrganizationVirtualHost != ""},
	} {
		if leftover.set {
			f.warn(leftover.path, dropped)
		}
	}
}
