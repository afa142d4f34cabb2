// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// GatewaySpec describes the gateways of a DataPlane. OpenChoreo v0.3 has the two
// virtual hosts, v1 has ingress and egress.
type GatewaySpec struct {
	// publicVirtualHost is the DNS name of workloads for public traffic, such as
	// "api.example.com". Not secret.
	// +required
	PublicVirtualHost string `json:"publicVirtualHost"`

	// organizationVirtualHost is the DNS name of workloads for traffic inside the
	// organization, such as "internal.example.com". Not secret.
	// +required
	OrganizationVirtualHost string `json:"organizationVirtualHost"`

	// ingress is the gateways for traffic to workloads. Not secret.
	// +optional
	Ingress *GatewayNetworkSpec `json:"ingress,omitempty"`

	// egress is the gateways for traffic from workloads. Not secret.
	// +optional
	Egress *GatewayNetworkSpec `json:"egress,omitempty"`
}

// GatewayNetworkSpec names the gateways for one direction of traffic.
type GatewayNetworkSpec struct {
	// external is the gateway for public traffic. Not secret.
	// +optional
	External *GatewayEndpointSpec `json:"external,omitempty"`

	// internal is the gateway for traffic inside the organization. Not secret.
	// +optional
	Internal *GatewayEndpointSpec `json:"internal,omitempty"`
}

// GatewayEndpointSpec names a Gateway resource of the target cluster and its
// listeners.
type GatewayEndpointSpec struct {
	// name is the name of the Gateway. Not secret.
	// +required
	Name string `json:"name"`

	// namespace is the namespace of the Gateway. Not secret.
	// +required
	Namespace string `json:"namespace"`

	// http is the listener for HTTP, if any. Not secret.
	// +optional
	HTTP *GatewayListenerSpec `json:"http,omitempty"`

	// https is the listener for HTTPS, if any. Not secret.
	// +optional
	HTTPS *GatewayListenerSpec `json:"https,omitempty"`

	// tls is the listener for other protocols over TLS, if any. Not secret.
	// +optional
	TLS *GatewayListenerSpec `json:"tls,omitempty"`
}

// GatewayListenerSpec is the address at which clients reach a listener of a Gateway.
type GatewayListenerSpec struct {
	// listenerName is the name of the listener in the Gateway. Not secret.
	// +optional
	ListenerName string `json:"listenerName,omitempty"`

	// port is the port that clients connect to. Not secret.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// host is the DNS name of workloads, or the parent domain of their names. Not
	// secret.
	// +required
	Host string `json:"host"`
}
