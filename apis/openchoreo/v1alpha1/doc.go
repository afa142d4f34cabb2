// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +groupName=openchoreo.dev
// +groupGoName=OpenChoreo

// Package v1alpha1 has the Go types of the DataPlane and ClusterDataPlane resources of
// the openchoreo.dev API group, version v1alpha1.
//
// Either describes a cluster in which OpenChoreo runs workloads. The version has two
// shapes, and DataPlane has the fields of both: in OpenChoreo v0.3, a DataPlane holds the
// address of the cluster's API server and credentials for it, its image registry, the host
// names of its gateway, and the service that answers queries for its logs. Since v1, an
// agent connects from the cluster to OpenChoreo's cluster gateway, and the object says
// how that agent is recognized. A read and an Update with these types keep either shape.
// Objects of OpenChoreo v0.4 to v0.17, which nobody supports any more, can be read; an
// Update with these types erases fields of them.
//
// Since v1, installers create a ClusterDataPlane, which all namespaces use; see
// [ClusterDataPlane.AsDataPlane] for what takes a DataPlane.
//
// Two fields of v0.3 are secrets: the client key of the target cluster and the password
// of the observer. Everyone who may read such a DataPlane can act in the cluster that
// it describes. Formatting or logging a DataPlane hides its secrets; see
// [DataPlane.Redacted] for the exceptions.
//
// The package depends on k8s.io/apimachinery only. Typed clients, informers,
// listers and apply configurations are in other packages of this module; package
// helpers builds a rest.Config from a DataPlane and reads its conditions.
package v1alpha1
