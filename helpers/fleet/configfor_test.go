// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestAPanicOfConfigForIsAnError(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		var calls atomic.Int32
		var ended, rotated []error
		var client atomic.Pointer[http.Client]
		f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
			client.Store(c.HTTPClient())
			return untilEnd(ctx, c)
		}, fleet.Options{
			Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				if calls.Add(1) != 2 { // calls 1, 3 and 4: the first run, the Update at a resync, and the request after that
					panic("no configuration")
				}
				return &rest.Config{Host: "https://127.0.0.1:1"}, nil
			}},
			Hooks: fleet.Hooks{
				OnEnd:    func(_ types.NamespacedName, err error, _, _ time.Duration) { ended = append(ended, err) },
				OnRotate: func(_ types.NamespacedName, err error) { rotated = append(rotated, err) },
			},
		}, p.source.informer)
		stop := runFleet(t, f)
		time.Sleep(50 * time.Hour) // the informer resyncs after one day or two
		_, err := client.Load().Get("https://127.0.0.1:1")
		require.ErrorAs(t, err, new(*fleet.PanicError))
		stop()
		require.Len(t, ended, 2)
		require.ErrorAs(t, ended[0], new(*fleet.PanicError))
		require.ErrorIs(t, ended[1], fleet.ErrStopped)
		require.Len(t, rotated, 1)
		require.ErrorAs(t, rotated[0], new(*fleet.PanicError))
	})
}

// A Secret or a file that ConfigFor reads may be missing for a moment. No DataPlane changes when it
// is back.
func TestCredentialsThatARequestMendsAreARotation(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		noSecret, dialed := errors.New("no such Secret"), errors.New("dialed")
		var missing atomic.Bool
		var rotated []error
		var client atomic.Pointer[http.Client]
		f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
			client.Store(c.HTTPClient())
			return untilEnd(ctx, c)
		}, fleet.Options{
			Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				if missing.Load() {
					return nil, noSecret
				}
				dial := func(context.Context, string, string) (net.Conn, error) { return nil, dialed }
				return &rest.Config{Host: "https://127.0.0.1:1", Dial: dial}, nil
			}},
			Hooks: fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) { rotated = append(rotated, err) }},
		}, p.source.informer)
		ctx, stop := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- f.Run(ctx) }()
		time.Sleep(time.Minute)
		for i := range 2 { // the Fleet reports the same error again
			missing.Store(true)
			p.source.Modify(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: "dp-0", UID: "0", Labels: map[string]string{"x": strconv.Itoa(i)},
			}})
			time.Sleep(time.Minute)
			_, err := client.Load().Get("https://127.0.0.1:1")
			require.ErrorIs(t, err, noSecret)
			missing.Store(false)
			time.Sleep(time.Minute)
			_, err = client.Load().Get("https://127.0.0.1:1")
			require.ErrorIs(t, err, dialed)
			time.Sleep(time.Minute)
		}
		stop()
		require.NoError(t, <-result)
		require.Len(t, rotated, 4)
		for i, want := range []error{noSecret, nil, noSecret, nil} {
			require.ErrorIs(t, rotated[i], want)
		}
	})
}

// An event brings another API server while ConfigFor returns nothing that can be used. No other event
// follows.
func TestARunEndsWhenARequestFindsAnotherServerAfterAFailure(t *testing.T) {
	for name, failing := range map[string]func(*rest.Config) (*rest.Config, error){
		"an error":            func(*rest.Config) (*rest.Config, error) { return nil, errors.New("no such Secret") },
		"no configuration":    func(*rest.Config) (*rest.Config, error) { return nil, nil },
		"a file that is gone": func(c *rest.Config) (*rest.Config, error) { c.CAFile = "missing/ca.crt"; return c, nil },
		"a certificate alone": func(c *rest.Config) (*rest.Config, error) { c.CertData = []byte("x"); return c, nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, 1, func(t *testing.T, p *program) {
				var missing atomic.Bool
				var client atomic.Pointer[http.Client]
				causes := make(chan error, 2)
				f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
					client.Store(c.HTTPClient())
					<-ctx.Done()
					causes <- context.Cause(ctx)
					return nil
				}, fleet.Options{
					Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
						config := &rest.Config{Host: "https://127.0.0.1:1/" + dp.Labels["host"]}
						if missing.Load() {
							return failing(config)
						}
						return config, nil
					}},
				}, p.source.informer)
				stop := runFleet(t, f)
				time.Sleep(time.Minute)
				missing.Store(true)
				p.source.Modify(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{
					Namespace: "default", Name: "dp-0", UID: "0", Labels: map[string]string{"host": "moved"},
				}})
				time.Sleep(20 * time.Second)
				missing.Store(false)
				_, err := client.Load().Get("https://127.0.0.1:1")
				require.ErrorIs(t, err, remote.ErrServerChanged)
				synctest.Wait()
				require.Len(t, causes, 1)
				require.ErrorIs(t, <-causes, remote.ErrServerChanged)
				stop()
			})
		})
	}
}

