// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// OpenChoreo v0.3 serves the conditions as an atomic list: one value with one owner, in
// which a type may occur twice.
func TestAtomicConditions(t *testing.T) {
	t.Parallel()
	p := ownPlane(t, variant(t, func(schema map[string]any) {
		conditions := at(schema, "properties", "status", "properties", "conditions")
		require.Contains(t, conditions, "x-kubernetes-list-type")
		require.Contains(t, conditions, "x-kubernetes-list-map-keys")
		delete(conditions, "x-kubernetes-list-type")
		delete(conditions, "x-kubernetes-list-map-keys")
	}))
	t.Run("reads and writes", func(t *testing.T) { testReadsAndWrites(t, p, true) })
	t.Run("duplicates of a type are stored and read", func(t *testing.T) { testDuplicates(t, p.space(t)) })
	t.Run("extract works on an object with duplicates", func(t *testing.T) { testExtractWithDuplicates(t, p.space(t)) })
	t.Run("a second manager of conditions conflicts and replaces all by force", func(t *testing.T) {
		testSecondManagerOfAtomicConditions(t, p.space(t))
	})
	t.Run("fields", func(t *testing.T) { testFields(t, p, ".status.conditions") })
	t.Run("patch conditions", func(t *testing.T) { testPatchConditions(t, p) })
	t.Run("no verdict is True unless kubectl waits", func(t *testing.T) { testNoVerdictIsTrueUnlessKubectlWaits(t, p.space(t)) })
	t.Run("helpers and kubectl agree on duplicates", func(t *testing.T) { testAgreementOnDuplicates(t, p.space(t)) })
}

func duplicates() []metav1.Condition {
	return []metav1.Condition{newCondition("Ready", metav1.ConditionTrue), newCondition("Ready", metav1.ConditionFalse)}
}

func testDuplicates(t *testing.T, s *space) {
	s.create(t, newDataPlane("prod"))
	f := s.follow(t, s.openchoreo)
	f.await(t, added, "prod")
	dp := s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) { status.Conditions = duplicates() })
	require.Len(t, dp.Status.Conditions, 2)
	assertSame(t, dp, s.get(t, "prod"))
	assertSame(t, dp, f.await(t, updated, "prod"))
	assert.True(t, helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionReady).Duplicated)
}

func testExtractWithDuplicates(t *testing.T, s *space) {
	_, err := s.typed.Apply(t.Context(), applySpec(s.namespace, "prod"), applyAs("one"))
	require.NoError(t, err)
	dp := s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) { status.Conditions = duplicates() })
	extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
	require.NoError(t, err)
	assertSameConfiguration(t, applySpec(s.namespace, "prod"), extracted)
}

func testSecondManagerOfAtomicConditions(t *testing.T, s *space) {
	s.create(t, newDataPlane("prod"))
	ready := applyCondition(openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue)
	connected := applyCondition(openchoreov1alpha1.DataPlaneConditionConnected, metav1.ConditionTrue)
	_, err := s.typed.ApplyStatus(t.Context(), applyConditions(s.namespace, "prod", ready), applyAs("one"))
	require.NoError(t, err)

	_, err = s.typed.ApplyStatus(t.Context(), applyConditions(s.namespace, "prod", connected), applyAs("two"))
	requireApplyConflict(t, err, "one", ".status.conditions")

	dp, err := s.typed.ApplyStatus(t.Context(), applyConditions(s.namespace, "prod", connected), applyByForce("two"))
	require.NoError(t, err)
	require.Len(t, dp.Status.Conditions, 1, "the condition of the other manager is gone")
	assert.Equal(t, openchoreov1alpha1.DataPlaneConditionConnected, dp.Status.Conditions[0].Type)
	extracted, err := openchoreoapply.ExtractDataPlaneStatus(dp, "two")
	require.NoError(t, err)
	assertSameConfiguration(t, applyConditions(s.namespace, "prod", connected), extracted)

	// What keeps the other's condition is an update of the whole list, which conflicts
	// when the list has changed since it was read.
	stale := dp.DeepCopy()
	s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) {
		status.Conditions = append(status.Conditions, newCondition("Ready", metav1.ConditionTrue))
	})
	stale.Status.Conditions = nil
	_, err = s.typed.UpdateStatus(t.Context(), stale, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.Len(t, s.get(t, "prod").Status.Conditions, 2)
}

// requireApplyConflict asserts that err names the manager and the field of one conflict,
// for people and for programs.
func requireApplyConflict(t *testing.T, err error, manager, field string) {
	t.Helper()
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, `conflict with "`+manager+`"`)
	require.ErrorContains(t, err, field)
	require.True(t, apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict))
	require.Equal(t, []string{field}, causeFields(err))
}
