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

// ClusterDataPlane describes a cluster in which workloads of all namespaces run.
// OpenChoreo has it since v1, and reaches the cluster through an agent that
// connects from there, so it contains no secrets.
type ClusterDataPlane struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state: the cluster and what belongs to it. Not secret.
	// +optional
	Spec ClusterDataPlaneSpec `json:"spec,omitempty"`

	// status is the state that controllers last observed. It is written through
	// the status subresource only. Not secret.
	// +optional
	Status DataPlaneStatus `json:"status,omitempty"`
}

// ClusterDataPlaneSpec is the desired state of a ClusterDataPlane.
type ClusterDataPlaneSpec struct {
	// planeID is the name under which the agents of the target cluster register at
	// OpenChoreo's cluster gateway. Several objects may share one. Not secret.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	PlaneID string `json:"planeID"`

	// clusterAgent is how OpenChoreo's cluster gateway recognizes the agent in the
	// target cluster. Not secret.
	// +required
	ClusterAgent ClusterAgentConfig `json:"clusterAgent"`

	// gateway is where the gateway of the target cluster serves workloads. Not
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

// ClusterDataPlaneGateway is where the gateway of a ClusterDataPlane serves
// workloads.
type ClusterDataPlaneGateway struct {
	// ingress is where workloads are reached. Not secret.
	// +optional
	Ingress *GatewayNetworkSpec `json:"ingress,omitempty"`

	// egress is where workloads reach others. Not secret.
	// +optional
	Egress *GatewayNetworkSpec `json:"egress,omitempty"`
}

// AsDataPlane returns the DataPlane that every function of package helpers takes for
// this ClusterDataPlane: one of the same name, metadata, spec and status, without a
// namespace, which no DataPlane of an API server lacks. It is an independent copy: changing
// it changes no ClusterDataPlane. Its kind is left empty. Of nil, it returns nil.
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
