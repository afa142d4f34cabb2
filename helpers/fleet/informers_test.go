// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestRunFailsIfAnInformerHasStopped(t *testing.T) {
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{}, &v1alpha1.DataPlane{}, 0, cache.Indexers{})
	stopped := make(chan struct{})
	close(stopped)
	informer.Run(stopped)
	f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, informer)
	for range 2 {
		err := f.Run(t.Context())
		require.ErrorContains(t, err, "fleet: watch data planes: ")
		require.Equal(t, 1, strings.Count(err.Error(), "stopped already"), err.Error())
	}
}

func TestRunEndsWhenAnInformerStops(t *testing.T) {
	informer := cache.NewSharedIndexInformer(&source{FakeControllerSource: cachetesting.NewFakeControllerSource()}, &v1alpha1.DataPlane{}, 0, cache.Indexers{})
	stop := make(chan struct{})
	go informer.Run(stop)
	f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, informer)
	result := make(chan error, 1)
	go func() { result <- f.Run(t.Context()) }()
	require.Eventually(t, func() bool { return f.Status().Informers[0].Synced }, 10*time.Second, time.Millisecond)
	close(stop)
	require.EqualError(t, testserver.Receive(t, result), "fleet: the informer has stopped")
}

// An informer that stops because the context of Run has ended is no error, even when the informer
// stops first.
func TestAnInformerThatEndsWithTheContextIsNoError(t *testing.T) {
	ctx := ownContext{context.Background(), make(chan struct{})}
	informer := &endsContext{SharedIndexInformer: newSource(t).informer, end: func() { close(ctx.done) }}
	require.NoError(t, fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, informer).Run(ctx))
}

// ownContext isn't a context of package context, so contexts derived from it end a moment later.
type ownContext struct {
	context.Context
	done chan struct{}
}

func (c ownContext) Done() <-chan struct{} { return c.done }

func (c ownContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// endsContext is an informer whose IsStopped ends a context.
type endsContext struct {
	cache.SharedIndexInformer
	once sync.Once
	end  func()
}

func (i *endsContext) IsStopped() bool {
	i.once.Do(i.end)
	return true
}

func TestRunFailsIfAnInformerHoldsAnotherType(t *testing.T) {
	source := &source{FakeControllerSource: cachetesting.NewFakeControllerSource()}
	informer := cache.NewSharedIndexInformer(source, &corev1.ConfigMap{}, 0, cache.Indexers{})
	source.Add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}})
	stop := make(chan struct{})
	defer close(stop)
	go informer.Run(stop)
	f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, informer)
	require.EqualError(t, f.Run(t.Context()), "fleet: informer holds a *v1.ConfigMap, not a *v1alpha1.DataPlane or *v1alpha1.ClusterDataPlane")
}

func TestAFleetNeedsAnInformer(t *testing.T) {
	for _, informers := range [][]cache.SharedIndexInformer{nil, {nil}} {
		f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, informers...)
		require.EqualError(t, f.Run(t.Context()), "fleet: informers: at least one is required")
	}
}

// listError makes the lists of a source fail until it is cleared.
type listError struct {
	*source
	err    error
	mended atomic.Bool
}

func (l *listError) List(options metav1.ListOptions) (runtime.Object, error) {
	if !l.mended.Load() {
		return nil, l.err
	}
	return l.source.List(options)
}

func TestStatusShowsWhyTheInformerCannotList(t *testing.T) {
	m := &listError{source: newSource(t), err: errors.New("no definition of DataPlane")}
	informer := cache.NewSharedIndexInformer(m, &v1alpha1.DataPlane{}, 0, cache.Indexers{})
	returns := func(context.Context, *remote.Cluster) error { return nil }
	f := fleet.New(returns, fleet.Options{}, informer)
	assert.Empty(t, f.Status().Informers[0].Error)
	startInformer(t, informer)
	require.Eventually(t, func() bool { return f.Status().Informers[0].Error != "" }, 10*time.Second, time.Millisecond)
	status := f.Status()
	assert.False(t, status.Informers[0].Synced)
	assert.Contains(t, status.Informers[0].Error, "no definition of DataPlane")
	assert.WithinDuration(t, time.Now(), status.Informers[0].ErrorTime, time.Minute)
	assert.Same(t, time.UTC, status.Informers[0].ErrorTime.Location())

	late := fleet.New(returns, fleet.Options{}, informer)
	assert.Contains(t, late.Status().Informers[0].Error, "the informer was started before New")
	m.mended.Store(true)
	require.Eventually(t, func() bool { return f.Status().Informers[0].Synced }, time.Minute, time.Millisecond)
	assert.Empty(t, late.Status().Informers[0].Error)
}