// An error of ConfigFor while the API server accepts the credentials concerns nobody.
func TestARunContinuesWhileConfigForFailsNowAndThen(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		dialed := errors.New("dialed")
		var calls, rotations atomic.Int32
		var client atomic.Pointer[http.Client]
		f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
			client.Store(c.HTTPClient())
			return untilEnd(ctx, c)
		}, fleet.Options{
			Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				if calls.Add(1)%2 == 0 {
					return nil, errors.New("timeout")
				}
				dial := func(context.Context, string, string) (net.Conn, error) { return nil, dialed }
				return &rest.Config{Host: "https://127.0.0.1:1", Dial: dial}, nil
			}},
			Hooks: fleet.Hooks{OnRotate: func(types.NamespacedName, error) { rotations.Add(1) }},
		}, p.source.informer)
		stop := runFleet(t, f)
		for range 10 {
			time.Sleep(31 * time.Second)
			_, err := client.Load().Get("https://127.0.0.1:1")
			require.ErrorIs(t, err, dialed)
		}
		require.Greater(t, calls.Load(), int32(4))
		require.Zero(t, rotations.Load())
		stop()
	})
}

// A run that fails with the old credentials is retried at once with the new ones, even if it
// returns while ConfigFor is called for them.
func TestFleetEndsTheWaitOfARunThatFailedDuringARotation(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		var calls atomic.Int32
		tokens, end := make(chan string, 10), make(chan error)
		f := fleet.New(func(_ context.Context, c *remote.Cluster) error {
			tokens <- c.Config().BearerToken
			return <-end
		}, fleet.Options{
			Backoff: fleet.Backoff{Initial: time.Hour},
			Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
				if calls.Add(1) == 2 {
					time.Sleep(time.Minute)
				}
				return labelConfig(dp)
			}},
		}, p.source.informer)
		stop := runFleet(t, f)
		require.Equal(t, "token", <-tokens)
		p.source.Modify(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "dp-0", UID: "0", Labels: map[string]string{"token": "2"},
		}})
		time.Sleep(time.Second)
		require.EqualValues(t, 2, calls.Load())
		end <- errors.New("unauthorized") // the Fleet doesn't see it before ConfigFor has returned
		time.Sleep(2 * time.Minute)
		require.Len(t, tokens, 1)
		require.Equal(t, "token2", <-tokens)
		end <- nil
		stop()
	})
}

// A run whose ConfigFor hangs is abandoned, as one that doesn't return.
func TestARunWhoseConfigForHangsIsAbandoned(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		goOn := make(chan struct{})
		f := fleet.New(func(context.Context, *remote.Cluster) error {
			assert.Fail(t, "it was abandoned")
			return nil
		}, fleet.Options{
			Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				<-goOn
				return &rest.Config{Host: "https://127.0.0.1:1"}, nil
			}},
		}, p.source.informer)
		ctx, stop := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- f.Run(ctx) }()
		time.Sleep(time.Minute)
		stop()
		require.ErrorIs(t, <-result, fleet.ErrOverdue)
		assert.Equal(t, 1, f.Status().Planes[0].Overdue)
		close(goOn)
		synctest.Wait()
		assert.Zero(t, f.Status().Planes[0].Overdue)
	})
}

// A run that returned before the Fleet has canceled it ended for its own reason.
func TestARunThatReturnedKeepsItsErrorThoughItsServerMoved(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		failed := errors.New("no such namespace")
		var calls atomic.Int32
		result, ended := make(chan error), make(chan error, 10)
		f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error {
			select {
			case err := <-result:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}, fleet.Options{
			Backoff: fleet.Backoff{Initial: time.Hour},
			Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
				if calls.Add(1) == 2 {
					time.Sleep(time.Minute) // for the change below
				}
				return &rest.Config{Host: "https://127.0.0.1:1" + dp.Labels["path"]}, nil
			}},
			Hooks: fleet.Hooks{OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ended <- err }},
		}, p.source.informer)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		time.Sleep(time.Second)
		p.source.Modify(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "dp-0", UID: "0", Labels: map[string]string{"path": "/moved"},
		}})
		time.Sleep(time.Second)
		result <- failed
		require.Equal(t, failed, <-ended)
		time.Sleep(time.Second)
		require.Equal(t, fleet.StateRunning, f.Status().Planes[0].State, "the next run doesn't wait")
		stop()
		require.NoError(t, <-done)
	})
}

// ConfigFor is called again at each resync of the informer, even at one that comes during a call.
func TestAResyncRotates(t *testing.T) {
	for _, takes := range []time.Duration{0, 49 * time.Hour} {
		t.Run(takes.String(), func(t *testing.T) {
			bubble(t, 1, 1, func(t *testing.T, p *program) {
				var token atomic.Value
				token.Store("old")
				var calls, rotations atomic.Int32
				f := fleet.New(untilEnd, fleet.Options{
					Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
						config := &rest.Config{Host: "https://127.0.0.1:1", BearerToken: token.Load().(string)}
						if calls.Add(1) == 1 {
							time.Sleep(takes)
						}
						return config, nil
					}},
					Hooks: fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) {
						assert.NoError(t, err)
						rotations.Add(1)
					}},
				}, p.source.informer)
				stop := runFleet(t, f)
				time.Sleep(time.Hour)
				token.Store("new")
				time.Sleep(49 * time.Hour) // the informer resyncs after one day or two
				stop()
				assert.EqualValues(t, 1, rotations.Load())
			})
		})
	}
}
