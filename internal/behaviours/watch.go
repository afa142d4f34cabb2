// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	informers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions/openchoreo/v1alpha1"
)

func testWatchFromResourceVersion(t *testing.T, s *space) {
	s.create(t, s.New("before"))
	list, err := s.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)

	created := s.create(t, s.New("after"))
	watcher := s.watch(t, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	reported := s.setStatus(t, "after", SetConditions)
	changed := s.get(t, "before")
	s.Required.Set(changed, "other")
	changed, err = s.dataPlanes.Update(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "before", metav1.DeleteOptions{}))

	for _, want := range []struct {
		event  watch.EventType
		object *v1alpha1.DataPlane
	}{
		{watch.Added, created},
		{watch.Modified, reported},
		{watch.Modified, changed},
	} {
		event, dp := next(t, watcher)
		assert.Equal(t, want.event, event)
		AssertSame(t, want.object, dp)
	}
	event, last := next(t, watcher)
	assert.Equal(t, watch.Deleted, event)
	assert.Equal(t, changed.UID, last.UID)
	assert.Equal(t, changed.Spec, last.Spec, "the last state")
	assert.NotEqual(t, changed.ResourceVersion, last.ResourceVersion, "the resource version of the deletion")
}

func testWatchSelects(t *testing.T, s *space) {
	list, err := s.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	byName := s.watch(t, metav1.ListOptions{ResourceVersion: list.ResourceVersion, FieldSelector: "metadata.name=prod"})
	byLabel := s.watch(t, metav1.ListOptions{ResourceVersion: list.ResourceVersion, LabelSelector: "tier=gold"})

	s.create(t, s.New("other"))
	dp := s.New("prod")
	dp.Labels = map[string]string{"tier": "gold"}
	dp = s.create(t, dp)
	for _, watcher := range []watch.Interface{byName, byLabel} {
		event, got := next(t, watcher)
		assert.Equal(t, watch.Added, event)
		AssertSame(t, dp, got)
	}

	dp.Labels = nil
	dp, err = s.dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	event, got := next(t, byName)
	assert.Equal(t, watch.Modified, event)
	AssertSame(t, dp, got)
	event, got = next(t, byLabel)
	assert.Equal(t, watch.Deleted, event, "the object is no longer selected")
	assert.Equal(t, "prod", got.Name)
}

func testWatchInitialEvents(t *testing.T, s *space) {
	first, second := s.create(t, s.New("a")), s.create(t, s.New("b"))
	yes := true
	watcher := s.watch(t, metav1.ListOptions{
		SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	for _, want := range []*v1alpha1.DataPlane{first, second} {
		event, dp := next(t, watcher)
		assert.Equal(t, watch.Added, event)
		AssertSame(t, want, dp)
	}
	event, bookmark := next(t, watcher)
	assert.Equal(t, watch.Bookmark, event)
	assert.Equal(t, "true", bookmark.Annotations[metav1.InitialEventsAnnotationKey])
	assert.NotEmpty(t, bookmark.ResourceVersion)

	// Another watch can continue from a bookmark.
	third := s.create(t, s.New("c"))
	event, dp := next(t, s.watch(t, metav1.ListOptions{ResourceVersion: bookmark.ResourceVersion}))
	assert.Equal(t, watch.Added, event)
	AssertSame(t, third, dp)
}

func testWatchFromNow(t *testing.T, s *space) {
	first := s.create(t, s.New("a"))
	for _, version := range []string{"", "0"} {
		watcher := s.watch(t, metav1.ListOptions{ResourceVersion: version})
		event, dp := next(t, watcher)
		assert.Equal(t, watch.Added, event)
		assert.Equal(t, first.Name, dp.Name)
		second := s.create(t, s.New("b"))
		event, dp = next(t, watcher)
		assert.Equal(t, watch.Added, event)
		AssertSame(t, second, dp)
		require.NoError(t, s.dataPlanes.Delete(t.Context(), "b", metav1.DeleteOptions{}))
		event, _ = next(t, watcher)
		assert.Equal(t, watch.Deleted, event)
	}
}

func testWatchEndsWithContext(t *testing.T, s *space) {
	ctx, cancel := context.WithCancel(t.Context())
	watcher, err := s.dataPlanes.Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	defer watcher.Stop()
	s.create(t, s.New("prod"))
	event, _ := next(t, watcher)
	assert.Equal(t, watch.Added, event)
	cancel()
	require.Eventually(t, func() bool {
		select {
		case _, open := <-watcher.ResultChan():
			return !open
		default:
			return false
		}
	}, time.Minute, time.Millisecond)
}

func testWatchDeletion(t *testing.T, s *space) {
	dp := s.New("prod")
	dp.Finalizers = []string{"example.com/hold"}
	dp = s.create(t, dp)
	watcher := s.watch(t, metav1.ListOptions{ResourceVersion: dp.ResourceVersion})
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	event, deleting := next(t, watcher)
	assert.Equal(t, watch.Modified, event)
	assert.NotNil(t, deleting.DeletionTimestamp)

	released := deleting.DeepCopy()
	released.Finalizers = nil
	_, err := s.dataPlanes.Update(t.Context(), released, metav1.UpdateOptions{})
	require.NoError(t, err)
	event, last := next(t, watcher)
	assert.Equal(t, watch.Deleted, event)
	assert.Equal(t, deleting.Finalizers, last.Finalizers, "the last stored state")
	assert.NotEqual(t, deleting.ResourceVersion, last.ResourceVersion)
}

func testInformer(t *testing.T, s *space) {
	present := s.create(t, s.New("present"))
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(s.Client, 0, openchoreoinformers.WithNamespace(s.namespace))
	informer, lister := s.informer(factory.OpenChoreo().V1alpha1())
	added, updated, deleted := make(chan *v1alpha1.DataPlane, 2), make(chan *v1alpha1.DataPlane, 1), make(chan *v1alpha1.DataPlane, 1)
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { added <- AsDataPlane(obj) },
		UpdateFunc: func(_, obj any) { updated <- AsDataPlane(obj) },
		DeleteFunc: func(obj any) { deleted <- AsDataPlane(obj) },
	})
	require.NoError(t, err)
	stop := make(chan struct{})
	factory.Start(stop)
	defer factory.Shutdown()
	defer close(stop)

	AssertSameCached(t, present, receive(t, added))
	created := s.create(t, s.New("new"))
	AssertSameCached(t, created, receive(t, added))
	cached, err := lister("new")
	require.NoError(t, err)
	AssertSameCached(t, created, cached)

	reported := s.setStatus(t, "new", SetConditions)
	AssertSameCached(t, reported, receive(t, updated))
	require.NoError(t, s.dataPlanes.Delete(t.Context(), "new", metav1.DeleteOptions{}))
	assert.Equal(t, reported.Status, receive(t, deleted).Status)
	_, err = lister("new")
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

// informer returns an informer, and a function that gets an object from its lister.
func (s *space) informer(group informers.Interface) (cache.SharedIndexInformer, func(name string) (*v1alpha1.DataPlane, error)) {
	if s.Namespaced {
		return group.DataPlanes().Informer(), group.DataPlanes().Lister().DataPlanes(s.namespace).Get
	}
	return group.ClusterDataPlanes().Informer(), func(name string) (*v1alpha1.DataPlane, error) {
		cluster, err := group.ClusterDataPlanes().Lister().Get(name)
		return AsDataPlane(cluster), err
	}
}
