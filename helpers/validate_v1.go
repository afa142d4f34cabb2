// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"slices"
	"time"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// These checks are for a DataPlane with a clusterAgent. Where the CustomResourceDefinition only
// requires a field to be present, an empty string is a warning: a typed client can write it.

// checkIdentity checks the fields that GatewayConfigFor puts into a path.
func (f *findings) checkIdentity(dp *v1alpha1.DataPlane) {
	switch {
	case dp.Name == "" && dp.GenerateName != "": // the API server completes it
		f.refuse(field.ErrorTypeInvalid, "metadata.generateName", apivalidation.NameIsDNSSubdomain(dp.GenerateName, true)...)
	case dp.Name == "":
		f.refuseUnlessSet("metadata.name", dp.Name)
	default:
		f.refuse(field.ErrorTypeInvalid, "metadata.name", validation.IsDNS1123Subdomain(dp.Name)...)
	}
	if dp.Namespace != "" {
		f.refuse(field.ErrorTypeInvalid, "metadata.namespace", validation.IsDNS1123Label(dp.Namespace)...)
	}
	switch {
	case dp.Spec.PlaneID != "":
		f.refuse(field.ErrorTypeInvalid, "spec.planeID", validation.IsDNS1123Label(dp.Spec.PlaneID)...)
	case dp.Namespace == "":
		f.refuse(field.ErrorTypeRequired, "spec.planeID", "must be set: a ClusterDataPlane has no default")
	}
}

// checkClientCA checks that the cluster gateway can use clientCA. The CustomResourceDefinition
// accepts any value.
func (f *findings) checkClientCA(dp *v1alpha1.DataPlane) {
	const ref = fieldClientCA + ".secretKeyRef"
	from := dp.Spec.ClusterAgent.ClientCA
	switch secret := from.SecretKeyRef; {
	case from.Value == "" && secret == nil:
		f.refuseFaults(missingClientCA())
		return
	case from.Value == "":
		f.refuseUnlessSet(ref+".name", secret.Name)
		f.refuseUnlessSet(ref+".key", secret.Key)
		if dp.Namespace == "" {
			f.refuseUnlessSet(ref+".namespace", secret.Namespace)
		}
		return
	case secret != nil:
		f.warn(ref, "is ignored beside value")
	}
	ca := parsePEM(fieldClientCAValue, []byte(from.Value))
	f.refuseFaults(checkPool(ca))
	f.warnOfIgnored(ca) // but not of a certificate that isn't a CA's: stock OpenChoreo pins the agent's own
	text := notValid(ca, f.now)
	f.warnIf(text != "", fieldClientCAValue, text+": the cluster gateway refuses every agent that connects, while all Pods say Running")
	f.warnIf(slices.ContainsFunc(ca.blocks, isPrivateKey), fieldClientCAValue, keyDisclosed)
}

// notValid returns why none of the certificates is valid now, or "".
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

func (f *findings) checkGateway(dp *v1alpha1.DataPlane) {
	f.checkNetwork("spec.gateway.ingress", dp.Spec.Gateway.Ingress)
	f.checkNetwork("spec.gateway.egress", dp.Spec.Gateway.Egress)
}

func (f *findings) checkNetwork(path string, network *v1alpha1.GatewayNetworkSpec) {
	if network != nil {
		f.checkEndpoint(path+".external", network.External)
		f.checkEndpoint(path+".internal", network.Internal)
	}
}

func (f *findings) checkEndpoint(path string, endpoint *v1alpha1.GatewayEndpointSpec) {
	if endpoint != nil {
		f.warnUnlessSet(path+".name", endpoint.Name)
		f.warnUnlessSet(path+".namespace", endpoint.Namespace)
		f.checkListener(path+".http", endpoint.HTTP)
		f.checkListener(path+".https", endpoint.HTTPS)
		f.checkListener(path+".tls", endpoint.TLS)
	}
}

func (f *findings) checkListener(path string, listener *v1alpha1.GatewayListenerSpec) {
	if listener != nil {
		f.warnUnlessSet(path+".host", listener.Host)
		if validation.IsValidPortNum(int(listener.Port)) != nil {
			f.refuse(field.ErrorTypeInvalid, path+".port", "must be 1 to 65535")
		}
	}
}

func (f *findings) checkSecretStore(dp *v1alpha1.DataPlane) {
	if store := dp.Spec.SecretStoreRef; store != nil {
		f.warnUnlessSet("spec.secretStoreRef.name", store.Name)
	}
}

func (f *findings) checkObservabilityPlane(dp *v1alpha1.DataPlane) {
	const path, namespaced, cluster = "spec.observabilityPlaneRef", "ObservabilityPlane", "ClusterObservabilityPlane"
	ref := dp.Spec.ObservabilityPlaneRef
	if ref == nil {
		return
	}
	switch {
	case ref.Kind == cluster:
	case dp.Namespace == "":
		f.refuse(field.ErrorTypeNotSupported, path+".kind", "must be "+cluster+" in a ClusterDataPlane")
	case ref.Kind != namespaced:
		f.refuse(field.ErrorTypeNotSupported, path+".kind", "must be "+namespaced+" or "+cluster)
	}
	f.refuse(field.ErrorTypeInvalid, path+".name", validation.IsDNS1123Label(ref.Name)...)
}

// checkLeftovers warns of fields of OpenChoreo v0.3 beside a clusterAgent.
func (f *findings) checkLeftovers(dp *v1alpha1.DataPlane) {
	const dropped = "API servers of OpenChoreo v1 drop it"
	spec := &dp.Spec
	f.warnIf(spec.KubernetesCluster != v1alpha1.KubernetesClusterSpec{}, "spec.kubernetesCluster",
		dropped+", and those of v0.3 drop spec.clusterAgent: keep one of them")
	f.warnIf(spec.Registry != v1alpha1.Registry{}, "spec.registry", dropped)
	f.warnIf(spec.Observer != nil, "spec.observer", dropped)
	f.warnIf(spec.Gateway.PublicVirtualHost != "", "spec.gateway.publicVirtualHost", dropped)
	f.warnIf(spec.Gateway.OrganizationVirtualHost != "", "spec.gateway.organizationVirtualHost", dropped)
}
