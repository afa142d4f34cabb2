// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func testStoredAsJSON(t *testing.T, s *space) {
	dp := s.New("prod")
	dp.Labels, dp.Annotations, dp.Finalizers = map[string]string{}, map[string]string{}, []string{}
	dp.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: "1"}}
	dp.OwnerReferences = append(dp.OwnerReferences, dp.OwnerReferences[0])
	created := s.create(t, dp)
	assert.Nil(t, created.Labels)
	assert.Nil(t, created.Annotations)
	assert.Nil(t, created.Finalizers)
	assert.Len(t, created.OwnerReferences, 1, "a duplicate is stored once")

	changed := created.DeepCopy()
	changed.Labels = map[string]string{}
	same, err := s.dataPlanes.Update(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	AssertSame(t, created, same, "to add empty values changes nothing")

	at := time.Unix(1_700_000_000, 123_456_789)
	reported := s.setStatus(t, "prod", func(status *v1alpha1.DataPlaneStatus) {
		SetConditions(status)
		status.Conditions[0].LastTransitionTime = metav1.NewTime(at)
	})
	assert.Equal(t, at.Truncate(time.Second), reported.Status.Conditions[0].LastTransitionTime.Time, "times are in whole seconds")
	AssertSame(t, reported, s.get(t, "prod"))
	again := reported.DeepCopy()
	again.Status.Conditions[0].LastTransitionTime = metav1.NewTime(at)
	again, err = s.dataPlanes.UpdateStatus(t.Context(), again, metav1.UpdateOptions{})
	require.NoError(t, err)
	AssertSame(t, reported, again)
}

func testJSONPatchOfStored(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	for _, path := range []string{"/status/conditions", "/status/conditions/-", "/metadata/labels/tier", "/metadata/finalizers/-"} {
		_, err := s.patch(t.Context(), "prod", types.JSONPatchType, `[{"op": "add", "path": "`+path+`", "value": []}]`, "status")
		requireCode(t, http.StatusUnprocessableEntity, err, "a new object has nothing at %s", path)
	}
	_, err := s.patch(t.Context(), "prod", types.JSONPatchType, `[{"op": "test", "path": "`+s.Optional.Pointer()+`", "value": ""}]`)
	requireCode(t, http.StatusUnprocessableEntity, err, "an absent field isn't empty")

	patched, err := s.patch(t.Context(), "prod", types.JSONPatchType, `[{"op": "add", "path": "/status", "value": {"conditions": []}}]`, "status")
	require.NoError(t, err)
	assert.NotEqual(t, dp.ResourceVersion, patched.ResourceVersion)
	patched, err = s.patch(t.Context(), "prod", types.MergePatchType, s.Optional.In(""))
	require.NoError(t, err)
	assert.EqualValues(t, 2, patched.Generation, "an empty field isn't absent")
}

func testUnknownFields(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	const patch = `{"spec": {"gateway": {"unknown": 1}}, "metadata": {"unknown": 1}, "unknown": {}}`
	patched, err := s.patch(t.Context(), "prod", types.MergePatchType, patch)
	require.NoError(t, err)
	AssertSame(t, dp, patched, "fields that the CRD doesn't have are dropped")
	_, err = s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldValidation: metav1.FieldValidationStrict})
	requireCode(t, http.StatusUnprocessableEntity, err)
	_, err = s.patch(t.Context(), "prod", types.MergePatchType, s.Required.In(5))
	requireCode(t, http.StatusUnprocessableEntity, err, "a number is not a string")
	_, err = s.patch(t.Context(), "prod", types.ApplyPatchType,
		fmt.Sprintf(`{"apiVersion": "openchoreo.dev/v1alpha1", "kind": %q, "metadata": {"name": "prod"}, "spec": {"unknown": 1}}`, s.Name))
	requireCode(t, http.StatusInternalServerError, err, "apply refuses unknown fields")
}

func testWrongTypes(t *testing.T, s *space) {
	const spec, status = `{"spec": 5}`, `{"status": {"conditions": "none"}}`
	for i, test := range []struct {
		subresources     []string
		refused, ignored string
	}{{nil, spec, status}, {[]string{"status"}, status, spec}} {
		name := fmt.Sprint("prod-", i)
		dp := s.create(t, s.New(name))
		_, err := s.patch(t.Context(), name, types.MergePatchType, test.refused, test.subresources...)
		requireCode(t, http.StatusUnprocessableEntity, err, "%v", test.subresources)
		assert.Equal(t, s.Name, detailsOf(t, err).Kind)
		assert.Equal(t, name, detailsOf(t, err).Name)
		AssertSame(t, dp, s.get(t, name))

		patched, err := s.patch(t.Context(), name, types.MergePatchType, test.ignored, test.subresources...)
		require.NoError(t, err, "%v leaves it alone", test.subresources)
		assert.Equal(t, dp.Spec, patched.Spec)
		assert.Equal(t, dp.Status, patched.Status)
		assert.Empty(t, patched.ManagedFields, "its managers are forgotten")
	}
	s.create(t, s.New("other"))
	patched, err := s.patch(t.Context(), "other", types.MergePatchType, `{"kind": "Other", "status": {"observedGeneration": 1}}`, "status")
	require.NoError(t, err, "a patch of the status doesn't change the kind")
	assert.EqualValues(t, 1, patched.Status.ObservedGeneration)
	assert.Empty(t, patched.ManagedFields)
}

func testStoredUnknownFields(t *testing.T, s *space) {
	dp := s.New("prod")
	dp.Finalizers = []string{"example.com/hold"}
	s.create(t, dp)
	_, err := s.patch(t.Context(), "prod", types.MergePatchType, `{"kind": "Other", "status": {"unknown": 1}}`, "status")
	require.NoError(t, err, "the field is stored, because the fields of another kind are unknown")
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	deleting := s.get(t, "prod")
	same, err := s.dataPlanes.UpdateStatus(t.Context(), deleting, metav1.UpdateOptions{})
	require.NoError(t, err)
	AssertSame(t, deleting, same, "the deletion has dropped the field")
	_, err = s.patch(t.Context(), "prod", types.MergePatchType, `{"metadata": {"finalizers": null}}`)
	require.NoError(t, err)
}

func testGenerateNameIsCut(t *testing.T, s *space) {
	dp := s.New("")
	dp.GenerateName = strings.Repeat("a", 70)
	created := s.create(t, dp)
	assert.Len(t, created.Name, 63)
	assert.True(t, strings.HasPrefix(created.Name, strings.Repeat("a", 58)))
	assert.Equal(t, dp.GenerateName, created.GenerateName)
}

func testApplyYAML(t *testing.T, s *space) {
	s.create(t, s.New("prod"))
	applied, err := s.patch(t.Context(), "prod", types.ApplyPatchType, `
apiVersion: openchoreo.dev/v1alpha1
kind: `+s.Name+`
metadata:
  name: prod
  labels:
    tier: gold
`)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"tier": "gold"}, applied.Labels)
	_, err = s.patch(t.Context(), "prod", types.ApplyPatchType, `a: b: c`)
	requireCode(t, http.StatusBadRequest, err)
}
