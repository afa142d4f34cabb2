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

func testApply(t *testing.T, s *space) {
	_, err := s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), metav1.ApplyOptions{})
	requireInvalid(t, err, "fieldManager")

	applied, err := s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), ApplyAs("one"))
	require.NoError(t, err, "apply creates what is not there")
	assert.Equal(t, NewDataPlane("prod").Spec, applied.Spec)
	AssertSame(t, applied, s.get(t, "prod"))

	again, err := s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), ApplyAs("one"))
	require.NoError(t, err)
	AssertSame(t, applied, again, "the same again changes nothing")

	_, err = s.dataPlanes.ApplyStatus(t.Context(), ApplyConditions(s.namespace, "absent"), ApplyAs("one"))
	require.True(t, apierrors.IsNotFound(err), "only the status of what is there can be applied: %v", err)
}

func testApplyConflict(t *testing.T, s *space) {
	_, err := s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), ApplyAs("one"))
	require.NoError(t, err)

	_, err = s.dataPlanes.Apply(t.Context(), ApplyPrefix(s.namespace, "prod", "docker.io/two"), ApplyAs("two"))
	RequireApplyConflict(t, err, "one", ".spec.registry.prefix")
	assert.Equal(t, "docker.io/myorg", s.get(t, "prod").Spec.Registry.Prefix)

	_, err = s.dataPlanes.Apply(t.Context(), ApplyPrefix(s.namespace, "prod", "docker.io/myorg"), ApplyAs("two"))
	require.NoError(t, err, "two managers may want the same value")

	other := openchoreoapply.DataPlane("prod", s.namespace).WithSpec(openchoreoapply.DataPlaneSpec().
		WithRegistry(openchoreoapply.Registry().WithSecretRef("registry-credentials")))
	both, err := s.dataPlanes.Apply(t.Context(), other, ApplyAs("three"))
	require.NoError(t, err, "another field is no conflict")
	assert.Equal(t, v1alpha1.Registry{Prefix: "docker.io/myorg", SecretRef: "registry-credentials"}, both.Spec.Registry)

	forced, err := s.dataPlanes.Apply(t.Context(), ApplyPrefix(s.namespace, "prod", "docker.io/two"), ApplyByForce("two"))
	require.NoError(t, err)
	assert.Equal(t, v1alpha1.Registry{Prefix: "docker.io/two", SecretRef: "registry-credentials"}, forced.Spec.Registry)

	_, err = s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), ApplyAs("one"))
	RequireApplyConflict(t, err, "two", ".spec.registry.prefix")
}

func testApplyStale(t *testing.T, s *space) {
	stale := s.create(t, NewDataPlane("prod"))
	current := s.setStatus(t, "prod", SetConditions)
	_, err := s.dataPlanes.Apply(t.Context(),
		ApplyPrefix(s.namespace, "prod", "docker.io/other").WithResourceVersion(stale.ResourceVersion), ApplyByForce("one"))
	require.True(t, apierrors.IsConflict(err), "%v", err)
	applied, err := s.dataPlanes.Apply(t.Context(),
		ApplyPrefix(s.namespace, "prod", "docker.io/other").WithResourceVersion(current.ResourceVersion), ApplyByForce("one"))
	require.NoError(t, err)
	assert.Equal(t, "docker.io/other", applied.Spec.Registry.Prefix)
}

func testApplyRemoves(t *testing.T, s *space) {
	withSecret := ApplySpec(s.namespace, "prod")
	withSecret.Spec.Registry.WithSecretRef("registry-credentials")
	withSecret.WithLabels(map[string]string{"tier": "gold"})
	applied, err := s.dataPlanes.Apply(t.Context(), withSecret, ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, "registry-credentials", applied.Spec.Registry.SecretRef)

	applied, err = s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), ApplyAs("one"))
	require.NoError(t, err)
	assert.Empty(t, applied.Spec.Registry.SecretRef)
	assert.Empty(t, applied.Labels)

	_, err = s.dataPlanes.Apply(t.Context(), withSecret, ApplyAs("one"))
	require.NoError(t, err)
	patch := []byte(`{"apiVersion": "openchoreo.dev/v1alpha1", "kind": "DataPlane", "status": {"observedGeneration": 9}}`)
	_, err = s.dataPlanes.Patch(t.Context(), "prod", types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: "one"})
	require.True(t, apierrors.IsBadRequest(err), "without metadata, it removes the name, too: %v", err)
}

