// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// A nil pointer to an error that wraps another panics when it is unwrapped.
func TestFleetSurvivesANilPointerThatWrapsAnError(t *testing.T) {
	wrapper := func() error { return (*net.OpError)(nil) }

	t.Run("of a run", func(t *testing.T) {
		f := newFleetTest(t, false, fleet.Options{})
		f.add("a")
		f.next().end <- wrapper()
		f.next()
		assert.Contains(t, f.status("a").LastError, "nil pointer")
	})

	t.Run("of ConfigFor", func(t *testing.T) {
		f := newFleetTest(t, false, fleet.Options{Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			if dp.Labels["broken"] != "" {
				return nil, wrapper()
			}
			return labelConfig(dp)
		}}})
		dp := f.add("a", label("broken", "x"))
		f.requireState("a", fleet.StateRetrying)
		dp = f.modify(dp, label())
		r := f.next()
		dp = f.modify(dp, label("broken", "y"))
		require.Eventually(t, func() bool { return f.status("a").LastError != "" }, 10*time.Second, time.Millisecond)
		r.requireGoesOn(t)
		f.modify(dp, label("token", "2"))
		require.Eventually(t, func() bool { return r.cluster.Config().BearerToken == "token2" }, 10*time.Second, time.Millisecond)
	})
}

// statusError calls the Fleet's Status when it is unwrapped.
type statusError struct{ fleet **fleet.Fleet }

func (e *statusError) Error() string { return "status" }

func (e *statusError) Is(error) bool {
	(*e.fleet).Status()
	return false
}

func (e *statusError) As(any) bool { return e.Is(nil) }

// No lock is held when the error of a run is unwrapped, even when its context has ended.
func TestAnErrorIsNotUnwrappedWithTheLock(t *testing.T) {
	s := newSource(t)
	var f *fleet.Fleet
	f = fleet.New(func(ctx context.Context, _ *remote.Cluster) error {
		<-ctx.Done()
		return &statusError{&f}
	}, fleet.Options{Remote: remote.Options{ConfigFor: someConfig}}, s.informer)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	s.Add(&v1alpha1.DataPlane{})
	require.Eventually(t, func() bool {
		planes := f.Status().Planes
		return len(planes) == 1 && planes[0].State == fleet.StateRunning
	}, 10*time.Second, time.Millisecond)
	stop()
	require.NoError(t, testserver.Receive(t, result))
}

// Kubernetes' Aggregate is a slice, and errors.Is finds no slice in itself.
func TestRunReturnsNilWhateverEndsItsContext(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{})
	f.stop(utilerrors.NewAggregate([]error{errors.New("shutdown")}))
	require.NoError(t, testserver.Receive(t, f.result))
}

// A data plane that is done has another run for another server, even if ConfigFor failed when the
// earlier run returned.
func TestADoneDataPlaneMovesThoughConfigForFailedInBetween(t *testing.T) {
	var fails atomic.Bool
	f := newFleetTest(t, false, fleet.Options{Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		if fails.Load() {
			return nil, errors.New("no answer")
		}
		return labelConfig(dp)
	}}})
	dp := f.add("a", label())
	r := f.next()
	fails.Store(true)
	r.end <- nil
	f.requireState("a", fleet.StateDone)
	fails.Store(false)
	f.modify(dp, label("path", "moved"))
	f.next()
}

// ConfigFor may fail for a moment when a DataPlane moves, since its new Secret comes later. No event
// follows.
func TestADataPlaneMovesThoughConfigForFailsAtFirst(t *testing.T) {
	for name, state := range map[string]fleet.State{"which has a run": fleet.StateRunning, "which is done": fleet.StateDone} {
		t.Run(name, func(t *testing.T) {
			var fails atomic.Bool
			failed := make(chan struct{}, 100)
			f := newFleetTest(t, false, fleet.Options{Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
				if dp.Labels["path"] != "" && fails.Load() {
					failed <- struct{}{}
					return nil, errors.New("no Secret")
				}
				return labelConfig(dp)
			}}})
			dp := f.add("a", label())
			r := f.next()
			if state == fleet.StateDone {
				r.end <- nil
			}
			f.requireState("a", state)
			fails.Store(true)
			f.modify(dp, label("path", "moved"))
			testserver.Receive(t, failed)
			fails.Store(false)
			assert.Contains(t, f.next().cluster.String(), "/moved")
			require.NoError(t, f.ended())
		})
	}
}
