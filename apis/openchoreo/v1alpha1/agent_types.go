// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterAgentConfig configures how OpenChoreo's cluster gateway authenticates the
// agent of a data plane.
type ClusterAgentConfig struct {
	// clientCA is the CA certificates, in PEM, that verify the agent's client
	// certificate. Not secret.
	// +required
	ClientCA ValueFrom `json:"clientCA"`
}

// ValueFrom is a value or a reference to one.
type ValueFrom struct {
	// secretKeyRef selects the key of a Secret that holds the value. Not secret.
	// +optional
	SecretKeyRef *SecretKeyReference `json:"secretKeyRef,omitempty"`

	// value is the value in plain text. Not secret.
	// +optional
	Value string `json:"value,omitempty"`
}

// SecretKeyReference selects a key of a Secret in the cluster that stores the
// referring object.
type SecretKeyReference struct {
	// name is the name of the Secret. Not secret.
	// +required
	Name string `json:"name"`

	// namespace is the namespace of the Secret. Defaults to the namespace of the
	// referring object. Not secret.
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// key is the key in the Secret's data. Not secret.
	// +required
	Key string `json:"key"`
}

// SecretStoreRef names a secret store of the target cluster.
type SecretStoreRef struct {
	// name is the name of the secret store. Not secret.
	// +required
	Name string `json:"name"`
}

// ObservabilityPlaneRef names an ObservabilityPlane in the namespace of the
// DataPlane, or a ClusterObservabilityPlane.
type ObservabilityPlaneRef struct {
	// kind is the kind of the observability plane. It is empty in Go if the object
	// holds only a name, as OpenChoreo v0.8 to v0.14 wrote it. Not secret.
	// +required
	// +kubebuilder:validation:Enum=ObservabilityPlane;ClusterObservabilityPlane
	Kind string `json:"kind"`

	// name is the name of the observability plane. Not secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
}

// AgentConnectionStatus describes the connections of a data plane's agents to
// OpenChoreo's cluster gateway.
type AgentConnectionStatus struct {
	// connected is true if at least one agent was connected at OpenChoreo's last
	// check, which may be long ago: see lastHeartbeatTime. Not secret.
	// +required
	Connected bool `json:"connected"`

	// connectedAgents is the number of connected agents. Not secret.
	// +required
	ConnectedAgents int `json:"connectedAgents"`

	// lastConnectedTime is when an agent last connected. Not secret.
	// +optional
	LastConnectedTime *metav1.Time `json:"lastConnectedTime,omitempty"`

	// lastDisconnectedTime is when the last agent disconnected. Not secret.
	// +optional
	LastDisconnectedTime *metav1.Time `json:"lastDisconnectedTime,omitempty"`

	// lastHeartbeatTime is when the cluster gateway last heard from an agent. Not
	// secret.
	// +optional
	LastHeartbeatTime *metav1.Time `json:"lastHeartbeatTime,omitempty"`

	// message describes the connection for people. Not secret.
	// +optional
	Message string `json:"message,omitempty"`
}
