// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Each OnStart has its OnEnd, whenever a Fleet ends.
func TestHooksComeInPairs(t *testing.T) {
	source := newSource(t)
	for i := range 300 {
		dp := &v1alpha1.DataPlane{}
		dp.Namespace, dp.Name = "default", strconv.Itoa(i)
		source.Add(dp)
	}
	require.Eventually(t, func() bool { return len(source.informer.GetStore().ListKeys()) == 300 }, time.Minute, time.Millisecond)
	for i := range 30 {
		var starts, ends atomic.Int32
		f := fleet.New(untilEnd, fleet.Options{
			Remote: remote.Options{ConfigFor: someConfig},
			Hooks: fleet.Hooks{
				OnStart: func(types.NamespacedName) { starts.Add(1) },
				OnEnd:   func(types.NamespacedName, error, time.Duration, time.Duration) { ends.Add(1) },
			},
		}, source.informer)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond/2)
		require.NoError(t, f.Run(ctx))
		cancel()
		require.Equal(t, starts.Load(), ends.Load())
	}
}

// The next run follows after the retry that OnEnd was called with.
func TestOnEndIsCalledWithTheRetryThatFollows(t *testing.T) {
	var calls atomic.Int64
	making, made := make(chan struct{}), make(chan struct{})
	retries := make(chan time.Duration, 10)
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			if calls.Add(1) == 1 {
				close(making)
				<-made
				return nil, errors.New("bad credentials")
			}
			return someConfig(dp)
		}},
		Hooks: fleet.Hooks{OnEnd: func(_ types.NamespacedName, _ error, _, retry time.Duration) { retries <- retry }},
	})
	dp := f.add("a")
	<-making
	f.rotate(dp, "other")
	f.add("b")
	f.next() // the Fleet has handled the earlier events
	close(made)
	retry := testserver.Receive(t, retries)
	f.next() // it begins at once
	assert.Zero(t, retry, "there was no wait")
	require.NoError(t, f.ended())
}

// A data plane that is deleted has a run when it is created again, even if that happens while
// OnRemove is called.
func TestADataPlaneThatComesBackHasARun(t *testing.T) {
	s := newSource(t)
	runs := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{})}
	plane := func(name, uid string) *v1alpha1.DataPlane {
		dp := &v1alpha1.DataPlane{}
		dp.Name, dp.UID = name, types.UID(uid)
		return dp
	}
	f := fleet.New(func(_ context.Context, c *remote.Cluster) error {
		runs[c.Key().Name] <- struct{}{}
		return nil
	}, fleet.Options{
		Remote: remote.Options{ConfigFor: someConfig},
		Hooks: fleet.Hooks{OnRemove: func(types.NamespacedName) {
			s.Add(plane("a", "2"))
			s.Add(plane("b", "1"))
			testserver.Receive(t, runs["b"]) // the Fleet now knows that a is back
		}},
	}, s.informer)
	stop := runFleet(t, f)
	s.Add(plane("a", "1"))
	testserver.Receive(t, runs["a"])
	s.Delete(plane("a", "1"))
	testserver.Receive(t, runs["a"])
	stop()
}

// In OnEnd, Status shows that the run has ended.
func TestStatusInOnEndIsThatAfterTheRun(t *testing.T) {
	var f *fleetTest
	statuses, ready := make(chan fleet.PlaneStatus, 10), make(chan struct{})
	f = newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Hooks: fleet.Hooks{OnEnd: func(types.NamespacedName, error, time.Duration, time.Duration) {
			<-ready
			statuses <- f.status("a")
		}},
	})
	close(ready)
	f.add("a")
	f.next().end <- errors.New("no route")
	assert.Equal(t, fleet.StateRetrying, testserver.Receive(t, statuses).State)
	require.NoError(t, f.ended())
}
