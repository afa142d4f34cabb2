// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build controller_runtime_v0.23

package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Clients can also apply the status since controller-runtime v0.23.
func init() {
	testApplyStatus = func(t *testing.T, e *environment) {
		t.Helper()
		dp := e.newDataPlane("applied-status")
		require.NoError(t, e.management.Create(t.Context(), dp))
		t.Cleanup(func() { assert.NoError(t, e.management.Delete(context.Background(), dp)) })
		require.NoError(t, e.management.Status().Apply(t.Context(), openchoreoapply.DataPlane(dp.Name, dp.Namespace).
			WithStatus(openchoreoapply.DataPlaneStatus().
				WithObservedGeneration(dp.Generation).
				WithConditions(applymetav1.Condition().
					WithType(gatewayProvisioned).WithStatus(metav1.ConditionTrue).WithReason("Applied").WithMessage("").
					WithObservedGeneration(dp.Generation).WithLastTransitionTime(metav1.Now()))),
			fieldOwner, client.ForceOwnership))
		assert.True(t, helpers.IsGatewayProvisioned(e.get(t, dp)))
	}
}
