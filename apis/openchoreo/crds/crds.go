// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crds has the CustomResourceDefinitions of DataPlane and ClusterDataPlane for
// tests and tools that install them:
//
//	crd := &apiextensionsv1.CustomResourceDefinition{}
//	err := yaml.Unmarshal(crds.DataPlane(), crd)
//
// DataPlane has two shapes under one name and version, and an API server serves one of
// them: [DataPlane] defines the shape of OpenChoreo v0.3, [DataPlaneV1] the shape of v1.
// Each function returns one YAML document (apiextensions.k8s.io/v1), whose bytes the
// caller owns.
//
// The package depends on the standard library only.
//
// Don't replace the definitions of a cluster that runs OpenChoreo, which installs its own.
package crds

import (
	_ "embed"
	"slices"
)

const (
	// DataPlaneName is the name of both CustomResourceDefinitions of DataPlane.
	DataPlaneName = "dataplanes.openchoreo.dev"

	// ClusterDataPlaneName is the name of the CustomResourceDefinition of ClusterDataPlane.
	ClusterDataPlaneName = "clusterdataplanes.openchoreo.dev"
)

var (
	//go:embed openchoreo.dev_dataplanes.yaml
	dataPlane []byte
	//go:embed openchoreo.dev_dataplanes_v1.yaml
	dataPlaneV1 []byte
	//go:embed openchoreo.dev_clusterdataplanes.yaml
	clusterDataPlane []byte
)

// DataPlane returns the definition of DataPlane in the shape of OpenChoreo v0.3, which
// holds credentials. An API server with this definition drops the fields of v1.
func DataPlane() []byte { return slices.Clone(dataPlane) }

// DataPlaneV1 returns the definition of DataPlane in the shape of OpenChoreo v1, which
// reaches the cluster through an agent. An API server with this definition drops the
// fields of v0.3.
func DataPlaneV1() []byte { return slices.Clone(dataPlaneV1) }

// ClusterDataPlane returns the definition of ClusterDataPlane, a kind of OpenChoreo v1.
func ClusterDataPlane() []byte { return slices.Clone(clusterDataPlane) }
