// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	clienttesting "k8s.io/client-go/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fieldset"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// hack/integration runs the same table against real API servers.
func TestClientsetBehavesLikeAnAPIServer(t *testing.T) {
	for _, kind := range behaviours.Kinds {
		t.Run(kind.Title, func(t *testing.T) {
			namespaces := 0
			behaviours.Run(t, behaviours.Server{
				Kind:   kind,
				Client: dataplanetest.NewClientset(),
				NewNamespace: func(testing.TB) string {
					namespaces++
					return fmt.Sprint("test-", namespaces)
				},
			})
		})
	}
}

func TestClientsetStoresObjectsAsTheyAre(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Stale, dataplanetest.Deleted)
	client := dataplanetest.NewClientset(dp, &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "empty"}})
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
	stored, err := dataPlanes.Get(t.Context(), "prod", metav1.GetOptions{})
	require.NoError(t, err)
	assert.NotEmpty(t, stored.ResourceVersion)
	assert.Empty(t, dp.ResourceVersion, "the caller's object is unchanged")
	stored.ResourceVersion = ""
	assert.Equal(t, dp, stored)

	empty, err := dataPlanes.Get(t.Context(), "empty", metav1.GetOptions{})
	require.NoError(t, err)
	assert.NotEmpty(t, empty.UID)
	assert.EqualValues(t, 1, empty.Generation)
	assert.False(t, empty.CreationTimestamp.IsZero())

	assert.PanicsWithValue(t, "two DataPlanes default/prod", func() { dataplanetest.NewClientset(dp, dp) })
	cluster := dataplanetest.ClusterDataPlane("prod")
	assert.PanicsWithValue(t, "two ClusterDataPlanes prod", func() { dataplanetest.NewClientset(cluster, cluster) })
}

// Somebody else owns the fields of an object that is passed to NewClientset: both the other fields of the
// part that is applied first and all fields of the other part.
func TestApplyKeepsTheFieldsOfObjectsPassedToNewClientset(t *testing.T) {
	mine := metav1.ApplyOptions{FieldManager: "me"}
	nothing := func() *openchoreoapply.DataPlaneApplyConfiguration {
		return openchoreoapply.DataPlane("prod", "default")
	}
	registry := func() *openchoreoapply.DataPlaneApplyConfiguration {
		return nothing().WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithSecretRef("pull")))
	}
	ready := func() *openchoreoapply.DataPlaneApplyConfiguration {
		return nothing().WithStatus(openchoreoapply.DataPlaneStatus().WithConditions(applymetav1.Condition().WithType("Ready").
			WithStatus(metav1.ConditionTrue).WithReason("Reachable").WithMessage("").WithLastTransitionTime(metav1.Now())))
	}
	for _, first := range []string{"object", "status"} {
		t.Run(first+" first", func(t *testing.T) {
			seed := dataplanetest.DataPlane("default", "prod", dataplanetest.Connected)
			dataPlanes := dataplanetest.NewClientset(seed).OpenChoreoV1alpha1().DataPlanes("default")
			both := func(object, status *openchoreoapply.DataPlaneApplyConfiguration) *v1alpha1.DataPlane {
				t.Helper()
				applyObject := func() (*v1alpha1.DataPlane, error) { return dataPlanes.Apply(t.Context(), object, mine) }
				applyStatus := func() (*v1alpha1.DataPlane, error) { return dataPlanes.ApplyStatus(t.Context(), status, mine) }
				applies := []func() (*v1alpha1.DataPlane, error){applyObject, applyStatus}
				if first == "status" {
					slices.Reverse(applies)
				}
				_, err := applies[0]()
				require.NoError(t, err)
				dp, err := applies[1]()
				require.NoError(t, err)
				return dp
			}
			dp := both(registry(), ready())
			assert.Equal(t, "pull", dp.Spec.Registry.SecretRef)
			assert.Len(t, dp.Status.Conditions, 2)
			for _, entry := range dp.ManagedFields {
				fields := entry.FieldsV1.String()
				assert.Equal(t, entry.Subresource == "", strings.Contains(fields, "f:spec"), "%v", entry)
				assert.Equal(t, entry.Subresource == "status", strings.Contains(fields, "f:status"), "%v", entry)
			}

			conflicting := nothing().WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithPrefix("other.example.com")))
			_, err := dataPlanes.Apply(t.Context(), conflicting, mine)
			assert.True(t, apierrors.IsConflict(err), "%v", err)

			dp = both(nothing(), nothing())
			assert.Equal(t, seed.Spec, dp.Spec)
			assert.Equal(t, seed.Status, dp.Status)
		})
	}
}

