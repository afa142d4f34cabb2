// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func testCreateGetList(t *testing.T, s *space) {
	want := newDataPlane("prod")
	want.Labels = map[string]string{"tier": "gold"}
	want.Annotations = map[string]string{openchoreov1alpha1.AnnotationDisplayName: "Production"}
	want.Spec.Registry.SecretRef = "registry-credentials"
	want.Spec.Observer = &openchoreov1alpha1.ObserverAPI{
		URL: "https://observer.example.com",
		Authentication: openchoreov1alpha1.ObserverAuthentication{
			BasicAuth: openchoreov1alpha1.BasicAuthCredentials{Username: "admin", Password: "secretpassword"},
		},
	}
	created := s.create(t, want)
	assert.Equal(t, want.Spec, created.Spec)
	assert.Equal(t, want.Labels, created.Labels)
	assert.Equal(t, want.Annotations, created.Annotations)
	assert.Equal(t, s.namespace, created.Namespace)
	assert.EqualValues(t, 1, created.Generation)
	assert.NotEmpty(t, created.UID)
	assert.NotEmpty(t, created.ResourceVersion)
	assert.False(t, created.CreationTimestamp.IsZero())

	assertSame(t, created, s.get(t, "prod"))
	list, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	assert.NotEmpty(t, list.ResourceVersion)
	assertSame(t, created, &list.Items[0])
}

func testAbsentAndExisting(t *testing.T, s *space) {
	absent := newDataPlane("absent")
	absent.ResourceVersion = "1"
	for name, call := range map[string]func() error{
		"get": func() error {
			_, err := s.typed.Get(t.Context(), "absent", metav1.GetOptions{})
			return err
		},
		"update": func() error {
			_, err := s.typed.Update(t.Context(), absent, metav1.UpdateOptions{})
			return err
		},
		"status update": func() error {
			_, err := s.typed.UpdateStatus(t.Context(), absent, metav1.UpdateOptions{})
			return err
		},
		"patch": func() error {
			_, err := s.typed.Patch(t.Context(), "absent", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
			return err
		},
		"delete": func() error {
			return s.typed.Delete(t.Context(), "absent", metav1.DeleteOptions{})
		},
	} {
		err := call()
		require.True(t, apierrors.IsNotFound(err), "%s: %v", name, err)
		require.ErrorContains(t, err, `dataplanes.openchoreo.dev "absent" not found`, name)
	}

	s.create(t, newDataPlane("prod"))
	_, err := s.typed.Create(t.Context(), newDataPlane("prod"), metav1.CreateOptions{})
	require.True(t, apierrors.IsAlreadyExists(err), "%v", err)

	list, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"prod"}, names(list.Items))
}

func testUpdate(t *testing.T, s *space) {
	dp := s.create(t, newDataPlane("prod"))
	dp.Labels = map[string]string{"tier": "gold"}
	dp.Spec.Registry.Prefix = "docker.io/other"
	updated, err := s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, dp.Labels, updated.Labels)
	assert.Equal(t, dp.Spec, updated.Spec)
	assert.NotEqual(t, dp.ResourceVersion, updated.ResourceVersion)
	assertSame(t, updated, s.get(t, "prod"))

	again, err := s.typed.Update(t.Context(), updated, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, updated.ResourceVersion, again.ResourceVersion, "an update without a change writes nothing")
}

