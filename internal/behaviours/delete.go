// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func testDelete(t *testing.T, s *space) {
	dp := s.create(t, s.New("prod"))
	other := types.UID("another")
	err := s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	s.get(t, "prod")

	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &dp.UID}}))
	_, err = s.dataPlanes.Get(t.Context(), "prod", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

func testFinalizers(t *testing.T, s *space) {
	dp := s.New("prod")
	dp.Finalizers = []string{"openchoreo.dev/dataplane-cleanup", "example.com/hold"}
	dp = s.create(t, dp)
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	deleting := s.get(t, "prod")
	assert.False(t, deleting.DeletionTimestamp.IsZero())
	assert.NotEqual(t, dp.ResourceVersion, deleting.ResourceVersion)
	assert.EqualValues(t, 2, deleting.Generation, "a deletion increments the generation")

	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	AssertSame(t, deleting, s.get(t, "prod"), "the second deletion changes nothing")
	_, err := s.dataPlanes.Create(t.Context(), s.New("prod"), metav1.CreateOptions{})
	require.True(t, apierrors.IsAlreadyExists(err), "%v", err)

	more := deleting.DeepCopy()
	more.Finalizers = append(more.Finalizers, "example.com/late")
	_, err = s.dataPlanes.Update(t.Context(), more, metav1.UpdateOptions{})
	requireInvalid(t, err, "metadata.finalizers")

	deleting = s.setStatus(t, "prod", SetConditions)
	assert.NotEmpty(t, deleting.Status.Conditions)
	kept := deleting.DeepCopy()
	kept.DeletionTimestamp = nil
	kept.Finalizers = []string{"example.com/hold"}
	kept, err = s.dataPlanes.Update(t.Context(), kept, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, deleting.DeletionTimestamp, kept.DeletionTimestamp, "a deletion can't be undone")

	last, err := s.dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	assert.Empty(t, last.Finalizers)
	_, err = s.dataPlanes.Get(t.Context(), "prod", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

func testDeleteCollection(t *testing.T, s *space) {
	for _, name := range []string{"a", "b", "c"} {
		dp := s.New(name)
		dp.Labels = map[string]string{"keep": strconv.FormatBool(name == "b")}
		s.create(t, dp)
	}
	require.NoError(t, s.dataPlanes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "keep=false"}))
	list, err := s.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"b"}, Names(list.Items))
}

func testDeleteCollectionOfNamespace(t *testing.T, s *space) {
	s.skipWithoutNamespaces(t)
	elsewhere := s.space(t)
	elsewhere.create(t, s.New("a"))
	require.NoError(t, s.dataPlanes.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	elsewhere.get(t, "a")
}

func testPropagation(t *testing.T, s *space) {
	for policy, finalizer := range map[metav1.DeletionPropagation]string{
		metav1.DeletePropagationForeground: metav1.FinalizerDeleteDependents,
		metav1.DeletePropagationOrphan:     metav1.FinalizerOrphanDependents,
	} {
		dp := s.New("prod")
		dp.Finalizers = []string{"example.com/hold"}
		s.create(t, dp)
		require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{PropagationPolicy: &policy}))
		deleting := s.get(t, "prod")
		assert.Equal(t, []string{"example.com/hold", finalizer}, deleting.Finalizers, policy)
		assert.NotNil(t, deleting.DeletionTimestamp)
		assert.EqualValues(t, 2, deleting.Generation)

		require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
		AssertSame(t, deleting, s.get(t, "prod"), "a delete without a policy keeps the finalizer")

		background := metav1.DeletePropagationBackground
		require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{PropagationPolicy: &background}))
		assert.Equal(t, []string{"example.com/hold"}, s.get(t, "prod").Finalizers)
		_, err := s.patch(t.Context(), "prod", types.MergePatchType, `{"metadata": {"finalizers": null}}`)
		require.NoError(t, err)
		_, err = s.dataPlanes.Get(t.Context(), "prod", metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
	}
}

func testDeletePreconditions(t *testing.T, s *space) {
	old := s.create(t, s.New("prod"))
	current := s.setStatus(t, "prod", SetConditions)
	preconditions := func(version string) metav1.DeleteOptions {
		return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}}
	}
	err := s.dataPlanes.Delete(t.Context(), "prod", preconditions(old.ResourceVersion))
	requireCode(t, http.StatusConflict, err)
	assert.Equal(t, s.Name, detailsOf(t, err).Kind)
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", preconditions(current.ResourceVersion)))
}
