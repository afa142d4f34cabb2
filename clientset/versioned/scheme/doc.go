// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scheme has the scheme of the clientset, which knows DataPlanes and
// ClusterDataPlanes.
package scheme
