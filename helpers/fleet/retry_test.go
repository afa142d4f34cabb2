// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestFleetRetriesErrors(t *testing.T) {
	type ended struct {
		err        error
		ran, retry time.Duration
	}
	var starts, removed atomic.Int64
	ends := make(chan ended, 100)
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: 8 * time.Millisecond, Limit: 64 * time.Millisecond},
		Hooks: fleet.Hooks{
			OnStart:  func(types.NamespacedName) { starts.Add(1) },
			OnEnd:    func(_ types.NamespacedName, err error, ran, retry time.Duration) { ends <- ended{err, ran, retry} },
			OnRemove: func(types.NamespacedName) { removed.Add(1) },
		},
	})
	dp := f.add("a")
	failure := errors.New("no route")
	for i := range 6 {
		f.next().end <- failure
		end := testserver.Receive(t, ends)
		require.ErrorIs(t, end.err, failure)
		longest := min(8*time.Millisecond<<i, 64*time.Millisecond)
		require.GreaterOrEqual(t, end.retry, longest/2)
		require.LessOrEqual(t, end.retry, longest)
	}
	r := f.next()
	status := f.status("a")
	assert.Equal(t, fleet.StateRunning, status.State)
	assert.Equal(t, 6, status.Restarts)
	assert.Equal(t, "no route", status.LastError)
	assert.WithinDuration(t, time.Now(), status.LastErrorTime, time.Minute)
	assert.WithinDuration(t, time.Now(), status.RunningSince, time.Minute)
	assert.Zero(t, status.NextRetry)

	f.move(dp) // another server: earlier failures are forgotten
	require.ErrorIs(t, r.cause(t), remote.ErrServerChanged)
	require.ErrorIs(t, testserver.Receive(t, ends).err, remote.ErrServerChanged)
	f.next().end <- failure
	assert.LessOrEqual(t, testserver.Receive(t, ends).retry, 8*time.Millisecond)

	r = f.next()
	f.source.Delete(dp.DeepCopy())
	require.ErrorIs(t, r.cause(t), helpers.ErrDeleted)
	require.ErrorIs(t, testserver.Receive(t, ends).err, helpers.ErrDeleted)
	require.Eventually(t, func() bool { return removed.Load() == 1 }, 10*time.Second, time.Millisecond)
	assert.EqualValues(t, 9, starts.Load())
}

func TestFleetForgetsFailuresAfterRunningWell(t *testing.T) {
	retries := make(chan time.Duration, 10)
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Microsecond, Limit: time.Hour, ResetAfter: 1},
		Hooks:   fleet.Hooks{OnEnd: func(_ types.NamespacedName, _ error, _, retry time.Duration) { retries <- retry }},
	})
	f.add("a")
	for range 8 {
		f.next().end <- errors.New("again")
		require.LessOrEqual(t, testserver.Receive(t, retries), time.Microsecond)
	}
}

func TestFleetCountsRunningWellFromTheStart(t *testing.T) {
	t.Parallel()
	retries := make(chan time.Duration, 10)
	const initial, resetAfter = 20 * time.Millisecond, 2 * time.Second
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: initial, Limit: time.Hour, ResetAfter: resetAfter},
		Hooks:   fleet.Hooks{OnEnd: func(_ types.NamespacedName, _ error, _, retry time.Duration) { retries <- retry }},
	})
	f.add("a")
	f.next().end <- errors.New("first")
	testserver.Receive(t, retries)
	r := f.next()
	time.Sleep(resetAfter)
	fleet.MarkStarted(r.ctx)
	r.end <- errors.New("second, though after long")
	require.GreaterOrEqual(t, testserver.Receive(t, retries), initial)
	r = f.next()
	fleet.MarkStarted(r.ctx)
	time.Sleep(resetAfter)
	r.end <- errors.New("first, after running well")
	require.LessOrEqual(t, testserver.Receive(t, retries), initial)
}

func TestFleetBackoffIsDefaultIfZero(t *testing.T) {
	for name, test := range map[string]struct {
		backoff         fleet.Backoff
		atLeast, atMost time.Duration
	}{
		"no field set":     {fleet.Backoff{}, 500 * time.Millisecond, time.Second},
		"only Limit set":   {fleet.Backoff{Limit: time.Hour}, 500 * time.Millisecond, time.Second},
		"only Initial set": {fleet.Backoff{Initial: time.Hour}, 30 * time.Minute, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			retries := make(chan time.Duration, 1)
			s, server := newSource(t), testserver.New(t, testserver.WhoAmI)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			f := fleet.New(func(context.Context, *remote.Cluster) error { return errors.New("down") }, fleet.Options{
				Backoff: test.backoff,
				Hooks: fleet.Hooks{OnEnd: func(_ types.NamespacedName, _ error, _, retry time.Duration) {
					select {
					case retries <- retry:
						stop() // at the first failure
					default:
					}
				}},
			}, s.informer)
			s.Add(server.DataPlane("a", "user"))
			require.NoError(t, f.Run(ctx))
			retry := testserver.Receive(t, retries)
			assert.GreaterOrEqual(t, retry, test.atLeast)
			assert.LessOrEqual(t, retry, test.atMost)
		})
	}
}

