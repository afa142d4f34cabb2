// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
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
		assert.Regexp(t, `^context\.[A-Za-z.(), *]+$`, fmt.Sprint(r.ctx), "printing the context reads no fields of the Fleet, which may change at the same time")
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
		"another object, whose creation was not seen": {fleet.Options{}, func(f *fleetTest, dp *v1alpha1.DataPlane) {
			f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.UID = "uid-2" })
		}, helpers.ErrReplaced, "user-of-a"},
		"deleted and recreated": {fleet.Options{}, func(f *fleetTest, dp *v1alpha1.DataPlane) {
			f.source.Delete(dp.DeepCopy())
			again := dp.DeepCopy()
			again.UID = "uid-2"
			f.source.Add(again)
		}, nil, "user-of-a"}, // the cause depends on what the informer sees
		"RestartOn returns true": {
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
			f.requireNoRun() // before the first run has returned
			f.requireState("a", fleet.StateStopping)
			if test.opts.Remote.ConfigFor == nil {
				_, err := get(t.Context(), first.cluster, "/")
				require.NoError(t, err, "a run that ends still has its connection")
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

// In OpenChoreo v1, the plane ID is part of the API server's address.
func TestRunForTheFormerPlaneIDStillHasItsConnection(t *testing.T) {
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	for _, planeID := range []string{"former", "next"} {
		gateway.Connect(planeID, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, planeID) }))
	}
	f := newFleetTest(t, true, fleet.Options{Remote: remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())}})
	dp := dataplanetest.DataPlane("default", "a", dataplanetest.V1, func(dp *v1alpha1.DataPlane) { dp.Spec.PlaneID = "former" })
	f.source.Add(dp.DeepCopy())
	first := f.next()
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Spec.PlaneID = "next" })
	require.ErrorIs(t, first.cause(t), remote.ErrServerChanged)
	agent, err := get(t.Context(), first.cluster, "/")
	require.NoError(t, err)
	assert.Equal(t, "former", agent)
	first.end <- context.Canceled
	second := f.next()
	agent, err = get(t.Context(), second.cluster, "/")
	require.NoError(t, err)
	assert.Equal(t, "next", agent)
	second.end <- nil
	require.NoError(t, f.ended())
}

func TestFleetLeavesNothing(t *testing.T) {
	server, s := testserver.New(t, testserver.WhoAmI), newSource(t)
	before := runtime.NumGoroutine()
	var all sync.WaitGroup
	all.Add(20)
	f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
		_, err := get(ctx, c, "/")
		assert.NoError(t, err)
		all.Done()
		<-ctx.Done()
		return ctx.Err()
	}, fleet.Options{}, s.informer)
	stop := runFleet(t, f)
	for i := range 20 {
		s.Add(server.DataPlane(fmt.Sprint("dp-", i), "user"))
	}
	all.Wait()
	require.EqualError(t, f.Run(t.Context()), "fleet: already running")
	stop()
	server.RequireNoConnections()
	testserver.RequireGoroutines(t, before)

	all.Add(20) // it can be run again
	stop = runFleet(t, f)
	all.Wait()
	stop()
	testserver.RequireGoroutines(t, before)
}

// An event may be under way while Run ends, and be handled when the Fleet runs again.
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
	end := runFleet(t, f)
	s.Add(server.DataPlane("a", "user"))
	testserver.Receive(t, filtering)
	end()

	end = runFleet(t, f)
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
