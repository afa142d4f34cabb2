// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crds has the CustomResourceDefinition of DataPlane, for tests and tools
// that install it:
//
//	crd := &apiextensionsv1.CustomResourceDefinition{}
//	err := yaml.Unmarshal(crds.DataPlane(), crd)
//
// It depends on the standard library only.
//
// Don't replace the definition in a cluster that runs OpenChoreo: its release may
// serve a later shape of the resource.
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
