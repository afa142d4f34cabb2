// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

func TestEvaluateReportsWhetherTheConditionIsOfThisGeneration(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	dp := s.create(t, behaviours.NewDataPlane("prod"))
	requireReady(t, dp, metav1.ConditionUnknown, helpers.CodeNotReported)

	observe := func(generation int64) *openchoreov1alpha1.DataPlane {
		return s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) {
			condition := behaviours.NewCondition(openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue)
			condition.ObservedGeneration = generation
			status.Conditions = []metav1.Condition{condition}
		})
	}
	requireReady(t, observe(0), metav1.ConditionTrue, helpers.CodeUnverified)
	dp = observe(dp.Generation)
	requireReady(t, dp, metav1.ConditionTrue, helpers.CodeCurrent)

	dp.Labels = map[string]string{"tier": "gold"}
	dp, err := s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	requireReady(t, dp, metav1.ConditionTrue, helpers.CodeCurrent)

	dp.Spec.Registry.Prefix = "docker.io/other"
	dp, err = s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	requireReady(t, dp, metav1.ConditionUnknown, helpers.CodeStale)
	requireReady(t, s.get(t, "prod"), metav1.ConditionUnknown, helpers.CodeStale)

	requireReady(t, observe(dp.Generation), metav1.ConditionTrue, helpers.CodeCurrent)
	requireReady(t, s.get(t, "prod"), metav1.ConditionTrue, helpers.CodeCurrent)
}

func TestEvaluateReportsADeletedDataPlaneAsNotReady(t *testing.T) {
	s := shared.space(t)
	dp := behaviours.NewDataPlane("prod")
	dp.Finalizers = []string{"openchoreo.dev/dataplane-cleanup"}
	s.create(t, dp)
	s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) {
		status.Conditions = []metav1.Condition{behaviours.NewCondition(openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue)}
	})
	require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	requireReady(t, s.get(t, "prod"), metav1.ConditionFalse, helpers.CodeTerminating)
}

func requireReady(t *testing.T, dp *openchoreov1alpha1.DataPlane, status metav1.ConditionStatus, code helpers.Code) {
	t.Helper()
	report := helpers.Evaluate(dp)
	assert.Equal(t, dp.Generation, report.Generation)
	verdict := report.Verdict(openchoreov1alpha1.DataPlaneConditionReady)
	require.Equal(t, status, verdict.Status)
	require.Equal(t, code, verdict.Code)
}
