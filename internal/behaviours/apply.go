// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
)

func testApply(t *testing.T, s *space) {
	_, err := s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), metav1.ApplyOptions{})
	requireInvalid(t, err, "fieldManager")

	applied, err := s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), ApplyAs("one"))
	require.NoError(t, err, "apply creates an absent object")
	assert.Equal(t, s.New("prod").Spec, applied.Spec)
	AssertSame(t, applied, s.get(t, "prod"))

	again, err := s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), ApplyAs("one"))
	require.NoError(t, err)
	AssertSame(t, applied, again, "the same configuration again changes nothing")

	patch := fmt.Sprintf(`{"apiVersion": "openchoreo.dev/v1alpha1", "kind": %q,
		"metadata": {"name": "prod", "managedFields": [], "finalizers": ["example.com/a", "example.com/a"]}}`, s.Name)
	_, err = s.patch(t.Context(), "prod", types.ApplyPatchType, patch)
	require.True(t, apierrors.IsBadRequest(err), "managedFields are refused before anything else: %v", err)

	_, err = s.dataPlanes.ApplyStatus(t.Context(), s.applyConditions("absent"), ApplyAs("one"))
	require.True(t, apierrors.IsNotFound(err), "only an existing object's status can be applied: %v", err)
}

func testApplyConflict(t *testing.T, s *space) {
	_, err := s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), ApplyAs("one"))
	require.NoError(t, err)

	_, err = s.dataPlanes.Apply(t.Context(), s.apply("prod", s.Required, "two"), ApplyAs("two"))
	RequireApplyConflict(t, err, "one", s.Required.String())
	want := s.New("prod")
	assert.Equal(t, want.Spec, s.get(t, "prod").Spec)

	_, err = s.dataPlanes.Apply(t.Context(), s.apply("prod", s.Required, s.Required.Get(want)), ApplyAs("two"))
	require.NoError(t, err, "two managers may want the same value")

	both, err := s.dataPlanes.Apply(t.Context(), s.apply("prod", s.Optional, "some"), ApplyAs("three"))
	require.NoError(t, err, "another field is no conflict")
	s.Optional.Set(want, "some")
	assert.Equal(t, want.Spec, both.Spec)

	forced, err := s.dataPlanes.Apply(t.Context(), s.apply("prod", s.Required, "two"), ApplyByForce("two"))
	require.NoError(t, err)
	s.Required.Set(want, "two")
	assert.Equal(t, want.Spec, forced.Spec)

	_, err = s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), ApplyAs("one"))
	RequireApplyConflict(t, err, "two", s.Required.String())
}

func testApplyStale(t *testing.T, s *space) {
	stale := s.create(t, s.New("prod"))
	current := s.setStatus(t, "prod", SetConditions)
	_, err := s.dataPlanes.Apply(t.Context(),
		s.apply("prod", s.Required, "other").WithResourceVersion(stale.ResourceVersion), ApplyByForce("one"))
	require.True(t, apierrors.IsConflict(err), "%v", err)
	applied, err := s.dataPlanes.Apply(t.Context(),
		s.apply("prod", s.Required, "other").WithResourceVersion(current.ResourceVersion), ApplyByForce("one"))
	require.NoError(t, err)
	assert.Equal(t, "other", s.Required.Get(applied))
}

func testApplyRemoves(t *testing.T, s *space) {
	more := With(s.applySpec("prod"), s.Optional, "some").WithLabels(map[string]string{"tier": "gold"})
	applied, err := s.dataPlanes.Apply(t.Context(), more, ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, "some", s.Optional.Get(applied))

	applied, err = s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), ApplyAs("one"))
	require.NoError(t, err)
	assert.Empty(t, s.Optional.Get(applied))
	assert.Empty(t, applied.Labels)

	_, err = s.dataPlanes.Apply(t.Context(), more, ApplyAs("one"))
	require.NoError(t, err)
	patch := fmt.Sprintf(`{"apiVersion": "openchoreo.dev/v1alpha1", "kind": %q, "status": {"observedGeneration": 9}}`, s.Name)
	_, err = s.patch(t.Context(), "prod", types.ApplyPatchType, patch)
	require.True(t, apierrors.IsBadRequest(err), "without metadata, it removes even the name: %v", err)
}