func testStaleUpdate(t *testing.T, s *space) {
	stale := s.create(t, newDataPlane("prod"))
	fresh := stale.DeepCopy()
	fresh.Spec.Registry.Prefix = "docker.io/first"
	_, err := s.typed.Update(t.Context(), fresh, metav1.UpdateOptions{})
	require.NoError(t, err)

	stale.Spec.Registry.Prefix = "docker.io/second"
	_, err = s.typed.Update(t.Context(), stale, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.Equal(t, "docker.io/first", s.get(t, "prod").Spec.Registry.Prefix)

	stale.ResourceVersion = ""
	_, err = s.typed.Update(t.Context(), stale, metav1.UpdateOptions{})
	require.True(t, apierrors.IsInvalid(err), "without a resource version, there's no telling: %v", err)
	assert.Contains(t, causeFields(err), "metadata.resourceVersion")
}

func testMergePatch(t *testing.T, s *space) {
	dp := newDataPlane("prod")
	dp.Spec.Observer = &openchoreov1alpha1.ObserverAPI{URL: "https://observer.example.com"}
	dp = s.create(t, dp)
	want := dp.Spec.DeepCopy()
	want.Registry.SecretRef = "registry-credentials"
	want.Observer = nil
	patched, err := s.typed.Patch(t.Context(), "prod", types.MergePatchType,
		[]byte(`{"spec": {"registry": {"secretRef": "registry-credentials"}, "observer": null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	assert.Equal(t, *want, patched.Spec)
	assertSame(t, patched, s.get(t, "prod"))

	stale, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": dp.ResourceVersion},
		"spec":     map[string]any{"registry": map[string]any{"prefix": "docker.io/other"}},
	})
	require.NoError(t, err)
	_, err = s.typed.Patch(t.Context(), "prod", types.MergePatchType, stale, metav1.PatchOptions{})
	require.True(t, apierrors.IsConflict(err), "a patch may ask for a resource version: %v", err)
	assertSame(t, patched, s.get(t, "prod"))
}

func testJSONPatch(t *testing.T, s *space) {
	dp := s.create(t, newDataPlane("prod"))
	want := dp.Spec.DeepCopy()
	want.Gateway.PublicVirtualHost = "www.example.com"
	want.Registry.SecretRef = "registry-credentials"
	patch := []byte(`[
		{"op": "test", "path": "/spec/gateway/publicVirtualHost", "value": "api.example.com"},
		{"op": "replace", "path": "/spec/gateway/publicVirtualHost", "value": "www.example.com"},
		{"op": "add", "path": "/spec/registry/secretRef", "value": "registry-credentials"}
	]`)
	patched, err := s.typed.Patch(t.Context(), "prod", types.JSONPatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	assert.Equal(t, *want, patched.Spec)

	_, err = s.typed.Patch(t.Context(), "prod", types.JSONPatchType, patch, metav1.PatchOptions{})
	require.True(t, apierrors.IsInvalid(err), "the value is no longer what the patch tests for: %v", err)
	assertSame(t, patched, s.get(t, "prod"))
}

func testStrategicMergePatch(t *testing.T, s *space) {
	s.create(t, newDataPlane("prod"))
	_, err := s.typed.Patch(t.Context(), "prod", types.StrategicMergePatchType, []byte(`{}`), metav1.PatchOptions{})
	require.True(t, apierrors.IsUnsupportedMediaType(err), "%v", err)
}

func testDelete(t *testing.T, s *space) {
	dp := s.create(t, newDataPlane("prod"))
	other := types.UID("another")
	err := s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	s.get(t, "prod")

	require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &dp.UID}}))
	_, err = s.typed.Get(t.Context(), "prod", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

func testFinalizers(t *testing.T, s *space) {
	dp := newDataPlane("prod")
	dp.Finalizers = []string{"openchoreo.dev/dataplane-cleanup"}
	s.create(t, dp)
	require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	deleting := s.get(t, "prod")
	assert.False(t, deleting.DeletionTimestamp.IsZero())

	deleting.Finalizers = nil
	_, err := s.typed.Update(t.Context(), deleting, metav1.UpdateOptions{})
	require.NoError(t, err)
	_, err = s.typed.Get(t.Context(), "prod", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

func testDeleteCollection(t *testing.T, s *space) {
	for _, name := range []string{"a", "b", "c"} {
		dp := newDataPlane(name)
		dp.Labels = map[string]string{"keep": strconv.FormatBool(name == "b")}
		s.create(t, dp)
	}
	elsewhere := s.space(t)
	dp := newDataPlane("a")
	dp.Labels = map[string]string{"keep": "false"}
	elsewhere.create(t, dp)

	require.NoError(t, s.typed.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "keep=false"}))
	list, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"b"}, names(list.Items))
	elsewhere.get(t, "a")
}

func testPages(t *testing.T, s *space) {
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("dp-%02d", i)
		want = append(want, name)
		s.create(t, newDataPlane(name))
	}
	options := metav1.ListOptions{Limit: 10}
	var got []string
	var sizes []int
	var version string
	for {
		page, err := s.typed.List(t.Context(), options)
		require.NoError(t, err)
		got = append(got, names(page.Items)...)
		sizes = append(sizes, len(page.Items))
		if version == "" {
			version = page.ResourceVersion
			require.NotNil(t, page.RemainingItemCount)
			assert.EqualValues(t, 15, *page.RemainingItemCount)
			// The pages to come are of the time of the first.
			s.create(t, newDataPlane("dp-24-late"))
			require.NoError(t, s.typed.Delete(t.Context(), "dp-24", metav1.DeleteOptions{}))
		}
		assert.Equal(t, version, page.ResourceVersion)
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	assert.Equal(t, want, got)
	assert.Equal(t, []int{10, 10, 5}, sizes)
}

func testSelectors(t *testing.T, s *space) {
	for name, tier := range map[string]string{"a": "gold", "b": "silver", "c": "gold", "d": ""} {
		dp := newDataPlane(name)
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
		list, err := s.typed.List(t.Context(), test.options)
		require.NoError(t, err, "%v", test.options)
		assert.Equal(t, test.want, names(list.Items), "%v", test.options)
	}
	_, err := s.typed.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.registry.prefix=docker.io/myorg"})
	require.True(t, apierrors.IsBadRequest(err), "no other field can be selected: %v", err)
}
