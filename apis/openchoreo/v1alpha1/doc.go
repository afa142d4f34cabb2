// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +groupName=openchoreo.dev
// +groupGoName=OpenChoreo

// Package v1alpha1 has the Go types of DataPlane and ClusterDataPlane (openchoreo.dev/v1alpha1).
// Each describes a cluster that runs OpenChoreo's workloads.
//
// DataPlane has the fields of two shapes, which share one API version. In OpenChoreo v0.3, a
// DataPlane holds the address of the cluster's API server, credentials for it, its image
// registry, the host names of its gateway, and the service that answers queries for its logs.
// In v1, an agent connects from the cluster to OpenChoreo's cluster gateway, and the object
// says how the gateway authenticates the agent. Reading and updating an object with these types
// keeps either shape. Objects of OpenChoreo v0.4 to v0.17 can be read, but an Update with these
// types erases some of their fields.
//
// Since v1, installers create a ClusterDataPlane, which all namespaces use. Functions that take
// a DataPlane take the result of [ClusterDataPlane.AsDataPlane].
//
// Two fields of v0.3 are secrets: the client key of the target cluster and the password of the
// observer. Everyone who can read such a DataPlane can act in its cluster. Formatting or logging
// a DataPlane hides its secrets; see [DataPlane.Redacted] for the exceptions.
//
// The package depends on k8s.io/apimachinery only. Typed clients, informers, listers and apply
// configurations are in other packages of this module; package helpers builds a rest.Config from
// a DataPlane and reads its conditions.
package v1alpha1
