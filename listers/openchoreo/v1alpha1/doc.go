// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the listers of DataPlanes and ClusterDataPlanes, which read from the
// caches of informers.
// The objects belong to the cache: copy one with DeepCopy before you modify it.
package v1alpha1