// An update of an object without managed fields records no owner.
func TestApplyKeepsTheFieldsOfObjectsUpdatedSinceNewClientset(t *testing.T) {
	dataPlanes := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod")).OpenChoreoV1alpha1().DataPlanes("default")
	updated, err := dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, []byte(`{"metadata": {"labels": {"a": "b"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.Empty(t, updated.ManagedFields)
	err = applyPrefixAfterStatus(t, dataPlanes)
	assert.True(t, apierrors.IsConflict(err), "%v", err)
}

func TestApplyKeepsTheStatusOfAnObjectWithoutSpec(t *testing.T) {
	client := dataplanetest.NewClientset(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterDataPlane",
		"metadata": map[string]any{"name": "prod"}, "status": map[string]any{"observedGeneration": 1},
	}})
	applied, err := client.OpenChoreoV1alpha1().ClusterDataPlanes().Apply(t.Context(),
		openchoreoapply.ClusterDataPlane("prod").WithLabels(map[string]string{"a": "b"}), metav1.ApplyOptions{FieldManager: "me"})
	require.NoError(t, err)
	managers, err := fieldset.Managers(applied.AsDataPlane(), ".status.observedGeneration")
	require.NoError(t, err)
	assert.Len(t, managers, 1)
}

// As on API servers, only the part that is applied first then gets an owner.
func TestApplyAfterAWriteRemovedTheManagedFields(t *testing.T) {
	dataPlanes := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod")).OpenChoreoV1alpha1().DataPlanes("default")
	applied, err := dataPlanes.Apply(t.Context(), openchoreoapply.DataPlane("prod", "default"), metav1.ApplyOptions{FieldManager: "me"})
	require.NoError(t, err)
	require.NotEmpty(t, applied.ManagedFields)
	_, err = dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, []byte(`{"metadata": {"managedFields": [{}]}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	assert.NoError(t, applyPrefixAfterStatus(t, dataPlanes))
}

func applyPrefixAfterStatus(t *testing.T, dataPlanes openchoreotyped.DataPlaneInterface) error {
	t.Helper()
	mine := metav1.ApplyOptions{FieldManager: "me"}
	_, err := dataPlanes.ApplyStatus(t.Context(), openchoreoapply.DataPlane("prod", "default").
		WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(1)), mine)
	require.NoError(t, err)
	_, err = dataPlanes.Apply(t.Context(), openchoreoapply.DataPlane("prod", "default").WithSpec(openchoreoapply.DataPlaneSpec().
		WithRegistry(openchoreoapply.Registry().WithPrefix("other.example.com"))), mine)
	return err
}

// As on API servers, a patch counts as a change of the owner references that it duplicates; an update doesn't.
func TestDuplicateOwnerReferencesHaveAManagerAfterAPatch(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "prod")
	dp.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "one", UID: "1"}}
	dataPlanes := dataplanetest.NewClientset().OpenChoreoV1alpha1().DataPlanes("default")
	created, err := dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{FieldManager: "one"})
	require.NoError(t, err)

	twice := created.DeepCopy()
	twice.OwnerReferences = append(twice.OwnerReferences, twice.OwnerReferences[0])
	updated, err := dataPlanes.Update(t.Context(), twice, metav1.UpdateOptions{FieldManager: "two"})
	require.NoError(t, err)
	assert.Equal(t, created, updated)

	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": twice.OwnerReferences}})
	require.NoError(t, err)
	patched, err := dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "two"})
	require.NoError(t, err)
	assert.Equal(t, created.OwnerReferences, patched.OwnerReferences)
	managers, err := fieldset.Managers(patched, ".metadata.ownerReferences")
	require.NoError(t, err)
	assert.Contains(t, managers, "two")
}

