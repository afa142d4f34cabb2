// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=clusterdataplanes,singular=clusterdataplane,scope=Cluster,shortName=cdp;cdps
// +kubebuilder:printcolumn:name="Plane ID",type=string,JSONPath=`.spec.planeID`,description="Name under which the agents register at the cluster gateway"
// +kubebuilder:printcolumn:name="Agent",type=boolean,JSONPath=`.status.agentConnection.connected`,description="Whether an agent is connected"
// +kubebuilder:printcolumn:name="Created",type=string,JSONPath=`.status.conditions[?(@.type=="Created")].status`,description="Whether OpenChoreo has accepted the object"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// ClusterDataPlane describes a cluster that runs workloads of all namespaces.
// OpenChoreo has this kind since v0.14. An agent connects from the cluster, so the
// object contains no secrets.
type ClusterDataPlane struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of the data plane. Not secret.
	// +optional
	Spec ClusterDataPlaneSpec `json:"spec,omitempty"`

	// status is the state that controllers last observed. Only writes to the status
	// subresource change it. Not secret.
	// +optional
	Status DataPlaneStatus `json:"status,omitempty"`
}

// ClusterDataPlaneSpec is the desired state of a ClusterDataPlane.
type ClusterDataPlaneSpec struct {
	// planeID is the name under which the agents of the target cluster register at
	// OpenChoreo's cluster gateway. Several objects may share a planeID. Not secret.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	PlaneID string `json:"planeID"`

	// clusterAgent configures how OpenChoreo's cluster gateway authenticates the
	// agent of the target cluster. Not secret.
	// +required
	ClusterAgent ClusterAgentConfig `json:"clusterAgent"`

	// gateway names the gateways of the target cluster and their listeners. Not
	// secret.
	// +optional
	Gateway *ClusterDataPlaneGateway `json:"gateway,omitempty"`

	// secretStoreRef names the secret store of the target cluster from which
	// workloads get their secrets. Not secret.
	// +optional
	SecretStoreRef *SecretStoreRef `json:"secretStoreRef,omitempty"`

	// observabilityPlaneRef names the ClusterObservabilityPlane that collects the
	// logs and metrics of the data plane. Not secret.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.kind == 'ClusterObservabilityPlane'",message="a ClusterDataPlane may refer to a ClusterObservabilityPlane only",fieldPath=".kind"
	ObservabilityPlaneRef *ObservabilityPlaneRef `json:"observabilityPlaneRef,omitempty"`
}

// ClusterDataPlaneGateway names the gateways of a ClusterDataPlane and their
// listeners.
type ClusterDataPlaneGateway struct {
	// ingress is the gateways for traffic to workloads. Not secret.
	// +optional
	Ingress *GatewayNetworkSpec `json:"ingress,omitempty"`

	// egress is the gateways for traffic from workloads. Not secret.
	// +optional
	Egress *GatewayNetworkSpec `json:"egress,omitempty"`
}

// AsDataPlane returns a DataPlane for the functions of package helpers: an independent copy
// of the ClusterDataPlane's metadata, spec and status, with an empty kind. Its empty
// namespace marks it as a ClusterDataPlane, since API servers store no DataPlane without a
// namespace. It returns nil for nil.
func (in *ClusterDataPlane) AsDataPlane() *DataPlane {
	if in == nil {
		return nil
	}
	in = in.DeepCopy()
	out := &DataPlane{
		ObjectMeta: in.ObjectMeta,
		Spec: DataPlaneSpec{
			PlaneID:               in.Spec.PlaneID,
			ClusterAgent:          &in.Spec.ClusterAgent,
			SecretStoreRef:        in.Spec.SecretStoreRef,
			ObservabilityPlaneRef: in.Spec.ObservabilityPlaneRef,
		},
		Status: in.Status,
	}
	out.Namespace = ""
	if gateway := in.Spec.Gateway; gateway != nil {
		out.Spec.Gateway.Ingress, out.Spec.Gateway.Egress = gateway.Ingress, gateway.Egress
	}
	return out
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// ClusterDataPlaneList is a list of ClusterDataPlanes.
type ClusterDataPlaneList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list's metadata.
	// More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the ClusterDataPlanes.
	Items []ClusterDataPlane `json:"items"`
}