func testApplyEmptyMetadata(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	watcher := s.watch(t, metav1.ListOptions{ResourceVersion: dp.ResourceVersion})
	for _, empty := range []string{`"labels": {}`, `"annotations": {}`, `"finalizers": []`} {
		patch := fmt.Sprintf(`{"apiVersion": "openchoreo.dev/v1alpha1", "kind": %q, "metadata": {"name": "prod", %s}}`, s.Name, empty)
		for range 3 {
			applied, err := s.patch(t.Context(), "prod", types.ApplyPatchType, patch)
			require.NoError(t, err)
			require.NotEqual(t, dp.ResourceVersion, applied.ResourceVersion, "%s is stored, but nobody gets it", empty)
			_, dp = next(t, watcher) // an API server whose cache lacks the last change compares only with what is stored
			AssertSame(t, applied, dp)
		}
	}
	dp, err := s.patch(t.Context(), "prod", types.MergePatchType, `{}`)
	require.NoError(t, err)
	same, err := s.patch(t.Context(), "prod", types.MergePatchType, `{}`)
	require.NoError(t, err)
	AssertSame(t, dp, same, "the empty values are gone")
}

func testApplyTime(t *testing.T, s *space) {
	spec := s.applySpec("prod")
	_, err := s.dataPlanes.Apply(t.Context(), spec, ApplyAs("one"))
	require.NoError(t, err)
	dp, err := s.dataPlanes.Apply(t.Context(), spec, ApplyAs("two"))
	require.NoError(t, err)
	old := metav1.Unix(1_700_000_000, 0)
	for i := range dp.ManagedFields {
		dp.ManagedFields[i].Time = &old
	}
	dp.Labels = map[string]string{"tier": "gold"} // API servers don't write an object if only times change
	dp, err = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "three"})
	require.NoError(t, err)

	again, err := s.dataPlanes.Apply(t.Context(), spec, ApplyAs("one"))
	require.NoError(t, err)
	AssertSame(t, dp, again, "the same configuration again changes no time")

	managers := func(dp *v1alpha1.DataPlane) (names []string) {
		for _, entry := range dp.ManagedFields {
			names = append(names, entry.Manager)
		}
		return names
	}
	spec.WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(9))
	again, err = s.dataPlanes.Apply(t.Context(), spec, ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, []string{"two", "one", "three"}, managers(again), "managers that apply are sorted by their times")
	assert.NotEqual(t, dp.ResourceVersion, again.ResourceVersion)
	assert.Equal(t, dp.Status, again.Status)
}

func testUpdateTakesFields(t *testing.T, s *space) {
	dp, err := s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), ApplyAs("one"))
	require.NoError(t, err)
	s.Required.Set(dp, "other")
	_, err = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "two"})
	require.NoError(t, err)
	_, err = s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), ApplyAs("one"))
	RequireApplyConflict(t, err, "two", s.Required.String())

	patch := Encode(s.Optional.In("some"))
	_, err = s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "three"})
	require.NoError(t, err)
	_, err = s.dataPlanes.Apply(t.Context(), s.apply("prod", s.Optional, "other"), ApplyAs("four"))
	RequireApplyConflict(t, err, "three", s.Optional.String())
}

func testExtract(t *testing.T, s *space) {
	dp, err := s.dataPlanes.Apply(t.Context(), s.applySpec("prod").WithLabels(map[string]string{"tier": "gold"}), ApplyAs("one"))
	require.NoError(t, err)
	s.Optional.Set(dp, "some")
	_, err = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "two"})
	require.NoError(t, err)

	extracted, err := s.Extract(s.get(t, "prod"), "one")
	require.NoError(t, err)
	assert.Equal(t, s.applySpec("prod").WithLabels(map[string]string{"tier": "gold"}), extracted)

	applied, err := s.dataPlanes.Apply(t.Context(), With(extracted, s.Required, "other"), ApplyAs("one"))
	require.NoError(t, err)
	want := s.New("prod")
	s.Required.Set(want, "other")
	s.Optional.Set(want, "some")
	assert.Equal(t, want.Spec, applied.Spec)
	assert.Equal(t, map[string]string{"tier": "gold"}, applied.Labels)

	nothing, err := s.Extract(applied, "two")
	require.NoError(t, err)
	assert.Equal(t, s.Configuration(s.namespace, "prod"), nothing, "fields of an update aren't extracted")
}

