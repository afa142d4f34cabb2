// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
)

func testCreateDropsStatus(t *testing.T, s *space) {
	dp := s.New("prod")
	SetConditions(&dp.Status)
	created := s.create(t, dp)
	assert.Zero(t, created.Status)
}

func testUpdateLeavesStatus(t *testing.T, s *space) {
	s.create(t, s.New("prod"))
	dp := s.setStatus(t, "prod", SetConditions)
	want := dp.Status.DeepCopy()

	dp.Status = v1alpha1.DataPlaneStatus{ObservedGeneration: 9}
	s.Required.Set(dp, "other")
	updated, err := s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, "other", s.Required.Get(updated))
	assert.Equal(t, *want, updated.Status)
}

func testUpdateStatusLeavesRest(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	changed := dp.DeepCopy()
	changed.Labels = map[string]string{"tier": "gold"}
	s.Required.Set(changed, "other")
	SetConditions(&changed.Status)
	updated, err := s.dataPlanes.UpdateStatus(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, changed.Status, updated.Status)
	assert.Equal(t, dp.Spec, updated.Spec)
	assert.Empty(t, updated.Labels)
	AssertSame(t, updated, s.get(t, "prod"))
}

func testPatchStatus(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	patch := Put(s.Required.In("other"), 1, "status", "observedGeneration")
	patched, err := s.patch(t.Context(), "prod", types.MergePatchType, patch, "status")
	require.NoError(t, err)
	assert.EqualValues(t, 1, patched.Status.ObservedGeneration)
	assert.Equal(t, dp.Spec, patched.Spec)
}

func testStaleStatusUpdate(t *testing.T, s *space) {
	stale := s.create(t, s.New("prod"))
	s.setStatus(t, "prod", SetConditions)
	stale.Status.ObservedGeneration = 9
	_, err := s.dataPlanes.UpdateStatus(t.Context(), stale, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
}

func testApplyLeavesStatus(t *testing.T, s *space) {
	s.create(t, s.New("prod"))
	want := s.setStatus(t, "prod", SetConditions).Status

	both := s.apply("prod", s.Required, "other").
		WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(9))
	applied, err := s.dataPlanes.Apply(t.Context(), both, ApplyByForce("one"))
	require.NoError(t, err)
	assert.Equal(t, "other", s.Required.Get(applied))
	assert.Equal(t, want, applied.Status)
	owned, err := s.Extract(applied, "one")
	require.NoError(t, err)
	assert.Equal(t, s.apply("prod", s.Required, "other"), owned, "the manager doesn't own the status either")
}

func testApplyStatusLeavesRest(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	both := s.apply("prod", s.Required, "other").
		WithLabels(map[string]string{"tier": "gold"}).
		WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(1))
	applied, err := s.dataPlanes.ApplyStatus(t.Context(), both, ApplyByForce("one"))
	require.NoError(t, err)
	assert.EqualValues(t, 1, applied.Status.ObservedGeneration)
	assert.Equal(t, dp.Spec, applied.Spec)
	assert.Empty(t, applied.Labels)
	owned, err := s.ExtractStatus(applied, "one")
	require.NoError(t, err)
	assert.Equal(t, s.Configuration(s.namespace, "prod").
		WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(1)), owned, "the manager doesn't own the spec either")
}

func testGeneration(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	require.EqualValues(t, 1, dp.Generation)

	dp.Labels = map[string]string{"tier": "gold"}
	dp.Annotations = map[string]string{v1alpha1.AnnotationDescription: "For customers."}
	dp, err := s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, dp.Generation, "after a change of metadata")

	dp = s.setStatus(t, "prod", SetConditions)
	assert.EqualValues(t, 1, dp.Generation, "after a change of status")

	s.Required.Set(dp, "other")
	dp, err = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 2, dp.Generation, "after a change of spec")

	dp, err = s.dataPlanes.Apply(t.Context(), s.apply("prod", s.Required, "other"), ApplyByForce("one"))
	require.NoError(t, err)
	assert.EqualValues(t, 2, dp.Generation, "after the same spec again")

	dp, err = s.dataPlanes.Apply(t.Context(), s.apply("prod", s.Required, "third"), ApplyByForce("one"))
	require.NoError(t, err)
	assert.EqualValues(t, 3, dp.Generation, "after another spec was applied")
}
