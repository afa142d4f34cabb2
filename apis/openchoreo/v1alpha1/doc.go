// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +groupName=openchoreo.dev
// +groupGoName=OpenChoreo

// Package v1alpha1 holds the Go types of the DataPlane resource of the
// openchoreo.dev API group, version v1alpha1.
//
// A DataPlane describes a cluster in which OpenChoreo runs workloads: how to
// reach its API server, where its images are kept, which host names its gateway
// serves, and where its logs can be queried. The types are the wire format that
// clusters store; they validate nothing beyond what the API server does.
//
// Two of the fields are secrets: the client key of the target cluster and the
// password of the observer. Everyone who may read a DataPlane may act in the
// cluster that it describes.
//
// The package depends on k8s.io/apimachinery alone. Typed clients, informers,
// listers and apply configurations for it are in the sibling packages of this
// module; what is built from a DataPlane, such as a rest.Config, is in helpers.
package v1alpha1
