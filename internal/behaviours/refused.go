// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// requireCode requires the HTTP status code of a refused request.
func requireCode(t *testing.T, code int, err error, msgAndArgs ...any) {
	t.Helper()
	var status *apierrors.StatusError
	require.ErrorAs(t, err, &status, msgAndArgs...)
	require.EqualValues(t, code, status.Status().Code, append([]any{err.Error()}, msgAndArgs...)...)
}

func detailsOf(t *testing.T, err error) *metav1.StatusDetails {
	t.Helper()
	var status *apierrors.StatusError
	require.ErrorAs(t, err, &status)
	require.NotNil(t, status.Status().Details)
	return status.Status().Details
}

// patch sends a patch of an object or, with "status", of its status. A patch that isn't a string is
// encoded as JSON.
func (s *space) patch(ctx context.Context, name string, kind types.PatchType, patch any, subresources ...string) (*v1alpha1.DataPlane, error) {
	text, ok := patch.(string)
	if !ok {
		text = string(Encode(patch))
	}
	options := metav1.PatchOptions{}
	if kind == types.ApplyPatchType {
		options.FieldManager = "one"
	}
	return s.dataPlanes.Patch(ctx, name, kind, []byte(text), options, subresources...)
}

func testOtherName(t *testing.T, s *space) {
	dp, other := s.create(t, s.New("prod")), s.create(t, s.New("other"))
	head := fmt.Sprintf(`"apiVersion": "openchoreo.dev/v1alpha1", "kind": %q`, s.Name)
	for _, subresources := range [][]string{nil, {"status"}} {
		s.requireOtherKey(t, `"name": "other"`, subresources...)
		_, err := s.patch(t.Context(), "prod", types.ApplyPatchType, fmt.Sprintf(`{%s}`, head), subresources...)
		require.NoError(t, err, "apply to %v takes the name from the path if there is such an object", subresources)
	}
	_, err := s.patch(t.Context(), "new", types.ApplyPatchType, fmt.Sprintf(`{%s}`, head))
	requireCode(t, http.StatusBadRequest, err, "apply creates nothing without a name")
	_, err = s.patch(t.Context(), "new", types.ApplyPatchType, fmt.Sprintf(`{%s}`, head), "status")
	requireCode(t, http.StatusNotFound, err, "status apply")

	AssertSame(t, other, s.get(t, "other"))
	assert.Equal(t, dp.Spec, s.get(t, "prod").Spec)
}

func testOtherNamespace(t *testing.T, s *space) {
	s.skipWithoutNamespaces(t)
	dp, elsewhere := s.create(t, s.New("prod")), s.space(t)
	elsewhere.create(t, s.New("prod"))

	moved := dp.DeepCopy()
	moved.Namespace = elsewhere.namespace
	_, err := s.dataPlanes.Update(t.Context(), moved, metav1.UpdateOptions{})
	requireCode(t, http.StatusBadRequest, err, "update")
	_, err = s.dataPlanes.UpdateStatus(t.Context(), moved, metav1.UpdateOptions{})
	requireCode(t, http.StatusBadRequest, err, "status update")
	_, err = s.dataPlanes.Apply(t.Context(), elsewhere.applySpec("prod"), ApplyByForce("one"))
	requireCode(t, http.StatusBadRequest, err, "apply")
	for _, subresources := range [][]string{nil, {"status"}} {
		s.requireOtherKey(t, fmt.Sprintf(`"name": "prod", "namespace": %q`, elsewhere.namespace), subresources...)
	}
	AssertSame(t, dp, s.get(t, "prod"))
}

// requireOtherKey requires that patches of "prod" with the key of another object are refused.
func (s *space) requireOtherKey(t *testing.T, meta string, subresources ...string) {
	t.Helper()
	_, err := s.patch(t.Context(), "prod", types.MergePatchType, fmt.Sprintf(`{"metadata": {%s}}`, meta), subresources...)
	requireCode(t, http.StatusBadRequest, err, "merge patch of %v: %s", subresources, meta)
	_, err = s.patch(t.Context(), "prod", types.ApplyPatchType,
		fmt.Sprintf(`{"apiVersion": "openchoreo.dev/v1alpha1", "kind": %q, "metadata": {%s}}`, s.Name, meta), subresources...)
	requireCode(t, http.StatusBadRequest, err, "apply of %v: %s", subresources, meta)
}

func testOtherIdentity(t *testing.T, s *space) {
	withUID := s.applySpec("prod").WithUID("wrong")
	_, err := s.dataPlanes.Apply(t.Context(), withUID, ApplyAs("one"))
	requireCode(t, http.StatusConflict, err, "apply doesn't create an object of a UID")

	dp := s.create(t, s.New("prod"))
	_, err = s.dataPlanes.Apply(t.Context(), withUID, ApplyByForce("one"))
	requireCode(t, http.StatusUnprocessableEntity, err, "apply")
	for _, patch := range []string{
		`{"metadata": {"uid": "wrong"}}`, // not a conflict, which clients would retry
		`{"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}`,
		`{"kind": null}`,
		`{"kind": "Other"}`,
		`{"apiVersion": "openchoreo.dev/v9"}`,
		`{"metadata": {"labels": {"tier": "not valid!"}}}`,
		`{"metadata": {"finalizers": ["not valid!"]}}`,
	} {
		_, err = s.patch(t.Context(), "prod", types.MergePatchType, patch)
		requireCode(t, http.StatusUnprocessableEntity, err, patch)
	}
	for _, patch := range []string{`{`, `null`, `5`} {
		_, err = s.patch(t.Context(), "prod", types.MergePatchType, patch)
		requireCode(t, http.StatusBadRequest, err, patch)
	}
	_, err = s.patch(t.Context(), "prod", types.JSONPatchType, `{}`)
	requireCode(t, http.StatusBadRequest, err, "a JSON patch is a list")
	_, err = s.patch(t.Context(), "prod", types.MergePatchType, `{}`, "scale")
	requireCode(t, http.StatusNotFound, err, "there is no such subresource")
	AssertSame(t, dp, s.get(t, "prod"))
}

