// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func testCreateGetList(t *testing.T, s *space) {
	want := s.New("prod")
	want.Labels = map[string]string{"tier": "gold"}
	want.Annotations = map[string]string{v1alpha1.AnnotationDisplayName: "Production"}
	s.Optional.Set(want, "some")
	s.Part.Set(want, s.PartValue)
	list, err := s.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, []v1alpha1.DataPlane{}, list.Items, "not nil")

	created := s.create(t, want)
	assert.Equal(t, want.Spec, created.Spec)
	assert.Equal(t, want.Labels, created.Labels)
	assert.Equal(t, want.Annotations, created.Annotations)
	assert.Equal(t, s.namespace, created.Namespace)
	assert.EqualValues(t, 1, created.Generation)
	assert.NotEmpty(t, created.UID)
	assert.NotEmpty(t, created.ResourceVersion)
	assert.False(t, created.CreationTimestamp.IsZero())
	require.Len(t, created.ManagedFields, 1)
	assert.NotEmpty(t, created.ManagedFields[0].Manager, "named after the program")

	AssertSame(t, created, s.get(t, "prod"))
	list, err = s.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	assert.NotEmpty(t, list.ResourceVersion)
	AssertSame(t, Listed(created), &list.Items[0])
}

func testCreateReplaces(t *testing.T, s *space) {
	versioned := s.New("prod")
	versioned.ResourceVersion = "1"
	_, err := s.dataPlanes.Create(t.Context(), versioned, metav1.CreateOptions{})
	require.ErrorContains(t, err, "resourceVersion should not be set on objects to be created")

	long, zero := metav1.Unix(1_000_000_000, 0), int64(0)
	dp := s.New("prod")
	dp.UID, dp.Generation, dp.CreationTimestamp = "mine", 7, long
	dp.SetSelfLink("/mine")
	dp.DeletionTimestamp, dp.DeletionGracePeriodSeconds = &long, &zero
	created := s.create(t, dp)
	assert.NotEqual(t, dp.UID, created.UID)
	assert.EqualValues(t, 1, created.Generation)
	assert.True(t, created.CreationTimestamp.After(long.Time))
	assert.Nil(t, created.DeletionTimestamp)
	assert.Nil(t, created.DeletionGracePeriodSeconds)
	assert.Empty(t, created.GetSelfLink())

	foreign := s.New("foreign")
	foreign.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "one", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "other.example.com/v1",
		FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:labels":{"f:tier":{}}}}`)},
	}}
	assert.Empty(t, s.create(t, foreign).ManagedFields, "entries of another API version are dropped")

	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	assert.NotEqual(t, created.UID, s.create(t, s.New("prod")).UID, "another object with the same name")
}

func testGenerateName(t *testing.T, s *space) {
	dp := s.New("")
	_, err := s.dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
	requireInvalid(t, err, "metadata.name")

	dp.GenerateName = "prod-"
	first, second := s.create(t, dp), s.create(t, dp)
	for _, created := range []*v1alpha1.DataPlane{first, second} {
		assert.True(t, strings.HasPrefix(created.Name, "prod-"), created.Name)
		AssertSame(t, created, s.get(t, created.Name))
	}
	assert.NotEqual(t, first.Name, second.Name)
}

func testAbsentAndExisting(t *testing.T, s *space) {
	for name, err := range s.callEach(t, "absent") {
		require.True(t, apierrors.IsNotFound(err), "%s: %v", name, err)
		require.ErrorContains(t, err, s.Plural+`.openchoreo.dev "absent" not found`, name)
	}

	s.create(t, s.New("prod"))
	_, err := s.dataPlanes.Create(t.Context(), s.New("prod"), metav1.CreateOptions{})
	require.True(t, apierrors.IsAlreadyExists(err), "%v", err)

	list, err := s.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"prod"}, Names(list.Items))
}

