// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package remote_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// timed returns how long a request takes, and its error.
func timed(t *testing.T, c *remote.Cluster, path string) (time.Duration, error) {
	began := time.Now()
	_, err := get(t.Context(), c, path)
	return time.Since(began), err
}

// requireSilent requires that a request fails after that time without a new connection.
func requireSilent(t *testing.T, c *remote.Cluster, after time.Duration) {
	t.Helper()
	took, err := timed(t, c, "/api/v1/pods")
	require.Equal(t, after, took)
	require.ErrorContains(t, err, "dial tcp: i/o timeout; not tried again for up to 10s")
	assertClassified(t, remote.ReachabilityTimeout, err)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func requireSlowTimeout(t *testing.T, c *remote.Cluster) {
	t.Helper()
	took, err := timed(t, c, "/api/v1/pods")
	require.Equal(t, 10*time.Second, took)
	assertClassified(t, remote.ReachabilityTimeout, err)
	require.NotContains(t, err.Error(), "not tried again")
}

func TestRequestsDoNotWaitForASilentServer(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		requireSlowTimeout(t, c)
		requireSilent(t, c, 0)
		time.Sleep(2500 * time.Millisecond)
		requireSilent(t, c, 0)
		require.Equal(t, 1, w.takeDials())

		// In 600 s, an attempt every 20 s costs callers half a second each.
		var waited time.Duration
		for range 600 {
			time.Sleep(time.Second)
			took, err := timed(t, c, "/api/v1/pods")
			require.ErrorContains(t, err, "not tried again for ")
			waited += took
		}
		require.Less(t, waited, 20*time.Second)
		require.InDelta(t, 30, w.takeDials(), 1)
	})
}

// A text that changed each second would be written to a condition each time.
func TestTheErrorOfASilentServerStaysTheSame(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, _ *wire, c *remote.Cluster) {
		requireSlowTimeout(t, c)
		texts := map[string]bool{}
		for range 50 {
			_, err := timed(t, c, "/api/v1/pods")
			require.Error(t, err)
			texts[err.Error()] = true
			time.Sleep(time.Second)
		}
		require.Len(t, texts, 1, "%v", texts)
	})
}

func TestOneRequestTriesToConnectToASilentServer(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		requireSlowTimeout(t, c)
		time.Sleep(11 * time.Second)
		w.takeDials()
		tries := make(chan time.Duration)
		go func() {
			took, err := timed(t, c, "/api/v1/pods")
			assert.ErrorContains(t, err, "not tried again for up to 10s")
			tries <- took
		}()
		synctest.Wait()
		requireSilent(t, c, 0)
		require.Equal(t, 500*time.Millisecond, <-tries)
		require.Equal(t, 1, w.takeDials())
	})
}

func TestAServerIsNoLongerSilentWhenItAnswers(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		requireSlowTimeout(t, c)
		w.set(answers)
		requireSilent(t, c, 0)
		time.Sleep(10 * time.Second)
		took, err := timed(t, c, "/api/v1/pods")
		require.NoError(t, err)
		require.Zero(t, took)
		c.HTTPClient().CloseIdleConnections()
		took, err = timed(t, c, "/api/v1/pods")
		require.NoError(t, err)
		require.Zero(t, took)
	})
}

func TestAConnectionThatComesLateServesTheNextRequest(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		requireSlowTimeout(t, c)
		w.set(slow)
		time.Sleep(10 * time.Second)
		w.takeDials()
		_, err := send(c, http.MethodPost, "/api/v1/pods", strings.NewReader("{}"))
		require.ErrorContains(t, err, "not tried again for up to 10s")
		time.Sleep(2 * time.Second)
		require.Zero(t, w.requests, "a request that has failed is not sent")
		took, err := timed(t, c, "/api/v1/pods")
		require.NoError(t, err)
		require.Zero(t, took)
		require.Equal(t, 1, w.takeDials())
	})
}

func TestProbesAndWatchesConnectToASilentServer(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		requireSlowTimeout(t, c)
		for name, connect := range map[string]func() error{
			"probe": func() error { return c.Probe(t.Context()) },
			"watch": func() error { _, err := timed(t, c, "/api/v1/pods?watch=true"); return err },
		} {
			began := time.Now()
			err := connect()
			require.Equal(t, 10*time.Second, time.Since(began), name)
			require.NotContains(t, err.Error(), "not tried again", name)
			requireSilent(t, c, 0)
		}
		w.set(answers)
		require.NoError(t, c.Probe(t.Context()))
		c.HTTPClient().CloseIdleConnections()
		w.set(silent)
		requireSlowTimeout(t, c)
	})
}

func TestAProbeWithoutADialTimeoutHasTheLimitOfItsContext(t *testing.T) {
	onWire(t, answers, nil, func(t *testing.T, w *wire, _ *remote.Cluster) {
		c := newCluster(t, dataplanetest.DataPlane("default", "prod"), remote.Options{
			DialTimeout: -1,
			ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				return &rest.Config{Host: "http://192.0.2.1:6443", Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					select {
					case <-time.After(30 * time.Second):
						return w.dial(ctx, network, address)
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}}, nil
			},
		})
		defer c.Abort()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, c.Probe(ctx), context.DeadlineExceeded)
		require.Equal(t, 20*time.Second, time.Since(began))
		require.NoError(t, c.Probe(t.Context()))
	})
}

