// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime"
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

func TestARunThatDoesNotReturnIsAbandoned(t *testing.T) {
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

type valueKey struct{}

// The context of a run has the values of Run's context, such as a logger.
func TestRunsHaveTheValuesOfTheContextOfRun(t *testing.T) {
	s := newSource(t)
	values := make(chan any, 1)
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error {
		values <- ctx.Value(valueKey{})
		return nil
	}, fleet.Options{Remote: remote.Options{ConfigFor: someConfig}}, s.informer)
	ctx, stop := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "logger"))
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	s.Add(&v1alpha1.DataPlane{})
	assert.Equal(t, "logger", testserver.Receive(t, values))
	stop()
	require.NoError(t, testserver.Receive(t, result))
}

// No run begins with a context that has ended.
func TestNoRunBeginsAfterItsContextHasEnded(t *testing.T) {
	making, made := make(chan struct{}), make(chan struct{})
	removed := make(chan struct{}, 1)
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			if dp.Name == "a" {
				close(making)
				<-made
			}
			return someConfig(dp)
		}},
		Hooks: fleet.Hooks{OnRemove: func(types.NamespacedName) { removed <- struct{}{} }},
	})
	dp := f.add("a")
	<-making
	f.source.Delete(dp.DeepCopy())
	f.add("b")
	f.next() // the Fleet has handled the earlier events
	close(made)
	testserver.Receive(t, removed)
	assert.Empty(t, f.runs)
	require.NoError(t, f.ended())
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
			stop := runFleet(t, f)
			s.Add(server.DataPlane("a", "user"))
			err := testserver.Receive(t, ends)
			require.EqualError(t, err, test.want)
			var panicked *fleet.PanicError
			if errors.As(err, &panicked) {
				assert.Contains(t, string(panicked.Stack), "run_test.go")
			}
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			stop()
		})
	}
}

func TestAPanicAfterTheContextHasEndedIsReported(t *testing.T) {
	ends := make(chan error, 10)
	s, server := newSource(t), testserver.New(t, testserver.WhoAmI)
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error { <-ctx.Done(); panic("too late") },
		fleet.Options{Hooks: fleet.Hooks{OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ends <- err }}}, s.informer)
	stop := runFleet(t, f)
	s.Add(server.DataPlane("a", "user"))
	require.Eventually(t, func() bool { return len(f.Status().Planes) == 1 && f.Status().Planes[0].State == fleet.StateRunning },
		10*time.Second, time.Millisecond)
	stop()
	err := testserver.Receive(t, ends)
	require.ErrorIs(t, err, fleet.ErrStopped)
	require.ErrorContains(t, err, "panic: too late")
	assert.Equal(t, "panic: too late", f.Status().Planes[0].LastError)
}

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

// The error of a run may be a nil pointer, which is not a nil error.
func TestFleetSurvivesAnErrorThatIsANilPointer(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{})
	f.add("a")
	f.next().end <- (*nilError)(nil)
	f.next()
	assert.Contains(t, f.status("a").LastError, "nil pointer")
}

