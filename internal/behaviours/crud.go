// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
)

func testCreateGetList(t *testing.T, s *space) {
	want := NewDataPlane("prod")
	want.Labels = map[string]string{"tier": "gold"}
	want.Annotations = map[string]string{v1alpha1.AnnotationDisplayName: "Production"}
	want.Spec.Registry.SecretRef = "registry-credentials"
	want.Spec.Observer = &v1alpha1.ObserverAPI{
		URL: "https://observer.example.com",
		Authentication: v1alpha1.ObserverAuthentication{
			BasicAuth: v1alpha1.BasicAuthCredentials{Username: "admin", Password: "secretpassword"},
		},
	}
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
	versioned := NewDataPlane("prod")
	versioned.ResourceVersion = "1"
	_, err := s.dataPlanes.Create(t.Context(), versioned, metav1.CreateOptions{})
	require.ErrorContains(t, err, "resourceVersion should not be set on objects to be created")

	long, zero := metav1.Unix(1_000_000_000, 0), int64(0)
	dp := NewDataPlane("prod")
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

	foreign := NewDataPlane("foreign")
	foreign.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "one", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "other.example.com/v1",
		FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:labels":{"f:tier":{}}}}`)},
	}}
	assert.Empty(t, s.create(t, foreign).ManagedFields, "of another API version")

	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	assert.NotEqual(t, created.UID, s.create(t, NewDataPlane("prod")).UID, "another object of the name")
}

func testGenerateName(t *testing.T, s *space) {
	dp := NewDataPlane("")
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
	for name, err := range callEach(t, s.dataPlanes, "absent") {
		require.True(t, apierrors.IsNotFound(err), "%s: %v", name, err)
		require.ErrorContains(t, err, `dataplanes.openchoreo.dev "absent" not found`, name)
	}

	s.create(t, NewDataPlane("prod"))
	_, err := s.dataPlanes.Create(t.Context(), NewDataPlane("prod"), metav1.CreateOptions{})
	require.True(t, apierrors.IsAlreadyExists(err), "%v", err)

	list, err := s.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"prod"}, Names(list.Items))
}