func testApplyTime(t *testing.T, s *space) {
	spec := ApplySpec(s.namespace, "prod")
	_, err := s.dataPlanes.Apply(t.Context(), spec, ApplyAs("one"))
	require.NoError(t, err)
	dp, err := s.dataPlanes.Apply(t.Context(), spec, ApplyAs("two"))
	require.NoError(t, err)
	old := metav1.Unix(1_700_000_000, 0)
	for i := range dp.ManagedFields {
		dp.ManagedFields[i].Time = &old
	}
	dp.Labels = map[string]string{"tier": "gold"} // API servers write no change of times alone
	dp, err = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "three"})
	require.NoError(t, err)

	again, err := s.dataPlanes.Apply(t.Context(), spec, ApplyAs("one"))
	require.NoError(t, err)
	AssertSame(t, dp, again, "the same again changes no time")

	managers := func(dp *v1alpha1.DataPlane) (names []string) {
		for _, entry := range dp.ManagedFields {
			names = append(names, entry.Manager)
		}
		return names
	}
	spec.WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(9))
	again, err = s.dataPlanes.Apply(t.Context(), spec, ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, []string{"two", "one", "three"}, managers(again), "those who apply are in the order of their times")
	assert.NotEqual(t, dp.ResourceVersion, again.ResourceVersion)
	assert.Equal(t, dp.Status, again.Status)
}

func testUpdateTakesFields(t *testing.T, s *space) {
	dp, err := s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), ApplyAs("one"))
	require.NoError(t, err)
	dp.Spec.Registry.Prefix = "docker.io/other"
	_, err = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "two"})
	require.NoError(t, err)
	_, err = s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), ApplyAs("one"))
	RequireApplyConflict(t, err, "two", ".spec.registry.prefix")

	patch := []byte(`{"spec": {"gateway": {"publicVirtualHost": "www.example.com"}}}`)
	_, err = s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "three"})
	require.NoError(t, err)
	_, err = s.dataPlanes.Apply(t.Context(), openchoreoapply.DataPlane("prod", s.namespace).WithSpec(openchoreoapply.DataPlaneSpec().
		WithGateway(openchoreoapply.GatewaySpec().WithPublicVirtualHost("api.example.com"))), ApplyAs("four"))
	RequireApplyConflict(t, err, "three", ".spec.gateway.publicVirtualHost")
}

func testExtract(t *testing.T, s *space) {
	dp, err := s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod").WithLabels(map[string]string{"tier": "gold"}), ApplyAs("one"))
	require.NoError(t, err)
	dp.Spec.Registry.SecretRef = "registry-credentials"
	_, err = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "two"})
	require.NoError(t, err)

	extracted, err := openchoreoapply.ExtractDataPlane(s.get(t, "prod"), "one")
	require.NoError(t, err)
	assert.Equal(t, ApplySpec(s.namespace, "prod").WithLabels(map[string]string{"tier": "gold"}), extracted)

	extracted.Spec.Gateway.WithPublicVirtualHost("www.example.com")
	applied, err := s.dataPlanes.Apply(t.Context(), extracted, ApplyAs("one"))
	require.NoError(t, err)
	want := NewDataPlane("prod").Spec
	want.Gateway.PublicVirtualHost = "www.example.com"
	want.Registry.SecretRef = "registry-credentials"
	assert.Equal(t, want, applied.Spec)
	assert.Equal(t, map[string]string{"tier": "gold"}, applied.Labels)

	nothing, err := openchoreoapply.ExtractDataPlane(applied, "two")
	require.NoError(t, err)
	assert.Equal(t, openchoreoapply.DataPlane("prod", s.namespace), nothing, "an update is no apply")
}