// A panic in the user's WrapTransport or Proxy is an error, with and without a run.
func TestFleetSurvivesAFunctionOfTheConfigThatPanics(t *testing.T) {
	for name, panics := range map[string]func(*rest.Config){
		"WrapTransport": func(config *rest.Config) {
			config.WrapTransport = func(http.RoundTripper) http.RoundTripper { panic("no answer") }
		},
		"Proxy": func(config *rest.Config) {
			config.Proxy = func(*http.Request) (*url.URL, error) { panic("no answer") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleetTest(t, false, fleet.Options{
				Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
				Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
					config, err := labelConfig(dp)
					if dp.Labels["panics"] != "" {
						panics(config)
					}
					return config, err
				}},
			})
			dp := f.add("a", label("panics", "x"))
			f.requireState("a", fleet.StateRetrying)
			dp = f.modify(dp, label("panics", "y"))
			f.requireNoRun()
			dp = f.modify(dp, label())
			r := f.next()
			dp = f.modify(dp, label("panics", "x", "token", "2"))
			require.ErrorAs(t, r.cause(t), new(*fleet.PanicError)) // otherwise, it would continue with the old credentials
			f.requireState("a", fleet.StateRetrying)
			assert.Equal(t, "panic: no answer", f.status("a").LastError)
			f.modify(dp, label("token", "3"))
			f.next()
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

// A data plane that is done has another run when ConfigFor names another server.
func TestFleetThatIsDoneRunsAgainForAnotherServer(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{ConfigFor: labelConfig},
		Filter: func(dp *v1alpha1.DataPlane, _ bool) bool { return dp.Labels["hidden"] == "" },
	})
	dp := f.add("a")
	r := f.next()
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://unread.example.com"
	})
	r.requireGoesOn(t)
	r.end <- nil
	f.requireState("a", fleet.StateDone)
	dp = f.modify(dp, label("token", "2"))
	f.requireNoRun()
	dp = f.modify(dp, label("broken", "x"))
	f.requireNoRun()
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Labels = nil
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://other.example.com" // which isn't read
	})
	f.requireNoRun()
	dp = f.modify(dp, label("path", "x"))
	f.next().end <- nil
	f.requireState("a", fleet.StateDone)

	dp = f.modify(dp, label("path", "y", "hidden", "x")) // while it isn't selected
	f.requireState("a", fleet.StateNotSelected)
	f.modify(dp, label("path", "y"))
	f.next()
	require.NoError(t, f.ended())
}

// A run that ends while the credentials can't be used was for the previous server.
func TestFleetThatIsDoneWhileBrokenRunsAgainForAnotherServer(t *testing.T) {
	rotations := make(chan error, 10)
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{ConfigFor: labelConfig},
		Hooks:  fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) { rotations <- err }},
	})
	dp := f.add("a")
	r := f.next()
	dp = f.modify(dp, label("broken", "x"))
	require.Error(t, testserver.Receive(t, rotations))
	r.end <- nil
	f.requireState("a", fleet.StateDone)
	f.modify(dp, label("path", "x"))
	f.next()
	require.NoError(t, f.ended())
}

// The run doesn't learn that the server moved if no event follows, or if ConfigFor fails at the event.
func TestFleetRunsAgainIfTheServerMovedBeforeTheRunReturnedNil(t *testing.T) {
	for name, withEvent := range map[string]bool{"without an event": false, "while ConfigFor failed": true} {
		t.Run(name, func(t *testing.T) {
			var path atomic.Value
			var fails atomic.Bool
			path.Store("")
			rotations := make(chan error, 10)
			f := newFleetTest(t, false, fleet.Options{
				Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
					config, err := labelConfig(dp)
					if fails.Load() {
						err = errors.New("no Secret")
					} else {
						config.Host += path.Load().(string)
					}
					return config, err
				}},
				Backoff: fleet.Backoff{Limit: time.Hour},
				Hooks:   fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) { rotations <- err }},
			})
			dp := f.add("a", label())
			r := f.next()
			if withEvent {
				fails.Store(true)
				f.modify(dp, label("path", "moved"))
				require.ErrorContains(t, testserver.Receive(t, rotations), "no Secret")
				fails.Store(false)
			} else {
				path.Store("moved")
			}
			r.end <- nil
			assert.Contains(t, f.next().cluster.String(), "/moved")
			require.NoError(t, f.ended())
		})
	}
}

func TestFleetRemembersWhatIsDoneWhileNotSelected(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Filter: func(dp *v1alpha1.DataPlane, _ bool) bool { return dp.Labels == nil }})
	dp := f.add("a")
	f.next().end <- nil
	f.requireState("a", fleet.StateDone)
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireState("a", fleet.StateNotSelected)
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = nil })
	f.requireState("a", fleet.StateDone)
	f.requireNoRun()
}