// A run may run another Fleet and return its error.
func TestFleetRetriesARunThatReturnsErrOverdue(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour}})
	f.add("a")
	f.next().end <- fmt.Errorf("inner: %w", fleet.ErrOverdue)
	f.requireState("a", fleet.StateRetrying)
	f.requireNoRun()
}

func TestFleetWaitsForCredentialsThatCanBeUsed(t *testing.T) {
	ends := make(chan error, 10)
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Hooks:   fleet.Hooks{OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ends <- err }},
	})
	dp := f.add("a", func(dp *v1alpha1.DataPlane) { dp.Spec.KubernetesCluster.Credentials.ClientKey = "c2VjcmV0" })
	require.ErrorIs(t, testserver.Receive(t, ends), helpers.ErrInvalidCredentials)
	f.requireState("a", fleet.StateRetrying)
	assert.Contains(t, f.status("a").LastError, "spec.kubernetesCluster.credentials.clientKey")
	assert.NotContains(t, f.status("a").LastError, "c2VjcmV0")
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireNoRun()
	assert.Empty(t, ends)
	f.rotate(dp, "mended")
	f.next()
}

// Only a change of ConfigFor's result ends the wait after a failure.
func TestFleetEndsTheWaitWhenConfigForReturnsAnotherConfig(t *testing.T) {
	for name, test := range map[string]struct {
		before, after func(*v1alpha1.DataPlane)
		ends          bool
	}{
		"another token":                {label(), label("token", "2"), true},
		"another server":               {label(), label("path", "x"), true},
		"corrected":                    {label("broken", "x"), label(), true},
		"still broken":                 {label("broken", "x"), label("broken", "y"), false},
		"broken":                       {label(), label("broken", "x"), false},
		"another field":                {label(), label("other", "x"), false},
		"another spelling of a server": {label("path", "x"), label("path", "x/"), false},
		"credentials that aren't read": {label(), func(dp *v1alpha1.DataPlane) {
			dp.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{APIServerURL: "https://other.example.com"}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleetTest(t, false, fleet.Options{
				Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
				Remote:  remote.Options{ConfigFor: labelConfig},
			})
			dp := f.add("a", test.before)
			if dp.Labels["broken"] == "" {
				f.next().end <- errors.New("down")
			}
			f.requireState("a", fleet.StateRetrying)
			assert.WithinDuration(t, time.Now().Add(45*time.Minute), f.status("a").NextRetry, 16*time.Minute)
			dp = f.modify(dp, test.after)
			if test.ends {
				f.next()
				return
			}
			f.requireNoRun()
			for i := range 3 { // such as a heartbeat in the status
				dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Annotations = map[string]string{"heartbeat": strconv.Itoa(i)} })
			}
			f.requireNoRun()
			f.requireState("a", fleet.StateRetrying)
			f.modify(dp, label("token", "mended"))
			f.next()
		})
	}
}

// A change that ConfigFor reads from elsewhere ends the wait at the next event.
func TestFleetEndsTheWaitForAChangeElsewhere(t *testing.T) {
	var token atomic.Value
	token.Store("old")
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
			return &rest.Config{Host: "https://127.0.0.1:1", BearerToken: token.Load().(string)}, nil
		}},
	})
	dp := f.add("a")
	r := f.next()
	r.cluster.Close() // as a run may
	r.end <- errors.New("unauthorized")
	f.requireState("a", fleet.StateRetrying)
	dp = f.modify(dp, label("x", "y"))
	f.requireNoRun()
	token.Store("new")
	f.modify(dp, label("x", "z"))
	assert.Equal(t, "new", f.next().cluster.Config().BearerToken)
	require.NoError(t, f.ended())
}

// A run that closes its Cluster doesn't use credentials that come before it returns.
func TestFleetEndsTheWaitOfARunThatClosedItsCluster(t *testing.T) {
	rotations := make(chan error, 10)
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Hooks:   fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) { rotations <- err }},
	})
	dp := f.add("a")
	r := f.next()
	r.cluster.Close() // as by a defer, before the run's informers have stopped
	f.rotate(dp, "second")
	r.requireGoesOn(t)
	assert.Empty(t, rotations)
	assert.Empty(t, f.status("a").LastError)
	r.end <- errors.New("unauthorized")
	user, err := get(t.Context(), f.next().cluster, "/")
	require.NoError(t, err)
	assert.Equal(t, "second", user)
}
