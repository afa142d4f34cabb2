// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

func TestPatchConditions(t *testing.T) {
	t.Parallel()
	testPatchConditions(t, shared)
}

// testPatchConditions runs with both kinds of condition list.
func testPatchConditions(t *testing.T, p *plane) {
	t.Run("writes conditions and nothing else", func(t *testing.T) {
		s := p.space(t)
		dp := s.create(t, behaviours.NewDataPlane("prod"))
		s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) {
			status.Conditions = []metav1.Condition{behaviours.NewCondition("Created", metav1.ConditionTrue)}
		})
		edited := dp.DeepCopy() // from before Created, so that the first try conflicts
		edited.Spec.Registry.Prefix = "not to be written"
		before := edited.DeepCopy()
		patched, err := s.patchConditions(t, edited,
			metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"},
			metav1.Condition{Type: "Connected", Status: metav1.ConditionFalse, Reason: "Tested"})
		require.NoError(t, err)
		behaviours.AssertSame(t, before, edited)
		behaviours.AssertSame(t, s.get(t, "prod"), patched)
		assert.Equal(t, "docker.io/myorg", patched.Spec.Registry.Prefix)
		report := helpers.Evaluate(patched)
		assert.Equal(t, metav1.ConditionTrue, report.Verdict("Created").Status)
		assert.Equal(t, helpers.CodeCurrent, report.Verdict("Ready").Code)
		assert.Equal(t, metav1.ConditionFalse, report.Verdict("Connected").Status)

		again, err := s.patchConditions(t, patched,
			metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"})
		require.NoError(t, err)
		assert.Equal(t, patched.ResourceVersion, again.ResourceVersion, "nothing to change, nothing sent")
	})
	t.Run("claims no later generation than it was given", func(t *testing.T) {
		s := p.space(t)
		old := s.create(t, behaviours.NewDataPlane("prod"))
		changed := old.DeepCopy()
		changed.Spec.Registry.Prefix = "docker.io/other"
		_, err := s.typed.Update(t.Context(), changed, metav1.UpdateOptions{})
		require.NoError(t, err)
		patched, err := s.patchConditions(t, old,
			metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"})
		require.NoError(t, err)
		assert.Equal(t, helpers.CodeStale, helpers.EvaluateCondition(patched, "Ready").Code)
	})
	t.Run("does not write to another object with the name", func(t *testing.T) {
		s := p.space(t)
		old := s.create(t, behaviours.NewDataPlane("prod"))
		require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
		_, err := s.patchConditions(t, old,
			metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
		s.create(t, behaviours.NewDataPlane("prod"))
		_, err = s.patchConditions(t, old,
			metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"})
		require.ErrorIs(t, err, helpers.ErrReplaced)
		assert.Empty(t, s.get(t, "prod").Status.Conditions)
	})
	t.Run("the longest message is stored", func(t *testing.T) {
		s := p.space(t)
		message := make([]rune, 40_000)
		for i := range message {
			message[i] = '語'
		}
		_, err := s.patchConditions(t, s.create(t, behaviours.NewDataPlane("prod")),
			metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested", Message: string(message)})
		require.NoError(t, err)
	})
	t.Run("a condition of a later generation is kept", func(t *testing.T) {
		s := p.space(t)
		old := s.create(t, behaviours.NewDataPlane("prod"))
		changed := old.DeepCopy()
		changed.Spec.Registry.Prefix = "docker.io/other"
		changed, err := s.typed.Update(t.Context(), changed, metav1.UpdateOptions{})
		require.NoError(t, err)
		_, err = s.patchConditions(t, changed, metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Newer"})
		require.NoError(t, err)
		patched, err := s.patchConditions(t, old, metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Older"})
		require.NoError(t, err)
		assert.Equal(t, "Newer", helpers.EvaluateCondition(patched, "Ready").Reason)
	})
	t.Run("a stale object from a cache doesn't prevent a write", func(t *testing.T) {
		s := p.space(t)
		ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"}
		cached, err := s.patchConditions(t, s.create(t, behaviours.NewDataPlane("prod")), ready)
		require.NoError(t, err)
		_, err = s.patchConditions(t, cached, metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Another"})
		require.NoError(t, err)
		_, err = s.patchConditions(t, cached, ready)
		require.NoError(t, err)
		assert.True(t, helpers.IsReady(s.get(t, "prod")))
	})
	t.Run("writes the generation of the status on request, and nothing in a dry run", func(t *testing.T) {
		s := p.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		dp := s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) { status.ObservedGeneration = 1 })
		dp.Spec.Registry.Prefix = "docker.io/other"
		dp, err := s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
		require.NoError(t, err)
		ready := []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"}}
		patched, err := helpers.PatchConditions(t.Context(), s.typed, dp, ready, helpers.PatchConditionsOptions{})
		require.NoError(t, err)
		assert.Equal(t, helpers.CodeStale, helpers.EvaluateCondition(patched, "Ready").Code)
		patched, err = helpers.PatchConditions(t.Context(), s.typed, dp, ready, helpers.PatchConditionsOptions{ObserveGeneration: true, DryRun: true})
		require.NoError(t, err)
		assert.True(t, helpers.IsReady(patched))
		assert.False(t, helpers.IsReady(s.get(t, "prod")), "not stored")
		_, err = helpers.PatchConditions(t.Context(), s.typed, dp, ready, helpers.PatchConditionsOptions{ObserveGeneration: true, FieldManager: "tester"})
		require.NoError(t, err)
		stored := s.get(t, "prod")
		assert.True(t, helpers.IsReady(stored))
		assert.Contains(t, managersOf(stored), "tester")
	})
	t.Run("accepts an object whose condition has no time", func(t *testing.T) {
		s := p.space(t)
		dp := s.create(t, behaviours.NewDataPlane("prod"))
		dp.Status.Conditions = []metav1.Condition{{Type: "Connected", Status: metav1.ConditionTrue, Reason: "ByHand"}}
		patched, err := s.patchConditions(t, dp, metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"})
		require.NoError(t, err)
		assert.True(t, helpers.IsReady(patched))
	})
	t.Run("two writers at once lose nothing", func(t *testing.T) {
		const rounds = 100
		s := p.space(t)
		dp := s.create(t, behaviours.NewDataPlane("prod"))
		conditionTypes := []string{"Ready", "Connected"}
		var written [2]atomic.Int64 // rounds that the API server has acknowledged
		roundOf := func(dp *openchoreov1alpha1.DataPlane, conditionType string) int64 {
			var round int64
			_, err := fmt.Sscanf(helpers.EvaluateCondition(dp, conditionType).Message, "round %d", &round)
			if err != nil {
				return 0
			}
			return round
		}
		var writers sync.WaitGroup
		for i := range conditionTypes {
			writers.Add(1)
			go func() {
				defer writers.Done()
				own, other := conditionTypes[i], conditionTypes[1-i]
				for round := int64(1); round <= rounds; round++ {
					before := written[1-i].Load()
					patched, err := s.patchConditions(t, dp, metav1.Condition{
						Type: own, Status: metav1.ConditionTrue, Reason: "Tested", Message: fmt.Sprint("round ", round),
					})
					// The other's last write, or a later one, must be there.
					if !assert.NoError(t, err) || !assert.Equal(t, round, roundOf(patched, own)) ||
						!assert.GreaterOrEqual(t, roundOf(patched, other), before) {
						return
					}
					written[i].Store(round)
				}
			}()
		}
		writers.Wait()
		for _, conditionType := range conditionTypes {
			assert.EqualValues(t, rounds, roundOf(s.get(t, "prod"), conditionType))
		}
	})
}

func TestMergePatch(t *testing.T) {
	s := shared.space(t)
	before := s.create(t, behaviours.NewDataPlane("prod"))
	after := before.DeepCopy()
	after.Labels = map[string]string{"region": "eu"}
	after.Spec.Registry.SecretRef = "registry-credentials"
	patch, err := helpers.MergePatch(before, after)
	require.NoError(t, err)
	patched, err := s.typed.Patch(t.Context(), "prod", types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	assert.Equal(t, after.Labels, patched.Labels)
	assert.Equal(t, after.Spec, patched.Spec)

	_, err = s.typed.Patch(t.Context(), "prod", types.MergePatchType, patch, metav1.PatchOptions{})
	require.True(t, apierrors.IsConflict(err), "somebody has changed the object since: %v", err)
}

// Some objects have a kind, others don't. The API server refuses a patch that removes the kind, with a
// message that shows the whole object.
func TestMergePatchOfObjectsFromListAndGet(t *testing.T) {
	s := shared.space(t)
	dp := behaviours.NewDataPlane("prod")
	dp.Spec.KubernetesCluster.Credentials = credentialsOf(addUser(t, shared, "agent"))
	key := dp.Spec.KubernetesCluster.Credentials.ClientKey
	bare := s.create(t, dp)
	bare.TypeMeta = metav1.TypeMeta{}
	full := bare.DeepCopy()
	full.SetGroupVersionKind(openchoreov1alpha1.SchemeGroupVersion.WithKind("DataPlane"))
	for name, test := range map[string]struct{ before, after *openchoreov1alpha1.DataPlane }{
		"only before has a kind": {full, bare}, "only after has a kind": {bare, full},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := test.before.DeepCopy(), test.after.DeepCopy()
			before.ResourceVersion = s.get(t, "prod").ResourceVersion
			after.ManagedFields = nil
			after.Spec.Registry.Prefix = "docker.io/" + strings.ReplaceAll(name, " ", "-")
			patch, err := helpers.MergePatch(before, after)
			require.NoError(t, err)
			patched, err := s.typed.Patch(t.Context(), "prod", types.MergePatchType, patch, metav1.PatchOptions{})
			if err != nil {
				assert.NotContains(t, err.Error(), key)
			}
			require.NoError(t, err)
			assert.Equal(t, after.Spec, patched.Spec)
			assert.NotEmpty(t, patched.ManagedFields)
		})
	}
}

// testLaterMergePatch runs with objects that have fields unknown to the SDK.
func testLaterMergePatch(t *testing.T, s *space, object *unstructured.Unstructured) {
	stored := s.store(t, object)
	before := s.get(t, "later")
	after := before.DeepCopy()
	after.Labels = map[string]string{"region": "eu"}
	after.Spec.Registry.Prefix = "docker.io/new"
	patch, err := helpers.MergePatch(before, after)
	require.NoError(t, err)
	_, err = s.typed.Patch(t.Context(), "later", types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	_, err = s.patchConditions(t, s.get(t, "later"),
		metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"})
	require.NoError(t, err)

	want := stored.DeepCopy()
	require.NoError(t, unstructured.SetNestedField(want.Object, "docker.io/new", "spec", "registry", "prefix"))
	got := s.stored(t, "later")
	assert.Equal(t, want.Object["spec"], got["spec"])
	wantStatus, _ := want.Object["status"].(map[string]any)
	gotStatus, _ := got["status"].(map[string]any)
	for field, value := range wantStatus {
		if field != "conditions" {
			assert.Equal(t, value, gotStatus[field], field)
		}
	}
	assert.True(t, helpers.IsReady(s.get(t, "later")))
}

func managersOf(dp *openchoreov1alpha1.DataPlane) []string {
	var managers []string
	for _, entry := range dp.ManagedFields {
		managers = append(managers, entry.Manager)
	}
	return managers
}
