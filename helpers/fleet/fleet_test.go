// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestFleetRunsOncePerDataPlane(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{})
	a, b := f.add("a"), f.add("b")
	byName := map[string]*run{}
	for range 2 {
		r := f.next()
		byName[r.cluster.Key().Name] = r
	}
	require.Len(t, byName, 2)
	for name, r := range byName {
		assert.Regexp(t, `^context\.[A-Za-z.(), *]+$`, fmt.Sprint(r.ctx), "nothing of the Fleet, which changes meanwhile")
		user, err := get(t.Context(), r.cluster, "/")
		require.NoError(t, err)
		assert.Equal(t, "user-of-"+name, user)
	}
	require.Equal(t, fleet.StateRunning, f.status("a").State)

	f.modify(a, func(dp *v1alpha1.DataPlane) {
		dp.Labels = map[string]string{"x": "y"}
		dp.Spec.Gateway.PublicVirtualHost = "other.example.com"
		dp.Generation++
	})
	f.modify(b, func(dp *v1alpha1.DataPlane) { dp.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} })
	byName["a"].requireGoesOn(t)
	byName["b"].requireGoesOn(t)
	f.requireNoRun()

	f.source.Delete(b.DeepCopy())
	require.ErrorIs(t, byName["b"].cause(t), helpers.ErrDeleted)
	testserver.Receive(t, byName["b"].cluster.Done())
	byName["a"].requireGoesOn(t)
	require.Eventually(t, func() bool { return len(f.fleet.Status().Planes) == 1 }, 10*time.Second, time.Millisecond)

	cause := errors.New("enough")
	f.stop(cause)
	require.NoError(t, testserver.Receive(t, f.result))
	require.ErrorIs(t, byName["a"].cause(t), fleet.ErrStopped)
	require.ErrorIs(t, byName["a"].cause(t), cause)
	require.Equal(t, fleet.StateStopped, f.status("a").State)
	f.server.RequireNoConnections()
}

func TestFleetRunsAnewWhenTheDataPlaneChanges(t *testing.T) {
	for name, test := range map[string]struct {
		opts   fleet.Options
		change func(f *fleetTest, dp *v1alpha1.DataPlane)
		want   error
		user   string
	}{
		"another API server": {fleet.Options{}, func(f *fleetTest, dp *v1alpha1.DataPlane) { f.move(dp) }, remote.ErrServerChanged, "user-of-a"},
		"another API server, by ConfigFor": {
			fleet.Options{Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
				config, err := helpers.RESTConfigFor(dp)
				if err == nil {
					config.Host += "/" + dp.Labels["path"]
				}
				return config, err
			}}},
			func(f *fleetTest, dp *v1alpha1.DataPlane) {
				f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"path": "x"} })
			}, remote.ErrServerChanged, "user-of-a",
		},
		"another object, which was not seen to come": {fleet.Options{}, func(f *fleetTest, dp *v1alpha1.DataPlane) {
			f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.UID = "uid-2" })
		}, helpers.ErrReplaced, "user-of-a"},
		"deleted and recreated": {fleet.Options{}, func(f *fleetTest, dp *v1alpha1.DataPlane) {
			f.source.Delete(dp.DeepCopy())
			again := dp.DeepCopy()
			again.UID = "uid-2"
			f.source.Add(again)
		}, nil, "user-of-a"}, // the cause depends on what the informer sees
		"as RestartOn says": {
			fleet.Options{RestartOn: func(before, after *v1alpha1.DataPlane) bool {
				return before.Spec.Gateway != after.Spec.Gateway
			}},
			func(f *fleetTest, dp *v1alpha1.DataPlane) {
				f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Spec.Gateway.PublicVirtualHost = "other.example.com" })
			}, fleet.ErrDataPlaneChanged, "user-of-a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleetTest(t, true, test.opts)
			dp := f.add("a")
			first := f.next()
			test.change(f, dp)
			cause := first.cause(t)
			if test.want != nil {
				require.ErrorIs(t, cause, test.want)
			}
			f.requireNoRun() // before the first has returned
			f.requireState("a", fleet.StateStopping)
			if test.opts.Remote.ConfigFor == nil {
				_, err := get(t.Context(), first.cluster, "/")
				require.NoError(t, err, "what a run does at its end still has its connection")
			}
			first.end <- context.Canceled
			second := f.next()
			testserver.Receive(t, first.cluster.Done())
			user, err := get(t.Context(), second.cluster, "/")
			require.NoError(t, err)
			assert.Equal(t, test.user, user)
			assert.Equal(t, 1, f.status("a").Restarts)
			second.requireGoesOn(t)
			f.stop(nil)
			second.end <- nil
			require.NoError(t, f.ended())
		})
	}
}