// While one kind isn't installed or may not be listed, the other has runs. Once the kind can be
// listed, it has runs too.
func TestAnInformerThatCannotListDoesNotBlockTheOthers(t *testing.T) {
	resource := schema.GroupResource{Group: "openchoreo.dev", Resource: "clusterdataplanes"}
	for name, test := range map[string]struct {
		err  error
		runs bool
	}{
		"not installed":       {apierrors.NewNotFound(resource, ""), true},
		"not allowed":         {apierrors.NewForbidden(resource, "", nil), true},
		"another error":       {apierrors.NewInternalError(assert.AnError), false},
		"neither is possible": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			dataPlanes, clusterDataPlanes := bothKinds(t)
			dataPlanes.Add(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"}})
			var first, second cache.ListerWatcher = dataPlanes, &listError{source: clusterDataPlanes, err: test.err}
			if test.err == nil {
				notFound := apierrors.NewNotFound(resource, "")
				first, second = &listError{source: dataPlanes, err: notFound}, &listError{source: clusterDataPlanes, err: notFound}
			}
			one := cache.NewSharedIndexInformer(first, &v1alpha1.DataPlane{}, 0, cache.Indexers{})
			two := cache.NewSharedIndexInformer(second, &v1alpha1.ClusterDataPlane{}, 0, cache.Indexers{})
			runs := make(chan *run, 10)
			f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
				runs <- &run{ctx: ctx, cluster: c}
				<-ctx.Done()
				return nil
			}, fleet.Options{
				Remote:   remote.Options{ConfigFor: planeIDConfig},
				Sharding: &fleet.Sharding{Leases: newLeases(), Namespace: "system", Name: "test", Identity: "a", Shards: 1, LeaseDuration: time.Second},
			}, one, two)
			startInformer(t, one)
			startInformer(t, two)
			stop := runFleet(t, f)
			if test.runs {
				testserver.Receive(t, runs)
			} else {
				require.Eventually(t, func() bool { return f.Status().Informers[1].Error != "" }, time.Minute, time.Millisecond)
				select {
				case <-runs:
					assert.Fail(t, "a run began")
				case <-time.After(300 * time.Millisecond):
				}
				assert.Equal(t, "waiting until the informers have listed the data planes", f.Status().Sharding.LastError)
			}
			assert.Equal(t, "ClusterDataPlane", f.Status().Informers[1].Kind)
			assert.False(t, f.Status().Informers[1].Synced)
			stop()
		})
	}
}

