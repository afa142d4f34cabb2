// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// GatewaySpec is where the gateway of a DataPlane serves workloads. OpenChoreo
// v0.3 has the two hosts, v1 has ingress and egress.
type GatewaySpec struct {
	// publicVirtualHost is the DNS name under which workloads are reached from
	// everywhere, such as "api.example.com". Not secret.
	// +required
	PublicVirtualHost string `json:"publicVirtualHost"`

	// organizationVirtualHost is the DNS name under which workloads are reached
	// from inside the organization, such as "internal.example.com". Not secret.
	// +required
	OrganizationVirtualHost string `json:"organizationVirtualHost"`

	// ingress is where workloads are reached. Not secret.
	// +optional
	Ingress *GatewayNetworkSpec `json:"ingress,omitempty"`

	// egress is where workloads reach others. Not secret.
	// +optional
	Egress *GatewayNetworkSpec `json:"egress,omitempty"`
}

// GatewayNetworkSpec is the gateways for one direction of traffic.
type GatewayNetworkSpec struct {
	// external is the gateway for traffic with everywhere. Not secret.
	// +optional
	External *GatewayEndpointSpec `json:"external,omitempty"`

	// internal is the gateway for traffic inside the organization. Not secret.
	// +optional
	Internal *GatewayEndpointSpec `json:"internal,omitempty"`
}

// GatewayEndpointSpec is a Gateway resource of the target cluster and its
// listeners.
type GatewayEndpointSpec struct {
	// name is the name of the Gateway. Not secret.
	// +required
	Name string `json:"name"`

	// namespace is the namespace of the Gateway. Not secret.
	// +required
	Namespace string `json:"namespace"`

	// http is the listener for HTTP. When absent, there is none. Not secret.
	// +optional
	HTTP *GatewayListenerSpec `json:"http,omitempty"`

	// https is the listener for HTTPS. When absent, there is none. Not secret.
	// +optional
	HTTPS *GatewayListenerSpec `json:"https,omitempty"`

	// tls is the listener for other protocols over TLS. When absent, there is none.
	// Not secret.
	// +optional
	TLS *GatewayListenerSpec `json:"tls,omitempty"`
}

// GatewayListenerSpec is a listener of a Gateway, as clients reach it.
type GatewayListenerSpec struct {
	// listenerName is the name of the listener in the Gateway. Not secret.
	// +optional
	ListenerName string `json:"listenerName,omitempty"`

	// port is the port that clients connect to. Not secret.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// host is the DNS name under which, or below which, workloads are reached. Not
	// secret.
	// +required
	Host string `json:"host"`
}
