// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the typed clients for DataPlanes and ClusterDataPlanes, which a
// clientset contains.
package v1alpha1