func TestAFleetRunsBothKinds(t *testing.T) {
	dataPlanes, clusterDataPlanes := bothKinds(t)
	runs, restarts := make(chan *run, 10), make(chan string, 100)
	f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
		runs <- &run{ctx: ctx, cluster: c}
		<-ctx.Done()
		return ctx.Err()
	}, fleet.Options{
		Remote: remote.Options{ConfigFor: planeIDConfig},
		RestartOn: func(before, after *v1alpha1.DataPlane) bool {
			restarts <- before.Spec.PlaneID + " " + after.Spec.PlaneID + after.Labels["x"]
			return false
		},
	}, dataPlanes.informer, clusterDataPlanes.informer)
	startInformer(t, dataPlanes.informer)
	startInformer(t, clusterDataPlanes.informer)
	stop := runFleet(t, f)

	clusterDataPlanes.Add(clusterDataPlane("prod", "plane"))
	dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"}}
	dataPlanes.Add(dp)
	byKey := map[string]*run{}
	for range 2 {
		r := testserver.Receive(t, runs)
		byKey[r.cluster.Key().Namespace] = r
	}
	require.Len(t, byKey, 2)
	assert.Equal(t, "https://127.0.0.1:1/plane", byKey[""].cluster.Config().Host)
	var kinds, names []string
	for _, informer := range f.Status().Informers {
		kinds = append(kinds, informer.Kind)
	}
	for _, plane := range f.Status().Planes {
		names = append(names, plane.Namespace+"/"+plane.Name)
	}
	assert.Equal(t, []string{"DataPlane", "ClusterDataPlane"}, kinds)
	assert.Equal(t, []string{"/prod", "default/prod"}, names)

	changed := clusterDataPlane("prod", "plane")
	changed.Labels = map[string]string{"x": "y"}
	clusterDataPlanes.Modify(changed)
	assert.Equal(t, "plane planey", testserver.Receive(t, restarts))
	clusterDataPlanes.Modify(clusterDataPlane("prod", "another"))
	require.ErrorIs(t, byKey[""].cause(t), remote.ErrServerChanged)
	r := testserver.Receive(t, runs)
	assert.Equal(t, "https://127.0.0.1:1/another", r.cluster.Config().Host)
	clusterDataPlanes.Delete(clusterDataPlane("prod", "another"))
	require.ErrorIs(t, r.cause(t), helpers.ErrDeleted)
	byKey["default"].requireGoesOn(t)
	stop()
}

// A resync brings the same object: RestartOn isn't called, though AsDataPlane makes another copy
// each time.
func TestRestartOnIsNotCalledAtAResync(t *testing.T) {
	_, clusterDataPlanes := bothKinds(t)
	clusterDataPlanes.Add(clusterDataPlane("prod", "plane"))
	// A resync calls Filter; a change calls RestartOn too.
	filtered := make(chan struct{}, 1000)
	informer := cache.NewSharedIndexInformer(clusterDataPlanes, &v1alpha1.ClusterDataPlane{}, time.Second, cache.Indexers{})
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error { <-ctx.Done(); return nil }, fleet.Options{
		Remote:    remote.Options{ConfigFor: planeIDConfig},
		Filter:    func(*v1alpha1.DataPlane, bool) bool { filtered <- struct{}{}; return true },
		RestartOn: func(_, _ *v1alpha1.DataPlane) bool { assert.Fail(t, "RestartOn was called"); return false },
	}, resynced{informer})
	startInformer(t, informer)
	stop := runFleet(t, f)
	for range 3 {
		testserver.Receive(t, filtered)
	}
	stop()
}

// resynced adds handlers with the shortest possible resync.
type resynced struct{ cache.SharedIndexInformer }

func (r resynced) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return r.AddEventHandlerWithResyncPeriod(handler, time.Second)
}

// bothKinds are informers of both kinds, which the caller starts.
func bothKinds(t *testing.T) (dataPlanes, clusterDataPlanes *source) {
	t.Helper()
	sources := []*source{}
	for _, kind := range []runtime.Object{&v1alpha1.DataPlane{}, &v1alpha1.ClusterDataPlane{}} {
		s := &source{FakeControllerSource: cachetesting.NewFakeControllerSource()}
		s.informer = cache.NewSharedIndexInformer(s, kind, 0, cache.Indexers{})
		sources = append(sources, s)
	}
	return sources[0], sources[1]
}

// planeIDConfig is a ConfigFor that reads the plane ID, as one for a gateway does.
func planeIDConfig(dp *v1alpha1.DataPlane) (*rest.Config, error) {
	return &rest.Config{Host: "https://127.0.0.1:1/" + dp.Spec.PlaneID, BearerToken: "token"}, nil
}

func clusterDataPlane(name, planeID string) *v1alpha1.ClusterDataPlane {
	cdp := &v1alpha1.ClusterDataPlane{}
	cdp.Name, cdp.UID, cdp.Spec.PlaneID = name, "1", planeID
	return cdp
}