func TestClientsetRefusesObjectsThatNobodyCouldGet(t *testing.T) {
	assert.PanicsWithValue(t, "DataPlane needs a name", func() {
		dataplanetest.NewClientset(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "prod-"}})
	})
	assert.PanicsWithValue(t, "DataPlane prod needs a namespace", func() {
		dataplanetest.NewClientset(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: "prod"}})
	})
	assert.PanicsWithValue(t, "ClusterDataPlane default/prod must have no namespace", func() {
		dataplanetest.NewClientset(&v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"}})
	})
}

func TestClientsetKeepsTheKindsApart(t *testing.T) {
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod"), dataplanetest.ClusterDataPlane("prod"))
	require.NoError(t, client.OpenChoreoV1alpha1().ClusterDataPlanes().Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	_, err := client.OpenChoreoV1alpha1().ClusterDataPlanes().Get(t.Context(), "prod", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	_, err = client.OpenChoreoV1alpha1().DataPlanes("default").Get(t.Context(), "prod", metav1.GetOptions{})
	require.NoError(t, err)

	assert.PanicsWithValue(t, "*v1.Status is no DataPlane or ClusterDataPlane", func() { dataplanetest.NewClientset(&metav1.Status{}) })
}

func TestClientsetTakesReactorsAndRecordsActions(t *testing.T) {
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod"))
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
	client.PrependReactor("update", "dataplanes/status", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewTooManyRequestsError("later")
	})
	dp, err := dataPlanes.Get(t.Context(), "prod", metav1.GetOptions{})
	require.NoError(t, err)
	_, err = dataPlanes.UpdateStatus(t.Context(), dp, metav1.UpdateOptions{})
	require.True(t, apierrors.IsTooManyRequests(err), "%v", err)
	_, err = dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	_, err = dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{}, "scale")
	require.True(t, apierrors.IsNotFound(err), "there is no such subresource: %v", err)

	var verbs []string
	for _, action := range client.Actions() {
		verbs = append(verbs, action.GetVerb())
	}
	assert.Equal(t, []string{"get", "update", "update", "patch"}, verbs)
}

// contextOfWatches counts its pending AfterFuncs.
type contextOfWatches struct {
	context.Context
	waiting atomic.Int32
}

func (c *contextOfWatches) AfterFunc(f func()) func() bool {
	c.waiting.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool { c.waiting.Add(-1); return stop() }
}

// Value hides the embedded context from package context, which would otherwise not call AfterFunc.
func (*contextOfWatches) Value(any) any { return nil }

func TestWatchThatIsStoppedLeavesItsContextAlone(t *testing.T) {
	ctx := &contextOfWatches{Context: t.Context()}
	watcher, err := dataplanetest.NewClientset().OpenChoreoV1alpha1().DataPlanes("default").Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, ctx.waiting.Load())
	watcher.Stop()
	assert.Zero(t, ctx.waiting.Load())
}

// client-go's fake panics at more than 100 unread events.
func TestWatchWaitsForItsReader(t *testing.T) {
	dataPlanes := dataplanetest.NewClientset().OpenChoreoV1alpha1().DataPlanes("default")
	watcher, err := dataPlanes.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	const count = 500
	for i := range count {
		dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("dp-", i)}}
		_, err := dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	for i := range count {
		assert.Equal(t, fmt.Sprint("dp-", i), receive(t, watcher.ResultChan()).Object.(*v1alpha1.DataPlane).Name)
	}
	watcher.Stop()
	watcher.Stop()
	assert.Zero(t, receive(t, watcher.ResultChan()), "it ends")

	_, err = dataPlanes.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1000000"})
	require.True(t, apierrors.IsTimeout(err), "%v", err)
}
