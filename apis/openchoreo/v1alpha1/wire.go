// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"encoding/json"
)

// MarshalJSON writes the shape that the spec has. One without a clusterAgent is written with
// all required fields of OpenChoreo v0.3, empty or not. One with a clusterAgent, as in v1, is
// written without those of them that are empty, which an API server of v1 doesn't know, but
// always with a gateway.
func (in DataPlaneSpec) MarshalJSON() ([]byte, error) {
	type plain DataPlaneSpec // has no methods
	if in.ClusterAgent == nil {
		return json.Marshal(plain(in))
	}
	// encoding/json prefers the fields of the struct to those that it embeds.
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

// UnmarshalJSON reads the reference, or, as OpenChoreo v0.9 to v0.17 wrote it, the name alone.
func (in *ObservabilityPlaneRef) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		in.Kind = ""
		return json.Unmarshal(data, &in.Name)
	}
	type plain ObservabilityPlaneRef // has no methods
	return json.Unmarshal(data, (*plain)(in))
}
