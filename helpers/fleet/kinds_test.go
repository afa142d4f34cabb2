// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

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
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()

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
	require.NoError(t, testserver.Receive(t, result))
}

// A resync brings the object that is there: RestartOn isn't asked, though AsDataPlane makes another
// copy each time.
func TestRestartOnIsNotAskedAtAResync(t *testing.T) {
	_, clusterDataPlanes := bothKinds(t)
	clusterDataPlanes.Add(clusterDataPlane("prod", "plane"))
	// Of its own handler, Filter tells about a resync, RestartOn about a change.
	filtered := make(chan struct{}, 1000)
	informer := cache.NewSharedIndexInformer(clusterDataPlanes, &v1alpha1.ClusterDataPlane{}, time.Second, cache.Indexers{})
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error { <-ctx.Done(); return nil }, fleet.Options{
		Remote:    remote.Options{ConfigFor: planeIDConfig},
		Filter:    func(*v1alpha1.DataPlane, bool) bool { filtered <- struct{}{}; return true },
		RestartOn: func(_, _ *v1alpha1.DataPlane) bool { assert.Fail(t, "RestartOn was asked"); return false },
	}, resynced{informer})
	startInformer(t, informer)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	for range 3 {
		testserver.Receive(t, filtered)
	}
	stop()
	require.NoError(t, testserver.Receive(t, result))
}

// resynced adds handlers with the shortest resync that there is.
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

// planeIDConfig makes a connection of the plane ID, as one for a gateway does.
func planeIDConfig(dp *v1alpha1.DataPlane) (*rest.Config, error) {
	return &rest.Config{Host: "https://127.0.0.1:1/" + dp.Spec.PlaneID, BearerToken: "token"}, nil
}

func clusterDataPlane(name, planeID string) *v1alpha1.ClusterDataPlane {
	cdp := &v1alpha1.ClusterDataPlane{}
	cdp.Name, cdp.UID, cdp.Spec.PlaneID = name, "1", planeID
	return cdp
}