func TestFleetIsDoneWithARunThatReturnsNil(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{})
	dp := f.add("a")
	r := f.next()
	r.end <- nil
	f.requireState("a", fleet.StateDone)
	testserver.Receive(t, r.cluster.Done())
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireNoRun()
	f.requireState("a", fleet.StateDone)
	dp = f.rotate(dp, "new")
	f.requireNoRun()
	f.move(dp)
	f.next()
}

func TestFleetGivesUpARunThatDoesNotReturn(t *testing.T) {
	f := newFleetTest(t, true, fleet.Options{StopGrace: 100 * time.Millisecond})
	dp := f.add("a")
	first := f.next()
	dp = f.move(dp)
	second := f.next()
	_, err := get(t.Context(), first.cluster, "/")
	require.ErrorIs(t, err, remote.ErrClosed)
	status := f.status("a")
	assert.Equal(t, 1, status.Overdue)
	assert.Equal(t, "run did not return in time: data plane has another API server", status.LastError)
	first.end <- nil
	require.Eventually(t, func() bool { return f.status("a").Overdue == 0 }, 10*time.Second, time.Millisecond)
	second.requireGoesOn(t)

	f.source.Delete(dp.DeepCopy())
	require.ErrorIs(t, second.cause(t), helpers.ErrDeleted)
	f.requireState("a", fleet.StateGone)
	err = f.ended()
	require.ErrorIs(t, err, fleet.ErrOverdue)
	require.EqualError(t, err, "fleet: run did not return in time: default/a")
	second.end <- nil
}

func TestFleetConnectsAsItsRemoteOptionsSay(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Remote: remote.Options{
		ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			config, err := helpers.RESTConfigFor(dp)
			if err == nil {
				config.UserAgent = "my-controller"
			}
			return config, err
		},
	}})
	f.add("a")
	assert.Equal(t, "my-controller", f.next().cluster.Config().UserAgent)
}

func TestFleetLeavesNothing(t *testing.T) {
	server, s := testserver.New(t, testserver.WhoAmI), newSource(t)
	before := runtime.NumGoroutine()
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Add(20)
	f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
		_, err := get(ctx, c, "/")
		assert.NoError(t, err)
		all.Done()
		<-ctx.Done()
		return ctx.Err()
	}, fleet.Options{}, s.informer)
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	for i := range 20 {
		s.Add(server.DataPlane(fmt.Sprint("dp-", i), "user"))
	}
	all.Wait()
	require.EqualError(t, f.Run(ctx), "fleet: runs already")
	stop()
	require.NoError(t, testserver.Receive(t, result))
	server.RequireNoConnections()
	testserver.RequireGoroutines(t, before)

	all.Add(20) // it can be run again
	ctx, stop = context.WithCancel(t.Context())
	go func() { result <- f.Run(ctx) }()
	all.Wait()
	stop()
	require.NoError(t, testserver.Receive(t, result))
	testserver.RequireGoroutines(t, before)
}

// An event may be under way while Run ends, and go on when the Fleet runs again.
func TestFleetIgnoresEventsOfAnEarlierRun(t *testing.T) {
	server, s := testserver.New(t, testserver.WhoAmI), newSource(t)
	filtering, filtered, began := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error {
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}, fleet.Options{Filter: func(*v1alpha1.DataPlane, bool) bool {
		filtering <- struct{}{}
		<-filtered
		return true
	}}, s.informer)
	run := func() (end func()) {
		ctx, stop := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- f.Run(ctx) }()
		return func() {
			stop()
			require.NoError(t, testserver.Receive(t, result))
		}
	}
	end := run()
	s.Add(server.DataPlane("a", "user"))
	testserver.Receive(t, filtering)
	end()

	end = run()
	filtered <- struct{}{} // of the first
	testserver.Receive(t, filtering)
	select {
	case <-began:
		t.Error("an event of an earlier run has begun a run")
	case <-time.After(50 * time.Millisecond):
	}
	filtered <- struct{}{}
	require.Eventually(t, func() bool {
		planes := f.Status().Planes
		return len(planes) == 1 && planes[0].State == fleet.StateRunning
	}, 10*time.Second, time.Millisecond)
	end()
}