func testExtractStatus(t *testing.T, s *space) {
	s.create(t, s.New("prod"))
	status := s.applyConditions("prod", ApplyCondition("Ready", metav1.ConditionTrue), ApplyCondition("Connected", metav1.ConditionTrue))
	status.Status.WithObservedGeneration(1)
	dp, err := s.dataPlanes.ApplyStatus(t.Context(), status, ApplyAs("one"))
	require.NoError(t, err)

	extracted, err := s.ExtractStatus(dp, "one")
	require.NoError(t, err)
	AssertSameConfiguration(t, status, extracted)
	require.Len(t, extracted.Status.Conditions, 2, "to apply this removes the other conditions")

	extracted.Status.Conditions[0].WithStatus(metav1.ConditionFalse)
	dp, err = s.dataPlanes.ApplyStatus(t.Context(), extracted, ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, v1alpha1.DataPlaneStatus{
		ObservedGeneration: 1,
		Conditions:         []metav1.Condition{NewCondition("Ready", metav1.ConditionFalse), NewCondition("Connected", metav1.ConditionTrue)},
	}, dp.Status)
}

func testOneManagerOfBoth(t *testing.T, s *space) {
	_, err := s.dataPlanes.Apply(t.Context(), s.applySpec("prod"), ApplyAs("one"))
	require.NoError(t, err)
	status := s.Configuration(s.namespace, "prod").WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(1))
	dp, err := s.dataPlanes.ApplyStatus(t.Context(), status, ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, s.New("prod").Spec, dp.Spec)

	extracted, err := s.Extract(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, s.applySpec("prod"), extracted)
	extractedStatus, err := s.ExtractStatus(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, status, extractedStatus)

	// To apply one doesn't remove the other.
	dp, err = s.dataPlanes.Apply(t.Context(), With(extracted, s.Required, "other"), ApplyAs("one"))
	require.NoError(t, err)
	assert.EqualValues(t, 1, dp.Status.ObservedGeneration)
	dp, err = s.dataPlanes.ApplyStatus(t.Context(), status.WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(2)), ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, "other", s.Required.Get(dp))
	assert.EqualValues(t, 2, dp.Status.ObservedGeneration)
}

func testMergedConditions(t *testing.T, s *space) {
	if s.AtomicConditions {
		t.Skip("the list is atomic")
	}
	s.create(t, s.New("prod"))
	ready := ApplyCondition(v1alpha1.DataPlaneConditionReady, metav1.ConditionTrue)
	connected := ApplyCondition(v1alpha1.DataPlaneConditionConnected, metav1.ConditionTrue)
	gateway := ApplyCondition(v1alpha1.DataPlaneConditionGatewayProvisioned, metav1.ConditionTrue)

	_, err := s.dataPlanes.ApplyStatus(t.Context(), s.applyConditions("prod", ready), ApplyAs("one"))
	require.NoError(t, err)
	dp, err := s.dataPlanes.ApplyStatus(t.Context(), s.applyConditions("prod", connected, gateway), ApplyAs("two"))
	require.NoError(t, err)
	assert.Len(t, dp.Status.Conditions, 3)
	extracted, err := s.ExtractStatus(dp, "two")
	require.NoError(t, err)
	AssertSameConfiguration(t, s.applyConditions("prod", connected, gateway), extracted)

	not := ApplyCondition(v1alpha1.DataPlaneConditionReady, metav1.ConditionFalse)
	_, err = s.dataPlanes.ApplyStatus(t.Context(), s.applyConditions("prod", connected, gateway, not), ApplyAs("two"))
	RequireApplyConflict(t, err, "one", `.status.conditions[type="Ready"].status`)

	dp, err = s.dataPlanes.ApplyStatus(t.Context(), s.applyConditions("prod", connected), ApplyAs("two"))
	require.NoError(t, err)
	var types []string
	for _, condition := range dp.Status.Conditions {
		types = append(types, condition.Type)
	}
	assert.Equal(t, []string{"Ready", "Connected"}, types, "a manager removes only its own conditions")
}
