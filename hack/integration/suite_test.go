// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

func TestReadsAndWritesWithConditionsMergedByType(t *testing.T) {
	testReadsAndWrites(t, shared, false)
}

func TestReadsAndWritesOfV1(t *testing.T) {
	t.Parallel()
	p := ownPlane(t, crds.DataPlaneV1()) // on v1Plane, other tests create ClusterDataPlanes
	require.NoError(t, p.InstallCRDs(t.Context(), crds.ClusterDataPlane()))
	for _, kind := range behaviours.Kinds[1:] {
		t.Run(kind.Title, func(t *testing.T) { runBehaviours(t, p, kind, kind.Namespaced) })
	}
}

func runBehaviours(t *testing.T, p *plane, kind behaviours.Kind, atomicConditions bool) {
	behaviours.Run(t, behaviours.Server{
		Kind:             kind,
		Client:           p.openchoreo,
		NewNamespace:     func(t testing.TB) string { return p.space(t).namespace },
		AtomicConditions: atomicConditions,
	})
}

// testReadsAndWrites runs the tests for each CRD of DataPlane with the shape of OpenChoreo v0.3: the
// table of behaviours, which the fake of helpers/dataplanetest passes too, and the behaviours that
// only a real API server has.
func testReadsAndWrites(t *testing.T, p *plane, atomicConditions bool) {
	runBehaviours(t, p, behaviours.Kinds[0], atomicConditions)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *space)
	}{
		{"what is absent is not stored", testAbsentIsNotStored},
		{"apply creates nothing without the required fields", testApplyRequires},
		{"list comes in pages of one resource version", testPages},
		{"watch from a forgotten resource version is expired", testWatchExpired},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, p.space(t)) })
	}
}

func testAbsentIsNotStored(t *testing.T, s *space) {
	dp := behaviours.NewDataPlane("prod")
	behaviours.SetConditions(&dp.Status)
	s.create(t, dp)
	assert.NotContains(t, s.stored(t, "prod"), "status")

	withSecret := behaviours.ApplySpec(s.namespace, "applied")
	withSecret.Spec.Registry.WithSecretRef("registry-credentials")
	_, err := s.typed.Apply(t.Context(), withSecret, behaviours.ApplyAs("one"))
	require.NoError(t, err)
	assert.Contains(t, at(s.stored(t, "applied"), "spec", "registry"), "secretRef")
	_, err = s.typed.Apply(t.Context(), behaviours.ApplySpec(s.namespace, "applied"), behaviours.ApplyAs("one"))
	require.NoError(t, err)
	assert.NotContains(t, at(s.stored(t, "applied"), "spec", "registry"), "secretRef")
}

func testApplyRequires(t *testing.T, s *space) {
	_, err := s.typed.Apply(t.Context(), behaviours.ApplyPrefix(s.namespace, "prod", "docker.io/myorg"), behaviours.ApplyAs("one"))
	require.True(t, apierrors.IsInvalid(err), "%v", err)
}