// callEach sends each kind of request that names an object, and returns the errors.
func (s *space) callEach(t *testing.T, name string) map[string]error {
	t.Helper()
	dp := s.New(name)
	dp.ResourceVersion = "1"
	errs := map[string]error{"delete": s.dataPlanes.Delete(t.Context(), name, metav1.DeleteOptions{})}
	_, errs["get"] = s.dataPlanes.Get(t.Context(), name, metav1.GetOptions{})
	_, errs["update"] = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	_, errs["status update"] = s.dataPlanes.UpdateStatus(t.Context(), dp, metav1.UpdateOptions{})
	_, errs["patch"] = s.dataPlanes.Patch(t.Context(), name, types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
	_, errs["status apply"] = s.dataPlanes.ApplyStatus(t.Context(), s.applyConditions(name), ApplyAs("one"))
	return errs
}

func testInvalidName(t *testing.T, s *space) {
	for name, want := range map[string]string{
		"":    "resource name may not be empty",
		"a/b": `invalid resource name "a/b": [may not contain '/']`,
	} {
		errs := s.callEach(t, name)
		_, errs["apply"] = s.dataPlanes.Apply(t.Context(), s.applySpec(name), ApplyAs("one"))
		for call, err := range errs {
			assert.EqualError(t, err, want, call)
		}
	}
}

func testNoNamespace(t *testing.T, s *space) {
	s.skipWithoutNamespaces(t)
	dp := s.create(t, s.New("prod"))
	everywhere := s.in(metav1.NamespaceAll)
	errs := everywhere.callEach(t, "prod")
	_, errs["create"] = everywhere.dataPlanes.Create(t.Context(), s.New("new"), metav1.CreateOptions{})
	_, errs["apply"] = everywhere.dataPlanes.Apply(t.Context(), everywhere.applySpec("new"), ApplyAs("one"))
	errs["delete collection"] = everywhere.dataPlanes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	for call, err := range errs {
		assert.True(t, apierrors.IsNotFound(err), "%s: %v", call, err)
		assert.True(t, apierrors.IsUnexpectedServerError(err), "%s: it is the path that isn't found: %v", call, err)
	}
	AssertSame(t, dp, s.get(t, "prod"))
}

func testUpdate(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	dp.Labels = map[string]string{"tier": "gold"}
	s.Required.Set(dp, "other")
	updated, err := s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, dp.Labels, updated.Labels)
	assert.Equal(t, dp.Spec, updated.Spec)
	assert.NotEqual(t, dp.ResourceVersion, updated.ResourceVersion)
	AssertSame(t, updated, s.get(t, "prod"))

	again, err := s.dataPlanes.Update(t.Context(), updated, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, updated.ResourceVersion, again.ResourceVersion, "an update without a change writes nothing")
}

