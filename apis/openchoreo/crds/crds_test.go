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

func TestDefinitions(t *testing.T) {
	for name, test := range map[string]struct {
		definition func() []byte
		crd, scope string
	}{
		"DataPlane":        {crds.DataPlane, crds.DataPlaneName, "Namespaced"},
		"DataPlaneV1":      {crds.DataPlaneV1, crds.DataPlaneName, "Namespaced"},
		"ClusterDataPlane": {crds.ClusterDataPlane, crds.ClusterDataPlaneName, "Cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			var crd unstructured.Unstructured
			require.NoError(t, yaml.Unmarshal(test.definition(), &crd.Object))
			assert.Equal(t, "CustomResourceDefinition", crd.GetKind())
			assert.Equal(t, "apiextensions.k8s.io/v1", crd.GetAPIVersion())
			assert.Equal(t, test.crd, crd.GetName())
			scope, _, err := unstructured.NestedString(crd.Object, "spec", "scope")
			require.NoError(t, err)
			assert.Equal(t, test.scope, scope)

			clear(test.definition())
			assert.NotZero(t, test.definition()[0], "callers own the bytes")
		})
	}
}
