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
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// In OpenChoreo v0.3, the conditions are an atomic list: it has one owner, and a type may occur twice.
func TestAtomicConditions(t *testing.T) {
	skipIfShort(t)
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
	return []metav1.Condition{behaviours.NewCondition("Ready", metav1.ConditionTrue), behaviours.NewCondition("Ready", metav1.ConditionFalse)}
}

func testDuplicates(t *testing.T, s *space) {
	s.create(t, behaviours.NewDataPlane("prod"))
	f := s.follow(t, s.openchoreo)
	f.await(t, added, "prod")
	dp := s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) { status.Conditions = duplicates() })
	require.Len(t, dp.Status.Conditions, 2)
	behaviours.AssertSame(t, dp, s.get(t, "prod"))
	behaviours.AssertSameCached(t, dp, f.await(t, updated, "prod"))
	assert.True(t, helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionReady).Duplicated)
}

func testExtractWithDuplicates(t *testing.T, s *space) {
	_, err := s.typed.Apply(t.Context(), behaviours.ApplySpec(s.namespace, "prod"), behaviours.ApplyAs("one"))
	require.NoError(t, err)
	dp := s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) { status.Conditions = duplicates() })
	extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
	require.NoError(t, err)
	behaviours.AssertSameConfiguration(t, behaviours.ApplySpec(s.namespace, "prod"), extracted)
}

func testSecondManagerOfAtomicConditions(t *testing.T, s *space) {
	s.create(t, behaviours.NewDataPlane("prod"))
	ready := behaviours.ApplyCondition(openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue)
	connected := behaviours.ApplyCondition(openchoreov1alpha1.DataPlaneConditionConnected, metav1.ConditionTrue)
	_, err := s.typed.ApplyStatus(t.Context(), behaviours.ApplyConditions(s.namespace, "prod", ready), behaviours.ApplyAs("one"))
	require.NoError(t, err)

	_, err = s.typed.ApplyStatus(t.Context(), behaviours.ApplyConditions(s.namespace, "prod", connected), behaviours.ApplyAs("two"))
	behaviours.RequireApplyConflict(t, err, "one", ".status.conditions")

	dp, err := s.typed.ApplyStatus(t.Context(), behaviours.ApplyConditions(s.namespace, "prod", connected), behaviours.ApplyByForce("two"))
	require.NoError(t, err)
	require.Len(t, dp.Status.Conditions, 1, "the condition of the other manager is gone")
	assert.Equal(t, openchoreov1alpha1.DataPlaneConditionConnected, dp.Status.Conditions[0].Type)
	extracted, err := openchoreoapply.ExtractDataPlaneStatus(dp, "two")
	require.NoError(t, err)
	behaviours.AssertSameConfiguration(t, behaviours.ApplyConditions(s.namespace, "prod", connected), extracted)

	// An update of the whole list keeps the other's condition: it conflicts if the list has changed
	// since it was read.
	stale := dp.DeepCopy()
	s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) {
		status.Conditions = append(status.Conditions, behaviours.NewCondition("Ready", metav1.ConditionTrue))
	})
	stale.Status.Conditions = nil
	_, err = s.typed.UpdateStatus(t.Context(), stale, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.Len(t, s.get(t, "prod").Status.Conditions, 2)
}
