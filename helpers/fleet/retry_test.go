// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

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

	f.move(dp) // which forgets the failures
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

func TestFleetRefusesOptionsThatAreWrong(t *testing.T) {
	for want, options := range map[string]fleet.Options{
		"fleet: Backoff.Initial: must not be negative, is -1ns":            {Backoff: fleet.Backoff{Initial: -1}},
		"fleet: Backoff.Limit: must not be less than Initial, 1s, is -1ns": {Backoff: fleet.Backoff{Limit: -1}},
		"fleet: Backoff.ResetAfter: must not be negative, is -1ns":         {Backoff: fleet.Backoff{ResetAfter: -1}},
		"fleet: StartLimit: must not be negative, is -1":                   {StartLimit: -1},
	} {
		f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, options, newSource(t).informer)
		require.EqualError(t, f.Run(t.Context()), want)
	}
}

func TestFleetWaitsBetweenRetries(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour}})
	dp := f.add("a")
	f.next().end <- errors.New("down")
	f.requireState("a", fleet.StateRetrying)
	assert.WithinDuration(t, time.Now().Add(45*time.Minute), f.status("a").NextRetry, 16*time.Minute)
	f.requireNoRun()
	f.rotate(dp, "new")
	f.next() // at once
}

func TestFleetSurvivesPanics(t *testing.T) {
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		do   func()
		want string
		is   error
	}{
		"a panic":             {func() { panic("boom") }, "panic: boom", nil},
		"a panic of an error": {func() { panic(boom) }, "panic: boom", boom},
		"the goroutine ends":  {runtime.Goexit, "run has ended its goroutine without returning", nil},
	} {
		t.Run(name, func(t *testing.T) {
			ends := make(chan error, 1)
			s, server := newSource(t), testserver.New(t, testserver.WhoAmI)
			f := fleet.New(func(context.Context, *remote.Cluster) error { test.do(); return nil },
				fleet.Options{Hooks: fleet.Hooks{OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ends <- err }}}, s.informer)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			result := make(chan error, 1)
			go func() { result <- f.Run(ctx) }()
			s.Add(server.DataPlane("a", "user"))
			err := testserver.Receive(t, ends)
			require.EqualError(t, err, test.want)
			var panicked *fleet.PanicError
			if errors.As(err, &panicked) {
				assert.Contains(t, string(panicked.Stack), "retry_test.go")
			}
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			stop()
			require.NoError(t, testserver.Receive(t, result))
		})
	}
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

// A run may run a Fleet of its own, whose error is that of any run.
func TestFleetRetriesOverdueOfAnother(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour}})
	f.add("a")
	f.next().end <- fmt.Errorf("inner: %w", fleet.ErrOverdue)
	f.requireState("a", fleet.StateRetrying)
	f.requireNoRun()
}

func TestFleetTellsOfAPanicAfterTheEnd(t *testing.T) {
	ends := make(chan error, 10)
	s, server := newSource(t), testserver.New(t, testserver.WhoAmI)
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error { <-ctx.Done(); panic("too late") },
		fleet.Options{Hooks: fleet.Hooks{OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ends <- err }}}, s.informer)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	s.Add(server.DataPlane("a", "user"))
	require.Eventually(t, func() bool { return len(f.Status().Planes) == 1 && f.Status().Planes[0].State == fleet.StateRunning },
		10*time.Second, time.Millisecond)
	stop()
	require.NoError(t, testserver.Receive(t, result))
	err := testserver.Receive(t, ends)
	require.ErrorIs(t, err, fleet.ErrStopped)
	require.ErrorContains(t, err, "panic: too late")
	assert.Equal(t, "panic: too late", f.Status().Planes[0].LastError)
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
