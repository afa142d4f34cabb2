// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the informers of openchoreo.dev/v1alpha1. Programs get them from a
// factory of package externalversions.
package v1alpha1
