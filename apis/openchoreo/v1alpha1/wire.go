// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"encoding/json"
)

// MarshalJSON writes a spec without a clusterAgent in the shape of OpenChoreo v0.3, with all
// fields required there, even empty ones. It writes a spec with a clusterAgent in the shape of
// v1: without empty v0.3 fields, which API servers of v1 don't know, but always with a gateway.
func (in DataPlaneSpec) MarshalJSON() ([]byte, error) {
	type plain DataPlaneSpec // has no methods
	if in.ClusterAgent == nil {
		return json.Marshal(plain(in))
	}
	// encoding/json prefers a struct's own fields to embedded ones of the same name.
	type gateway struct {
		PublicVirtualHost       string `json:"publicVirtualHost,omitempty"`
		OrganizationVirtualHost string `json:"organizationVirtualHost,omitempty"`
		GatewaySpec
	}
	return json.Marshal(struct {
		KubernetesCluster KubernetesClusterSpec `json:"kubernetesCluster,omitzero"`
		Registry          Registry              `json:"registry,omitzero"`
		Gateway           gateway               `json:"gateway"`
		plain
	}{
		KubernetesCluster: in.KubernetesCluster,
		Registry:          in.Registry,
		Gateway: gateway{
			PublicVirtualHost:       in.Gateway.PublicVirtualHost,
			OrganizationVirtualHost: in.Gateway.OrganizationVirtualHost,
			GatewaySpec:             in.Gateway,
		},
		plain: plain(in),
	})
}

// UnmarshalJSON reads a reference, or only a name, as OpenChoreo v0.8 to v0.14 wrote it.
func (in *ObservabilityPlaneRef) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		in.Kind = ""
		return json.Unmarshal(data, &in.Name)
	}
	type plain ObservabilityPlaneRef // has no methods
	return json.Unmarshal(data, (*plain)(in))
}
