// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +groupName=openchoreo.dev
// +groupGoName=OpenChoreo

// Package v1alpha1 has the Go types of the DataPlane resource of the
// openchoreo.dev API group, version v1alpha1.
//
// A DataPlane describes a cluster in which OpenChoreo runs workloads: the address
// of its API server and credentials for it, its image registry, the host names of
// its gateway, and the service that answers queries for its logs. The types are
// the wire format of OpenChoreo v0.3. Later releases move and add fields under
// the same version; an Update with these types erases those.
//
// Two fields are secrets: the client key of the target cluster and the password
// of the observer. Everyone who may read a DataPlane can act in the cluster that
// it describes. Formatting or logging a DataPlane hides its secrets; see
// [DataPlane.Redacted] for the exceptions.
//
// The package depends on k8s.io/apimachinery only. Typed clients, informers,
// listers and apply configurations are in other packages of this module; package
// helpers builds a rest.Config from a DataPlane and reads its conditions.
package v1alpha1