func testRefusedOptions(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	yes, wrongPolicy, orphan := true, metav1.DeletionPropagation("Other"), metav1.DeletePropagationOrphan
	some, long := []string{"Some"}, strings.Repeat("x", 129)
	merge := func(options metav1.PatchOptions) error {
		_, err := s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, []byte(`{"metadata": {"labels": {"a": "b"}}}`), options)
		return err
	}
	create := func(options metav1.CreateOptions) error {
		_, err := s.dataPlanes.Create(t.Context(), s.New("new"), options)
		return err
	}
	update := func(options metav1.UpdateOptions) error {
		changed := dp.DeepCopy()
		changed.Labels = map[string]string{"a": "b"}
		_, err := s.dataPlanes.Update(t.Context(), changed, options)
		return err
	}
	list := func(options metav1.ListOptions) error {
		_, err := s.dataPlanes.List(t.Context(), options)
		return err
	}
	watches := func(options metav1.ListOptions) error {
		watcher, err := s.dataPlanes.Watch(t.Context(), options)
		if err == nil {
			watcher.Stop()
		}
		return err
	}
	get := func(name, version string) error {
		_, err := s.dataPlanes.Get(t.Context(), name, metav1.GetOptions{ResourceVersion: version})
		return err
	}
	deletes := func(options metav1.DeleteOptions) error { return s.dataPlanes.Delete(t.Context(), "prod", options) }
	deletesAll := func(options metav1.ListOptions) error {
		return s.dataPlanes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, options)
	}
	malformed, malformedField := metav1.ListOptions{LabelSelector: "tier in gold"}, metav1.ListOptions{FieldSelector: "metadata.name"}
	const invalid, bad = http.StatusUnprocessableEntity, http.StatusBadRequest
	for name, test := range map[string]struct {
		code int
		err  error
	}{
		"force in a merge patch":              {invalid, merge(metav1.PatchOptions{Force: &yes})},
		"unknown dry run of a patch":          {invalid, merge(metav1.PatchOptions{DryRun: some})},
		"unknown field validation":            {invalid, merge(metav1.PatchOptions{FieldValidation: "Other"})},
		"unknown dry run of a create":         {invalid, create(metav1.CreateOptions{DryRun: some})},
		"long field manager":                  {invalid, create(metav1.CreateOptions{FieldManager: long})},
		"unknown dry run of an update":        {invalid, update(metav1.UpdateOptions{DryRun: some})},
		"unknown dry run of a delete":         {invalid, deletes(metav1.DeleteOptions{DryRun: some})},
		"unknown propagation":                 {invalid, deletes(metav1.DeleteOptions{PropagationPolicy: &wrongPolicy})},
		"two propagations":                    {invalid, deletes(metav1.DeleteOptions{PropagationPolicy: &orphan, OrphanDependents: &yes})}, //nolint:staticcheck // API servers still take it
		"list with initial events":            {invalid, list(metav1.ListOptions{SendInitialEvents: &yes})},
		"list with a match, but no version":   {invalid, list(metav1.ListOptions{ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})},
		"list of nonsense":                    {bad, list(metav1.ListOptions{ResourceVersion: "nonsense"})},
		"get of nonsense":                     {http.StatusInternalServerError, get("prod", "nonsense")},
		"get of nonsense of an absent object": {http.StatusInternalServerError, get("absent", "nonsense")},
		"list by a malformed selector":        {bad, list(malformed)},
		"list by a malformed field":           {bad, list(malformedField)},
		"watch by a malformed selector":       {bad, watches(malformed)},
		"watch by a malformed field":          {bad, watches(malformedField)},
		"delete by a malformed selector":      {bad, deletesAll(malformed)},
		"delete by a malformed field":         {bad, deletesAll(malformedField)},
		"initial events without a match":      {invalid, watches(metav1.ListOptions{SendInitialEvents: &yes})},
		"match without initial events":        {invalid, watches(metav1.ListOptions{ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})},
		"watch from nonsense":                 {http.StatusInternalServerError, watches(metav1.ListOptions{ResourceVersion: "nonsense"})},
	} {
		requireCode(t, test.code, test.err, name)
	}
	items, err := s.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, items.Items, 1)
	AssertSame(t, Listed(dp), &items.Items[0])
}

func testNoBookmark(t *testing.T, s *space) {
	first, yes := s.create(t, s.New("a")), true
	watcher := s.watch(t, metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	event, dp := next(t, watcher)
	assert.Equal(t, watch.Added, event)
	AssertSame(t, first, dp)
	second := s.create(t, s.New("b"))
	event, dp = next(t, watcher)
	assert.Equal(t, watch.Added, event, "no bookmark precedes it")
	AssertSame(t, second, dp)
}