func testStaleUpdate(t *testing.T, s *space) {
	stale := s.create(t, s.New("prod"))
	fresh := stale.DeepCopy()
	s.Required.Set(fresh, "first")
	_, err := s.dataPlanes.Update(t.Context(), fresh, metav1.UpdateOptions{})
	require.NoError(t, err)

	s.Required.Set(stale, "second")
	_, err = s.dataPlanes.Update(t.Context(), stale, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.Equal(t, "first", s.Required.Get(s.get(t, "prod")))

	stale.ResourceVersion = ""
	_, err = s.dataPlanes.Update(t.Context(), stale, metav1.UpdateOptions{})
	requireInvalid(t, err, "metadata.resourceVersion") // an old one can't be detected otherwise
	assert.Equal(t, s.Plural, detailsOf(t, err).Kind)
	_, err = s.dataPlanes.UpdateStatus(t.Context(), stale, metav1.UpdateOptions{})
	requireInvalid(t, err, "metadata.resourceVersion")
}

func testUpdateReplaced(t *testing.T, s *space) {
	old := s.create(t, s.New("prod"))
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	replacement := s.create(t, s.New("prod"))
	old.ResourceVersion = replacement.ResourceVersion
	_, err := s.dataPlanes.Update(t.Context(), old, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.ErrorContains(t, err, "UID in precondition: "+string(old.UID))
	_, err = s.dataPlanes.UpdateStatus(t.Context(), old, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	AssertSame(t, replacement, s.get(t, "prod"))
}

func testUpdateKeeps(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	changed := dp.DeepCopy()
	changed.UID, changed.Generation, changed.CreationTimestamp, changed.ManagedFields = "", 7, metav1.Time{}, nil
	changed.SetSelfLink("/mine")
	updated, err := s.dataPlanes.Update(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	AssertSame(t, dp, updated)
}

func testMergePatch(t *testing.T, s *space) {
	dp, want := s.New("prod"), s.New("prod")
	s.Part.Set(dp, s.PartValue)
	dp = s.create(t, dp)
	s.Optional.Set(want, "some")
	patch := Put(s.Optional.In("some"), nil, s.Part...)
	patched, err := s.patch(t.Context(), "prod", types.MergePatchType, patch)
	require.NoError(t, err)
	assert.Equal(t, want.Spec, patched.Spec)
	AssertSame(t, patched, s.get(t, "prod"))

	stale := Put(s.Required.In("other"), dp.ResourceVersion, "metadata", "resourceVersion")
	_, err = s.patch(t.Context(), "prod", types.MergePatchType, stale)
	require.True(t, apierrors.IsConflict(err), "a patch may have a resource version: %v", err)
	AssertSame(t, patched, s.get(t, "prod"))
}

func testJSONPatch(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	want := s.New("prod")
	s.Required.Set(want, "other")
	s.Optional.Set(want, "some")
	patch := fmt.Sprintf(`[
		{"op": "test", "path": %[1]q, "value": %[2]q},
		{"op": "replace", "path": %[1]q, "value": "other"},
		{"op": "add", "path": %[3]q, "value": "some"}
	]`, s.Required.Pointer(), s.Required.Get(dp), s.Optional.Pointer())
	patched, err := s.patch(t.Context(), "prod", types.JSONPatchType, patch)
	require.NoError(t, err)
	assert.Equal(t, want.Spec, patched.Spec)

	_, err = s.patch(t.Context(), "prod", types.JSONPatchType, patch)
	require.True(t, apierrors.IsInvalid(err), "the value is no longer what the patch tests for: %v", err)
	assert.Empty(t, detailsOf(t, err).Name, "the request is invalid, not the object")

	_, err = s.patch(t.Context(), "prod", types.JSONPatchType, `[{"op": "test", "path": "/kind"}]`)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	_, err = s.patch(t.Context(), "prod", types.JSONPatchType, `[{"op": "test", "path": "/metadata/labels"}]`)
	require.NoError(t, err, "a test without a value is for an absent field")
	AssertSame(t, patched, s.get(t, "prod"))
}

func testStrategicMergePatch(t *testing.T, s *space) {
	s.create(t, s.New("prod"))
	_, err := s.dataPlanes.Patch(t.Context(), "prod", types.StrategicMergePatchType, []byte(`{}`), metav1.PatchOptions{})
	require.True(t, apierrors.IsUnsupportedMediaType(err), "%v", err)
}

func testDryRun(t *testing.T, s *space) {
	dry := []string{metav1.DryRunAll}
	_, err := s.dataPlanes.Create(t.Context(), s.New("absent"), metav1.CreateOptions{DryRun: dry})
	require.NoError(t, err)
	_, err = s.dataPlanes.Get(t.Context(), "absent", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)

	dp := s.create(t, s.New("prod"))
	changed := dp.DeepCopy()
	s.Required.Set(changed, "other")
	changed, err = s.dataPlanes.Update(t.Context(), changed, metav1.UpdateOptions{DryRun: dry})
	require.NoError(t, err)
	assert.Equal(t, "other", s.Required.Get(changed), "a dry run returns the result")
	assert.EqualValues(t, 2, changed.Generation)
	_, err = s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, []byte(`{"metadata": {"labels": {"tier": "gold"}}}`),
		metav1.PatchOptions{DryRun: dry})
	require.NoError(t, err)
	_, err = s.dataPlanes.Apply(t.Context(), s.apply("prod", s.Required, "other"),
		metav1.ApplyOptions{FieldManager: "one", Force: true, DryRun: dry})
	require.NoError(t, err)
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{DryRun: dry}))
	AssertSame(t, dp, s.get(t, "prod"))
}

func testSelectors(t *testing.T, s *space) {
	for name, tier := range map[string]string{"a": "gold", "b": "silver", "c": "gold", "d": ""} {
		dp := s.New(name)
		if tier != "" {
			dp.Labels = map[string]string{"tier": tier}
		}
		s.create(t, dp)
	}
	for _, test := range []struct {
		options metav1.ListOptions
		want    []string
	}{
		{metav1.ListOptions{LabelSelector: "tier=gold"}, []string{"a", "c"}},
		{metav1.ListOptions{LabelSelector: "tier in (gold, silver),tier!=silver"}, []string{"a", "c"}},
		{metav1.ListOptions{LabelSelector: "!tier"}, []string{"d"}},
		{metav1.ListOptions{FieldSelector: "metadata.name=b"}, []string{"b"}},
		{metav1.ListOptions{FieldSelector: "metadata.name!=b"}, []string{"a", "c", "d"}},
		{metav1.ListOptions{FieldSelector: "metadata.name=a", LabelSelector: "tier=silver"}, []string{}},
	} {
		list, err := s.dataPlanes.List(t.Context(), test.options)
		require.NoError(t, err, "%v", test.options)
		assert.Equal(t, test.want, Names(list.Items), "%v", test.options)
	}
	other := metav1.ListOptions{FieldSelector: "spec=x"}
	_, err := s.dataPlanes.List(t.Context(), other)
	require.True(t, apierrors.IsBadRequest(err), "no other field can be selected: %v", err)
	_, err = s.dataPlanes.Watch(t.Context(), other)
	require.True(t, apierrors.IsBadRequest(err), "%v", err)
}

func testNamespaceSelector(t *testing.T, s *space) {
	s.skipWithoutNamespaces(t)
	s.create(t, s.New("a"))
	s.space(t).create(t, s.New("b"))
	list, err := s.in(metav1.NamespaceAll).dataPlanes.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.namespace=" + s.namespace})
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, Names(list.Items))
}

func testWithoutNamespaces(t *testing.T, s *space) {
	if s.Namespaced {
		t.Skip("the kind has namespaces")
	}
	dp := s.New("prod")
	dp.Namespace = "somewhere"
	dp = s.create(t, dp)
	assert.Empty(t, dp.Namespace)
	changed := dp.DeepCopy()
	changed.Namespace = "somewhere"
	same, err := s.dataPlanes.Update(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	AssertSame(t, dp, same)
	same, err = s.patch(t.Context(), "prod", types.MergePatchType, `{"metadata": {"namespace": "somewhere"}}`)
	require.NoError(t, err)
	AssertSame(t, dp, same)
	_, err = s.dataPlanes.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.namespace=somewhere"})
	require.True(t, apierrors.IsBadRequest(err), "namespaces can't be selected: %v", err)
}