// callEach returns the errors of all requests that name an object, by what they do.
func callEach(t *testing.T, dataPlanes openchoreotyped.DataPlaneInterface, name string) map[string]error {
	t.Helper()
	dp := NewDataPlane(name)
	dp.ResourceVersion = "1"
	errs := map[string]error{"delete": dataPlanes.Delete(t.Context(), name, metav1.DeleteOptions{})}
	_, errs["get"] = dataPlanes.Get(t.Context(), name, metav1.GetOptions{})
	_, errs["update"] = dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	_, errs["status update"] = dataPlanes.UpdateStatus(t.Context(), dp, metav1.UpdateOptions{})
	_, errs["patch"] = dataPlanes.Patch(t.Context(), name, types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
	_, errs["status apply"] = dataPlanes.ApplyStatus(t.Context(), ApplyConditions("", name), ApplyAs("one"))
	return errs
}

func testInvalidName(t *testing.T, s *space) {
	for name, want := range map[string]string{
		"":    "resource name may not be empty",
		"a/b": `invalid resource name "a/b": [may not contain '/']`,
	} {
		errs := callEach(t, s.dataPlanes, name)
		_, errs["apply"] = s.dataPlanes.Apply(t.Context(), ApplySpec("", name), ApplyAs("one"))
		for call, err := range errs {
			assert.EqualError(t, err, want, call)
		}
	}
}

func testNoNamespace(t *testing.T, s *space) {
	dp := s.create(t, NewDataPlane("prod"))
	everywhere := s.Client.OpenChoreoV1alpha1().DataPlanes(metav1.NamespaceAll)
	errs := callEach(t, everywhere, "prod")
	_, errs["create"] = everywhere.Create(t.Context(), NewDataPlane("new"), metav1.CreateOptions{})
	_, errs["apply"] = everywhere.Apply(t.Context(), ApplySpec("", "new"), ApplyAs("one"))
	errs["delete collection"] = everywhere.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	for call, err := range errs {
		assert.True(t, apierrors.IsNotFound(err), "%s: %v", call, err)
		assert.True(t, apierrors.IsUnexpectedServerError(err), "%s: it is the path that isn't found: %v", call, err)
	}
	AssertSame(t, dp, s.get(t, "prod"))
}

func testUpdate(t *testing.T, s *space) {
	dp := s.create(t, NewDataPlane("prod"))
	dp.Labels = map[string]string{"tier": "gold"}
	dp.Spec.Registry.Prefix = "docker.io/other"
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
	stale := s.create(t, NewDataPlane("prod"))
	fresh := stale.DeepCopy()
	fresh.Spec.Registry.Prefix = "docker.io/first"
	_, err := s.dataPlanes.Update(t.Context(), fresh, metav1.UpdateOptions{})
	require.NoError(t, err)

	stale.Spec.Registry.Prefix = "docker.io/second"
	_, err = s.dataPlanes.Update(t.Context(), stale, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.Equal(t, "docker.io/first", s.get(t, "prod").Spec.Registry.Prefix)

	stale.ResourceVersion = ""
	_, err = s.dataPlanes.Update(t.Context(), stale, metav1.UpdateOptions{})
	requireInvalid(t, err, "metadata.resourceVersion") // otherwise there'd be no telling
	assert.Equal(t, "dataplanes", detailsOf(t, err).Kind)
	_, err = s.dataPlanes.UpdateStatus(t.Context(), stale, metav1.UpdateOptions{})
	requireInvalid(t, err, "metadata.resourceVersion")
}

func testUpdateReplaced(t *testing.T, s *space) {
	old := s.create(t, NewDataPlane("prod"))
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	replacement := s.create(t, NewDataPlane("prod"))
	old.ResourceVersion = replacement.ResourceVersion
	_, err := s.dataPlanes.Update(t.Context(), old, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.ErrorContains(t, err, "UID in precondition: "+string(old.UID))
	_, err = s.dataPlanes.UpdateStatus(t.Context(), old, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	AssertSame(t, replacement, s.get(t, "prod"))
}

func testUpdateKeeps(t *testing.T, s *space) {
	dp := s.create(t, NewDataPlane("prod"))
	changed := dp.DeepCopy()
	changed.UID, changed.Generation, changed.CreationTimestamp, changed.ManagedFields = "", 7, metav1.Time{}, nil
	changed.SetSelfLink("/mine")
	updated, err := s.dataPlanes.Update(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	AssertSame(t, dp, updated)
}

func testMergePatch(t *testing.T, s *space) {
	dp := NewDataPlane("prod")
	dp.Spec.Observer = &v1alpha1.ObserverAPI{URL: "https://observer.example.com"}
	dp = s.create(t, dp)
	want := dp.Spec.DeepCopy()
	want.Registry.SecretRef = "registry-credentials"
	want.Observer = nil
	patched, err := s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType,
		[]byte(`{"spec": {"registry": {"secretRef": "registry-credentials"}, "observer": null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	assert.Equal(t, *want, patched.Spec)
	AssertSame(t, patched, s.get(t, "prod"))

	stale, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": dp.ResourceVersion},
		"spec":     map[string]any{"registry": map[string]any{"prefix": "docker.io/other"}},
	})
	require.NoError(t, err)
	_, err = s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, stale, metav1.PatchOptions{})
	require.True(t, apierrors.IsConflict(err), "a patch may ask for a resource version: %v", err)
	AssertSame(t, patched, s.get(t, "prod"))
}

func testJSONPatch(t *testing.T, s *space) {
	dp := s.create(t, NewDataPlane("prod"))
	want := dp.Spec.DeepCopy()
	want.Gateway.PublicVirtualHost = "www.example.com"
	want.Registry.SecretRef = "registry-credentials"
	patch := []byte(`[
		{"op": "test", "path": "/spec/gateway/publicVirtualHost", "value": "api.example.com"},
		{"op": "replace", "path": "/spec/gateway/publicVirtualHost", "value": "www.example.com"},
		{"op": "add", "path": "/spec/registry/secretRef", "value": "registry-credentials"}
	]`)
	patched, err := s.dataPlanes.Patch(t.Context(), "prod", types.JSONPatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	assert.Equal(t, *want, patched.Spec)

	_, err = s.dataPlanes.Patch(t.Context(), "prod", types.JSONPatchType, patch, metav1.PatchOptions{})
	require.True(t, apierrors.IsInvalid(err), "the value is no longer what the patch tests for: %v", err)
	assert.Empty(t, detailsOf(t, err).Name, "it's the request that is invalid, not the object")

	_, err = s.patch(t.Context(), "prod", types.JSONPatchType, `[{"op": "test", "path": "/kind"}]`)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	_, err = s.patch(t.Context(), "prod", types.JSONPatchType, `[{"op": "test", "path": "/metadata/labels"}]`)
	require.NoError(t, err, "a test without a value is for what is absent")
	AssertSame(t, patched, s.get(t, "prod"))
}

func testStrategicMergePatch(t *testing.T, s *space) {
	s.create(t, NewDataPlane("prod"))
	_, err := s.dataPlanes.Patch(t.Context(), "prod", types.StrategicMergePatchType, []byte(`{}`), metav1.PatchOptions{})
	require.True(t, apierrors.IsUnsupportedMediaType(err), "%v", err)
}

func testDryRun(t *testing.T, s *space) {
	dry := []string{metav1.DryRunAll}
	_, err := s.dataPlanes.Create(t.Context(), NewDataPlane("absent"), metav1.CreateOptions{DryRun: dry})
	require.NoError(t, err)
	_, err = s.dataPlanes.Get(t.Context(), "absent", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)

	dp := s.create(t, NewDataPlane("prod"))
	changed := dp.DeepCopy()
	changed.Spec.Registry.Prefix = "docker.io/other"
	changed, err = s.dataPlanes.Update(t.Context(), changed, metav1.UpdateOptions{DryRun: dry})
	require.NoError(t, err)
	assert.Equal(t, "docker.io/other", changed.Spec.Registry.Prefix, "it returns what would be")
	assert.EqualValues(t, 2, changed.Generation)
	_, err = s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, []byte(`{"metadata": {"labels": {"tier": "gold"}}}`),
		metav1.PatchOptions{DryRun: dry})
	require.NoError(t, err)
	_, err = s.dataPlanes.Apply(t.Context(), ApplyPrefix(s.namespace, "prod", "docker.io/other"),
		metav1.ApplyOptions{FieldManager: "one", Force: true, DryRun: dry})
	require.NoError(t, err)
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{DryRun: dry}))
	AssertSame(t, dp, s.get(t, "prod"))
}

func testSelectors(t *testing.T, s *space) {
	for name, tier := range map[string]string{"a": "gold", "b": "silver", "c": "gold", "d": ""} {
		dp := NewDataPlane(name)
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
		{metav1.ListOptions{FieldSelector: "metadata.name!=b,metadata.namespace=" + s.namespace}, []string{"a", "c", "d"}},
		{metav1.ListOptions{FieldSelector: "metadata.name=a", LabelSelector: "tier=silver"}, []string{}},
	} {
		list, err := s.dataPlanes.List(t.Context(), test.options)
		require.NoError(t, err, "%v", test.options)
		assert.Equal(t, test.want, Names(list.Items), "%v", test.options)
	}
	everywhere, err := s.Client.OpenChoreoV1alpha1().DataPlanes(metav1.NamespaceAll).
		List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.namespace=" + s.namespace})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "c", "d"}, Names(everywhere.Items))
	_, err = s.dataPlanes.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.registry.prefix=docker.io/myorg"})
	require.True(t, apierrors.IsBadRequest(err), "no other field can be selected: %v", err)
	_, err = s.dataPlanes.Watch(t.Context(), metav1.ListOptions{FieldSelector: "spec.registry.prefix=docker.io/myorg"})
	require.True(t, apierrors.IsBadRequest(err), "%v", err)
}