func testExtractStatus(t *testing.T, s *space) {
	s.create(t, NewDataPlane("prod"))
	status := ApplyConditions(s.namespace, "prod", ApplyCondition("Ready", metav1.ConditionTrue), ApplyCondition("Connected", metav1.ConditionTrue))
	status.Status.WithObservedGeneration(1)
	dp, err := s.dataPlanes.ApplyStatus(t.Context(), status, ApplyAs("one"))
	require.NoError(t, err)

	extracted, err := openchoreoapply.ExtractDataPlaneStatus(dp, "one")
	require.NoError(t, err)
	AssertSameConfiguration(t, status, extracted)
	require.Len(t, extracted.Status.Conditions, 2, "applying this takes conditions away")

	extracted.Status.Conditions[0].WithStatus(metav1.ConditionFalse)
	dp, err = s.dataPlanes.ApplyStatus(t.Context(), extracted, ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, v1alpha1.DataPlaneStatus{
		ObservedGeneration: 1,
		Conditions:         []metav1.Condition{NewCondition("Ready", metav1.ConditionFalse), NewCondition("Connected", metav1.ConditionTrue)},
	}, dp.Status)
}

func testOneManagerOfBoth(t *testing.T, s *space) {
	_, err := s.dataPlanes.Apply(t.Context(), ApplySpec(s.namespace, "prod"), ApplyAs("one"))
	require.NoError(t, err)
	status := openchoreoapply.DataPlane("prod", s.namespace).WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(1))
	dp, err := s.dataPlanes.ApplyStatus(t.Context(), status, ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, NewDataPlane("prod").Spec, dp.Spec)

	extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, ApplySpec(s.namespace, "prod"), extracted)
	extractedStatus, err := openchoreoapply.ExtractDataPlaneStatus(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, status, extractedStatus)

	// Applying the one doesn't take away the other.
	extracted.Spec.Registry.WithPrefix("docker.io/other")
	dp, err = s.dataPlanes.Apply(t.Context(), extracted, ApplyAs("one"))
	require.NoError(t, err)
	assert.EqualValues(t, 1, dp.Status.ObservedGeneration)
	dp, err = s.dataPlanes.ApplyStatus(t.Context(), status.WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(2)), ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, "docker.io/other", dp.Spec.Registry.Prefix)
	assert.EqualValues(t, 2, dp.Status.ObservedGeneration)
}

func testMergedConditions(t *testing.T, s *space) {
	if s.AtomicConditions {
		t.Skip("they are one value")
	}
	s.create(t, NewDataPlane("prod"))
	ready := ApplyCondition(v1alpha1.DataPlaneConditionReady, metav1.ConditionTrue)
	connected := ApplyCondition(v1alpha1.DataPlaneConditionConnected, metav1.ConditionTrue)
	gateway := ApplyCondition(v1alpha1.DataPlaneConditionGatewayProvisioned, metav1.ConditionTrue)

	_, err := s.dataPlanes.ApplyStatus(t.Context(), ApplyConditions(s.namespace, "prod", ready), ApplyAs("one"))
	require.NoError(t, err)
	dp, err := s.dataPlanes.ApplyStatus(t.Context(), ApplyConditions(s.namespace, "prod", connected, gateway), ApplyAs("two"))
	require.NoError(t, err)
	assert.Len(t, dp.Status.Conditions, 3)
	extracted, err := openchoreoapply.ExtractDataPlaneStatus(dp, "two")
	require.NoError(t, err)
	AssertSameConfiguration(t, ApplyConditions(s.namespace, "prod", connected, gateway), extracted)

	not := ApplyCondition(v1alpha1.DataPlaneConditionReady, metav1.ConditionFalse)
	_, err = s.dataPlanes.ApplyStatus(t.Context(), ApplyConditions(s.namespace, "prod", connected, gateway, not), ApplyAs("two"))
	RequireApplyConflict(t, err, "one", `.status.conditions[type="Ready"].status`)

	dp, err = s.dataPlanes.ApplyStatus(t.Context(), ApplyConditions(s.namespace, "prod", connected), ApplyAs("two"))
	require.NoError(t, err)
	var types []string
	for _, condition := range dp.Status.Conditions {
		types = append(types, condition.Type)
	}
	assert.Equal(t, []string{"Ready", "Connected"}, types, "a manager takes away its own conditions, and no others")
}