func TestFleetOfAnInformerThatHasStopped(t *testing.T) {
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{}, &v1alpha1.DataPlane{}, 0, cache.Indexers{})
	stopped := make(chan struct{})
	close(stopped)
	informer.Run(stopped)
	f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, informer)
	for range 2 {
		require.ErrorContains(t, f.Run(t.Context()), "fleet: watch data planes: ")
	}
}

func TestFleetEndsWithItsInformer(t *testing.T) {
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

// An informer that stops because the context of Run has ended is no error, also when the
// informer is first to know.
func TestFleetAndItsInformerEndWithOneContext(t *testing.T) {
	ctx := ownContext{context.Background(), make(chan struct{})}
	informer := &endsContext{SharedIndexInformer: newSource(t).informer, end: func() { close(ctx.done) }}
	require.NoError(t, fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, informer).Run(ctx))
}

// ownContext is no context of package context, so one made of it ends a moment later.
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

// endsContext ends a context when it is asked whether it has stopped.
type endsContext struct {
	cache.SharedIndexInformer
	once sync.Once
	end  func()
}

func (i *endsContext) IsStopped() bool {
	i.once.Do(i.end)
	return true
}

func TestFleetOfAnInformerOfAnotherType(t *testing.T) {
	source := &source{FakeControllerSource: cachetesting.NewFakeControllerSource()}
	informer := cache.NewSharedIndexInformer(source, &corev1.ConfigMap{}, 0, cache.Indexers{})
	source.Add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}})
	stop := make(chan struct{})
	defer close(stop)
	go informer.Run(stop)
	f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, informer)
	require.EqualError(t, f.Run(t.Context()), "fleet: informer holds a *v1.ConfigMap, not a *v1alpha1.DataPlane or *v1alpha1.ClusterDataPlane")
}

func TestFleetStatusInJSON(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	status := fleet.Status{Informers: []fleet.InformerStatus{{Kind: "DataPlane", Synced: true}, {Error: "no", ErrorTime: now}}, Planes: []fleet.PlaneStatus{
		{Namespace: "default", Name: "a", UID: "uid-1", State: fleet.StateRunning, RunningSince: now.Add(-90 * time.Second)},
		{
			Namespace: "default", Name: "b", State: fleet.StateRetrying, Restarts: 3, LastError: "dial tcp:\nrefused",
			LastErrorTime: now.Add(-5 * time.Second), NextRetry: now.Add(8 * time.Second), Overdue: 1,
		},
		{Name: "c", State: fleet.StateDone},
	}}
	data, err := json.Marshal(status)
	require.NoError(t, err)
	assert.JSONEq(t, `{"informers": [{"kind": "DataPlane", "synced": true}, {"synced": false, "error": "no", "errorTime": "2023-11-14T22:13:20Z"}], "planes": [
		{"namespace": "default", "name": "a", "uid": "uid-1", "state": "Running", "runningSince": "2023-11-14T22:11:50Z", "restarts": 0},
		{"namespace": "default", "name": "b", "state": "Retrying", "restarts": 3, "lastError": "dial tcp:\nrefused",
			"lastErrorTime": "2023-11-14T22:13:15Z", "nextRetry": "2023-11-14T22:13:28Z", "overdue": 1},
		{"name": "c", "state": "Done", "restarts": 0}
	]}`, string(data))
}

func TestFleetAsksUsersWithoutItsLock(t *testing.T) {
	var f *fleet.Fleet
	s, server := newSource(t), testserver.New(t, testserver.WhoAmI)
	began := make(chan struct{}, 10)
	f = fleet.New(func(ctx context.Context, _ *remote.Cluster) error { began <- struct{}{}; <-ctx.Done(); return nil },
		fleet.Options{
			Filter:    func(*v1alpha1.DataPlane, bool) bool { f.Status(); return true },
			RestartOn: func(_, _ *v1alpha1.DataPlane) bool { f.Status(); return true },
		}, s.informer)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	dp := server.DataPlane("a", "user")
	s.Add(dp.DeepCopy())
	testserver.Receive(t, began)
	dp.Labels = map[string]string{"x": "y"}
	s.Modify(dp.DeepCopy())
	testserver.Receive(t, began)
	stop()
	require.NoError(t, testserver.Receive(t, result))
}
