// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package crds_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
)

func TestDataPlaneIsTheDefinition(t *testing.T) {
	var crd unstructured.Unstructured
	require.NoError(t, yaml.Unmarshal(crds.DataPlane(), &crd.Object))
	assert.Equal(t, "CustomResourceDefinition", crd.GetKind())
	assert.Equal(t, "apiextensions.k8s.io/v1", crd.GetAPIVersion())
	assert.Equal(t, crds.DataPlaneName, crd.GetName())
}

func TestCallersOwnTheBytes(t *testing.T) {
	clear(crds.DataPlane())
	assert.NotZero(t, crds.DataPlane()[0])
}