func TestWhatEndsTheSilenceOfAServer(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *wire, *remote.Cluster){
		"a rotation": func(t *testing.T, _ *wire, c *remote.Cluster) {
			require.NoError(t, c.Update(dataplanetest.DataPlane("default", "prod")))
		},
		"a minute without requests": func(*testing.T, *wire, *remote.Cluster) { time.Sleep(time.Minute + 1) },
		"a refusal": func(t *testing.T, w *wire, c *remote.Cluster) {
			w.set(refuses)
			require.Equal(t, remote.ReachabilityRefused, remote.Classify(c.Probe(t.Context())))
			w.set(silent)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
				requireSlowTimeout(t, c)
				requireSilent(t, c, 0)
				end(t, w, c)
				requireSlowTimeout(t, c)
			})
		})
	}
}

func TestQuickFailuresAreNotRemembered(t *testing.T) {
	onWire(t, refuses, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		for range 5 {
			_, err := timed(t, c, "/api/v1/pods")
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			require.NotContains(t, err.Error(), "not tried again")
		}
		require.Equal(t, 5, w.takeDials())
	})
}

// Most callers give up before a dial ends; net/http continues the dial without them.
func TestCallersWithShortDeadlinesLearnThatAServerIsSilent(t *testing.T) {
	for name, m := range map[string]mood{"no connection": silent, "no handshake": mute} {
		t.Run(name, func(t *testing.T) {
			onWire(t, m, func(config *rest.Config) {
				config.Host, config.Insecure = "https://192.0.2.1:6443", true
			}, func(t *testing.T, _ *wire, c *remote.Cluster) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				_, err := get(ctx, c, "/api/v1/pods")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				time.Sleep(8 * time.Second)
				took, err := timed(t, c, "/api/v1/pods")
				require.Zero(t, took)
				require.ErrorContains(t, err, "; not tried again for up to 10s")
				assertClassified(t, remote.ReachabilityTimeout, err)

				time.Sleep(10 * time.Second)
				took, err = timed(t, c, "/api/v1/pods")
				require.Equal(t, 500*time.Millisecond, took)
				require.ErrorContains(t, err, "; not tried again for up to 10s")
			})
		})
	}
}

func TestAConnectionThatExistsIsUsedWhileItsServerIsSilent(t *testing.T) {
	onWire(t, answers, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		release := make(chan struct{})
		w.handler = func(resp http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/slow" {
				<-release
			}
			_, _ = io.WriteString(resp, "ok")
		}
		done := make(chan error)
		go func() {
			_, err := get(t.Context(), c, "/slow")
			done <- err
		}()
		synctest.Wait()
		w.set(silent)
		requireSlowTimeout(t, c)
		requireSilent(t, c, 0)
		close(release)
		require.NoError(t, <-done)
		took, err := timed(t, c, "/api/v1/pods")
		require.NoError(t, err)
		require.Zero(t, took)
	})
}

func TestAProxyThatWaitsForASilentServerIsRemembered(t *testing.T) {
	onWire(t, answers, func(config *rest.Config) {
		config.Host, config.Insecure = "https://192.0.2.1:6443", true
		config.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "192.0.2.2:3128"})
	}, func(t *testing.T, w *wire, c *remote.Cluster) {
		wait := 5 * time.Second
		w.handler = func(resp http.ResponseWriter, _ *http.Request) {
			time.Sleep(wait)
			resp.WriteHeader(http.StatusServiceUnavailable)
		}
		took, err := timed(t, c, "/api/v1/pods")
		require.Equal(t, wait, took)
		assertClassified(t, remote.ReachabilityProxyRefused, err)
		took, err = timed(t, c, "/api/v1/pods")
		require.Zero(t, took)
		assertClassified(t, remote.ReachabilityProxyRefused, err)
		require.ErrorContains(t, err, "the proxy does not connect: 503 Service Unavailable; not tried again for up to 10s")
	})
}

func TestCloseEndsAnAttemptToConnect(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		requireSlowTimeout(t, c)
		time.Sleep(10 * time.Second)
		requireSilent(t, c, 500*time.Millisecond)
		began := time.Now()
		c.Close() // the bubble ends only when the dial has
		require.Zero(t, time.Since(began))
		require.Equal(t, 2, w.takeDials())
	})
}

// Requests that fail at once must not speed up client-go's loops.
func TestReflectorsOfASilentServerDoNotSpin(t *testing.T) {
	for name, watchList := range map[string]bool{"list": false, "streamed list": true} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			onWire(t, silent, func(config *rest.Config) {
				config.Wrap(func(next http.RoundTripper) http.RoundTripper {
					return roundTripper(func(req *http.Request) (*http.Response, error) {
						requests.Add(1)
						return next.RoundTrip(req)
					})
				})
			}, func(t *testing.T, w *wire, c *remote.Cluster) {
				client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
				require.NoError(t, err)
				reflector := newReflector(client, watchList)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				reflector.RunWithContext(ctx)
				require.Greater(t, w.takeDials(), 1)
				require.Less(t, requests.Load(), int64(100))
			})
		})
	}
}
