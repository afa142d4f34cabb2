// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// Later releases of OpenChoreo change the shape under the same API version.
func TestLaterShapes(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	files, err := filepath.Glob("../../apis/openchoreo/v1alpha1/testdata/later/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	p := ownPlane(t, variant(t, func(schema map[string]any) {
		permit(at(schema, "properties", "spec"))
		// The key of the condition list must stay required.
		at(schema, "properties", "status")["x-kubernetes-preserve-unknown-fields"] = true
	}))
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		object := parse(t, source)
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Run("typed clients read it", func(t *testing.T) { testLaterRead(t, p.space(t), object) })
			t.Run("apply keeps unknown fields", func(t *testing.T) { testLaterApply(t, p.space(t), object) })
			t.Run("status apply keeps unknown fields", func(t *testing.T) { testLaterApplyStatus(t, p.space(t), object) })
			t.Run("merge patch keeps unknown fields", func(t *testing.T) { testLaterMergePatch(t, p.space(t), object) })
			t.Run("a program that leaves client-side apply keeps unknown fields", func(t *testing.T) { testLaterLeave(t, p.space(t), object) })
			t.Run("update erases unknown fields", func(t *testing.T) {
				testLaterUpdate(t, p.space(t), object, map[string][]string{"v0.4.yaml": {"agent", "imagePullSecretRefs"}}[filepath.Base(file)])
			})
		})
	}
}

// permit makes a schema accept any field, and require none.
func permit(schema map[string]any) {
	delete(schema, "required")
	properties, _ := schema["properties"].(map[string]any)
	for _, property := range properties {
		permit(property.(map[string]any))
	}
	if schema["type"] == "object" {
		schema["x-kubernetes-preserve-unknown-fields"] = true
	}
}

// store creates an object with its status, and returns it as stored.
func (s *space) store(t *testing.T, object *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	object = object.DeepCopy()
	object.SetNamespace(s.namespace)
	status := object.Object["status"]
	stored, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{FieldManager: "openchoreo"})
	require.NoError(t, err)
	require.Equal(t, object.Object["spec"], stored.Object["spec"])
	if status != nil {
		stored.Object["status"] = status
		stored, err = s.raw.UpdateStatus(t.Context(), stored, metav1.UpdateOptions{FieldManager: "openchoreo"})
		require.NoError(t, err)
		require.Equal(t, status, stored.Object["status"])
	}
	return stored
}

func testLaterRead(t *testing.T, s *space, object *unstructured.Unstructured) {
	before, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	s.store(t, object)

	dp := s.get(t, "later")
	assert.Zero(t, dp.Spec.KubernetesCluster.Credentials)
	conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
	require.NoError(t, err)
	assert.Len(t, dp.Status.Conditions, len(conditions))

	list, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	behaviours.AssertSame(t, behaviours.Listed(dp), &list.Items[0])

	watcher := s.watch(t, metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	event, watched := nextDataPlane(t, watcher)
	require.Equal(t, watch.Added, event)
	for watched.ResourceVersion != dp.ResourceVersion {
		_, watched = nextDataPlane(t, watcher)
	}
	behaviours.AssertSame(t, dp, watched)

	behaviours.AssertSameCached(t, dp, s.follow(t, s.openchoreo).await(t, added, "later"))

	_, err = helpers.RESTConfigFor(dp)
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
	assert.Equal(t, helpers.CodeNotReported, helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionReady).Code)
}

func testLaterApply(t *testing.T, s *space, object *unstructured.Unstructured) {
	want := s.store(t, object).DeepCopy()
	applied, err := s.typed.Apply(t.Context(), behaviours.ApplyPrefix(s.namespace, "later", "docker.io/myorg"), behaviours.ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, "docker.io/myorg", applied.Spec.Registry.Prefix)
	require.NoError(t, unstructured.SetNestedField(want.Object, "docker.io/myorg", "spec", "registry", "prefix"))
	stored := s.stored(t, "later")
	assert.Equal(t, want.Object["spec"], stored["spec"])
	assert.Equal(t, want.Object["status"], stored["status"])
}

func testLaterApplyStatus(t *testing.T, s *space, object *unstructured.Unstructured) {
	want := s.store(t, object).DeepCopy()
	ready := behaviours.ApplyConditions(s.namespace, "later", behaviours.ApplyCondition(openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue))
	applied, err := s.typed.ApplyStatus(t.Context(), ready, behaviours.ApplyAs("one"))
	require.NoError(t, err)
	assert.True(t, meta.IsStatusConditionTrue(applied.Status.Conditions, openchoreov1alpha1.DataPlaneConditionReady))
	stored := s.stored(t, "later")
	assert.Equal(t, want.Object["spec"], stored["spec"])
	conditions, _, err := unstructured.NestedSlice(want.Object, "status", "conditions")
	require.NoError(t, err)
	assert.Len(t, applied.Status.Conditions, len(conditions)+1)
	for _, status := range []map[string]any{stored, want.Object} {
		unstructured.RemoveNestedField(status, "status", "conditions")
	}
	if want.Object["status"] != nil {
		assert.Equal(t, want.Object["status"], stored["status"])
	}
}

// An update erases fields that the Go types don't have, so doc.go warns of Update.
func testLaterLeave(t *testing.T, s *space, object *unstructured.Unstructured) {
	object = object.DeepCopy()
	object.SetNamespace(s.namespace)
	delete(object.Object, "status")
	source, err := object.MarshalJSON()
	require.NoError(t, err)
	manifest := filepath.Join(t.TempDir(), "dataplane.json")
	require.NoError(t, os.WriteFile(manifest, source, 0o600))
	s.kubectl(t, "apply", "--filename="+manifest)
	require.NoError(t, leaveClientSideApply(t.Context(), s.typed, "later"))
	assert.Equal(t, object.Object["spec"], s.stored(t, "later")["spec"])
	assert.NotContains(t, s.get(t, "later").Annotations, corev1.LastAppliedConfigAnnotation)
}

func testLaterUpdate(t *testing.T, s *space, object *unstructured.Unstructured, unknown []string) {
	before := at(s.store(t, object).Object, "spec")
	_, err := s.typed.Update(t.Context(), s.get(t, "later"), metav1.UpdateOptions{})
	require.NoError(t, err)
	updated := at(s.stored(t, "later"), "spec")
	for field := range before {
		assert.Equal(t, !slices.Contains(unknown, field), updated[field] != nil, field)
	}
}
