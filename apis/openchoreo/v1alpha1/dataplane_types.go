// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=dataplanes,singular=dataplane,scope=Namespaced,shortName=dp;dps
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.kubernetesCluster.name`,description="Name of the target cluster"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether workloads may be placed here"
// +kubebuilder:printcolumn:name="Connected",type=string,JSONPath=`.status.conditions[?(@.type=="Connected")].status`,description="Whether the target cluster answers"
// +kubebuilder:printcolumn:name="Plane ID",type=string,JSONPath=`.spec.planeID`,description="Name under which the agents register at the cluster gateway"
// +kubebuilder:printcolumn:name="Agent",type=boolean,JSONPath=`.status.agentConnection.connected`,description="Whether an agent is connected"
// +kubebuilder:printcolumn:name="Created",type=string,JSONPath=`.status.conditions[?(@.type=="Created")].status`,description="Whether OpenChoreo has accepted the object"
// +kubebuilder:printcolumn:name="Gateway",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="GatewayProvisioned")].status`,description="Whether the gateway is configured"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// DataPlane describes a cluster that runs workloads: how to reach it, its image
// registry, its gateway and its observer. In the shape of OpenChoreo v0.3, it
// contains secrets: everyone who can read the DataPlane can act in its cluster.
type DataPlane struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of the data plane. Contains secrets.
	// +optional
	Spec DataPlaneSpec `json:"spec,omitempty"`

	// status is the state that controllers last observed. Only writes to the status
	// subresource change it. Not secret.
	// +optional
	Status DataPlaneStatus `json:"status,omitempty"`
}

// AsDataPlane returns in, for code that takes either kind.
func (in *DataPlane) AsDataPlane() *DataPlane { return in }

// DataPlaneSpec is the desired state of a DataPlane. It has the fields of two
// shapes, which share one API version: a DataPlane with a clusterAgent has the
// shape of OpenChoreo v1, any other the shape of v0.3. Fields that a stored object
// lacks stay absent in JSON, except for the gateway of v1, which OpenChoreo's
// controllers always write too.
type DataPlaneSpec struct {
	// kubernetesCluster is the target cluster: its name, the address of its API
	// server and credentials for it. Only OpenChoreo v0.3 has this field. Contains a
	// secret.
	// +required
	KubernetesCluster KubernetesClusterSpec `json:"kubernetesCluster"`

	// registry holds the container images of the data plane. Only OpenChoreo v0.3 has
	// this field. Not secret: it refers to credentials by name.
	// +required
	Registry Registry `json:"registry"`

	// gateway describes the gateways of the target cluster: host names in OpenChoreo
	// v0.3, listeners in v1. Not secret.
	// +required
	Gateway GatewaySpec `json:"gateway"`

	// observer is the service that answers queries for logs of the data plane. When
	// absent, the data plane has no observer. Only OpenChoreo v0.3 has this field.
	// Contains a secret.
	// +optional
	Observer *ObserverAPI `json:"observer,omitempty"`

	// planeID is the name under which the agents of the target cluster register at
	// OpenChoreo's cluster gateway. Defaults to the name of the DataPlane. Several
	// DataPlanes may share a planeID. Not secret.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	PlaneID string `json:"planeID,omitempty"`

	// clusterAgent configures how OpenChoreo's cluster gateway authenticates the
	// agent of the target cluster. OpenChoreo v1 requires it. Not secret.
	// +optional
	ClusterAgent *ClusterAgentConfig `json:"clusterAgent,omitempty"`

	// secretStoreRef names the secret store of the target cluster from which
	// workloads get their secrets. Not secret.
	// +optional
	SecretStoreRef *SecretStoreRef `json:"secretStoreRef,omitempty"`

	// observabilityPlaneRef names the observability plane that collects the logs
	// and metrics of the data plane. Not secret.
	// +optional
	ObservabilityPlaneRef *ObservabilityPlaneRef `json:"observabilityPlaneRef,omitempty"`
}

// KubernetesClusterSpec describes the cluster that runs workloads.
type KubernetesClusterSpec struct {
	// name is a name of the target cluster for people: free text that identifies
	// nothing and need not be unique. Not secret.
	// +required
	Name string `json:"name"`

	// credentials are the address of the target cluster's API server and a client
	// certificate for it. Contains a secret.
	// +required
	Credentials APIServerCredentials `json:"credentials"`
}

// APIServerCredentials holds the address of an API server, and the certificates
// and the key for mutual TLS.
type APIServerCredentials struct {
	// apiServerURL is the base URL of the API server of the target cluster, such
	// as "https://k8s-api.example.com:6443". Not secret.
	// +required
	APIServerURL string `json:"apiServerURL"`

	// caCert is the CA certificates that verify the API server's certificate: one or
	// more in PEM, base64-encoded as a whole (standard alphabet, padded). Not secret.
	// +required
	CACert string `json:"caCert"`

	// clientCert is the PEM client certificate to present to the API server, with
	// any intermediates after it, base64-encoded as a whole (standard alphabet,
	// padded). Its subject is the user in the target cluster. Not secret: useless
	// without clientKey.
	// +required
	ClientCert string `json:"clientCert"`

	// clientKey is the unencrypted PEM private key of clientCert, base64-encoded
	// (standard alphabet, padded). SECRET: its holder can act in the target
	// cluster as the subject of clientCert until that certificate expires.
	// +required
	ClientKey string `json:"clientKey"`
}

// Registry holds the container images of a data plane.
type Registry struct {
	// prefix is the start of every image name: a registry's host and a path, such as
	// "docker.io/myorg". Not secret.
	// +required
	Prefix string `json:"prefix"`

	// secretRef is the name of the image pull Secret in the namespace of the
	// workload. When absent or empty, images are pulled without credentials. Not
	// secret: a name only.
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
}

// ObserverAPI is the service that answers queries for logs of a data plane.
type ObserverAPI struct {
	// url is the base URL of the observer, such as "https://observer.example.com".
	// Not secret.
	// +required
	URL string `json:"url"`

	// authentication is how to authenticate to the observer. Contains a secret.
	// +required
	Authentication ObserverAuthentication `json:"authentication"`
}

// ObserverAuthentication is how to authenticate to an observer.
type ObserverAuthentication struct {
	// basicAuth is the user name and password for HTTP basic authentication (RFC
	// 7617). Contains a secret.
	// +required
	BasicAuth BasicAuthCredentials `json:"basicAuth"`
}

// BasicAuthCredentials is a user name and password for HTTP basic authentication.
type BasicAuthCredentials struct {
	// username is the user name, in plain text. Not secret.
	// +required
	Username string `json:"username"`

	// password is the password, in plain text. SECRET.
	// +required
	Password string `json:"password"`
}

// DataPlaneStatus is the state of a DataPlane or ClusterDataPlane that
// controllers last observed.
type DataPlaneStatus struct {
	// observedGeneration is the metadata.generation that the status describes. 0 or
	// absent means not reported, never that the status is out of date. Not secret.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are the latest observations of the state, at most one per type.
	// The types "Ready", "Connected" and "GatewayProvisioned" have a fixed
	// meaning; controllers may add others. Not secret.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// agentConnection is the state of the connections of the target cluster's agents.
	// OpenChoreo v1 updates it about once a minute. Absent until first reported. Not
	// secret.
	// +optional
	AgentConnection *AgentConnectionStatus `json:"agentConnection,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// DataPlaneList is a list of DataPlanes.
type DataPlaneList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list's metadata.
	// More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the DataPlanes.
	Items []DataPlane `json:"items"`
}
