// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crds holds the CustomResourceDefinition of DataPlane, for tests and
// tools that install it. It depends on the standard library alone.
//
// Clusters that run OpenChoreo already serve this resource, some of them in a
// later shape; replacing a definition there is the business of whoever runs
// OpenChoreo, not of a program that uses this module.
package crds

import (
	_ "embed"
	"slices"
)

// DataPlaneName is the name of the CustomResourceDefinition of DataPlane.
const DataPlaneName = "dataplanes.openchoreo.dev"

//go:embed openchoreo.dev_dataplanes.yaml
var dataPlane []byte

// DataPlane returns the CustomResourceDefinition of DataPlane
// (apiextensions.k8s.io/v1) as one YAML document. The caller owns the bytes.
func DataPlane() []byte {
	return slices.Clone(dataPlane)
}
