// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// watch starts a watch that ends with the test.
func (s *space) watch(t *testing.T, options metav1.ListOptions) watch.Interface {
	t.Helper()
	watcher, err := s.typed.Watch(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(watcher.Stop)
	return watcher
}

// nextDataPlane returns the next event of a watch, which must be about a DataPlane.
func nextDataPlane(t *testing.T, watcher watch.Interface) (watch.EventType, *openchoreov1alpha1.DataPlane) {
	t.Helper()
	event := next(t, watcher)
	require.IsType(t, &openchoreov1alpha1.DataPlane{}, event.Object, "%s", event.Type)
	return event.Type, event.Object.(*openchoreov1alpha1.DataPlane)
}

func testWatchFromResourceVersion(t *testing.T, s *space) {
	s.create(t, newDataPlane("before"))
	list, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)

	created := s.create(t, newDataPlane("after"))
	watcher := s.watch(t, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	reported := s.setStatus(t, "after", report)
	changed := s.get(t, "before")
	changed.Spec.Registry.Prefix = "docker.io/other"
	changed, err = s.typed.Update(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, s.typed.Delete(t.Context(), "before", metav1.DeleteOptions{}))

	for _, want := range []struct {
		event  watch.EventType
		object *openchoreov1alpha1.DataPlane
	}{
		{watch.Added, created},
		{watch.Modified, reported},
		{watch.Modified, changed},
	} {
		event, dp := nextDataPlane(t, watcher)
		assert.Equal(t, want.event, event)
		assertSame(t, want.object, dp)
	}
	event, last := nextDataPlane(t, watcher)
	assert.Equal(t, watch.Deleted, event)
	assert.Equal(t, changed.UID, last.UID)
	assert.Equal(t, changed.Spec, last.Spec, "with the last state")
	assert.NotEqual(t, changed.ResourceVersion, last.ResourceVersion, "at the resource version of the deletion")
}

func testWatchSelects(t *testing.T, s *space) {
	list, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	byName := s.watch(t, metav1.ListOptions{ResourceVersion: list.ResourceVersion, FieldSelector: "metadata.name=prod"})
	byLabel := s.watch(t, metav1.ListOptions{ResourceVersion: list.ResourceVersion, LabelSelector: "tier=gold"})

	s.create(t, newDataPlane("other"))
	dp := newDataPlane("prod")
	dp.Labels = map[string]string{"tier": "gold"}
	dp = s.create(t, dp)
	for _, watcher := range []watch.Interface{byName, byLabel} {
		event, got := nextDataPlane(t, watcher)
		assert.Equal(t, watch.Added, event)
		assertSame(t, dp, got)
	}

	dp.Labels = nil
	dp, err = s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	event, got := nextDataPlane(t, byName)
	assert.Equal(t, watch.Modified, event)
	assertSame(t, dp, got)
	event, got = nextDataPlane(t, byLabel)
	assert.Equal(t, watch.Deleted, event, "it's no longer selected")
	assert.Equal(t, "prod", got.Name)
}

func testWatchInitialEvents(t *testing.T, s *space) {
	first, second := s.create(t, newDataPlane("a")), s.create(t, newDataPlane("b"))
	yes := true
	watcher := s.watch(t, metav1.ListOptions{
		SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	for _, want := range []*openchoreov1alpha1.DataPlane{first, second} {
		event, dp := nextDataPlane(t, watcher)
		assert.Equal(t, watch.Added, event)
		assertSame(t, want, dp)
	}
	event, bookmark := nextDataPlane(t, watcher)
	assert.Equal(t, watch.Bookmark, event)
	assert.Equal(t, "true", bookmark.Annotations[metav1.InitialEventsAnnotationKey])
	assert.NotEmpty(t, bookmark.ResourceVersion)

	// A bookmark is where another watch can go on.
	third := s.create(t, newDataPlane("c"))
	event, dp := nextDataPlane(t, s.watch(t, metav1.ListOptions{ResourceVersion: bookmark.ResourceVersion}))
	assert.Equal(t, watch.Added, event)
	assertSame(t, third, dp)
}

// No API server remembers what was before the definition was installed.
func testWatchExpired(t *testing.T, s *space) {
	requireExpired(t, s, "1")
}

func requireExpired(t *testing.T, s *space, resourceVersion string) {
	t.Helper()
	event := next(t, s.watch(t, metav1.ListOptions{ResourceVersion: resourceVersion}))
	require.Equal(t, watch.Error, event.Type)
	err := apierrors.FromObject(event.Object)
	require.True(t, apierrors.IsResourceExpired(err), "%v", err)
	require.ErrorContains(t, err, "too old resource version")
}
