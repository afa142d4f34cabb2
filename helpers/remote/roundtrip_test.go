// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// The first credentials never get a connection.
func TestARequestThatWasNotSentContinuesWithTheNewCredentials(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+" ")
		_, _ = io.Copy(w, r.Body)
	})
	mute := listen(t, nil).Addr().String()
	dialMute := func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", mute) }
	for name, test := range map[string]struct {
		dial  func(context.Context) (net.Conn, error)
		proxy bool
	}{
		"dial":          {dial: func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }},
		"TLS handshake": {dial: dialMute},
		"proxy":         {dial: dialMute, proxy: true},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(method+" waits for "+name, func(t *testing.T) {
				token, dialed := "old", make(chan struct{}, 1)
				dp := server.DataPlane("prod", "alice")
				options := editConfig(func(config *rest.Config) {
					config.BearerToken = token
					if token != "old" {
						return
					}
					if test.proxy {
						config.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: mute})
					}
					config.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
						dialed <- struct{}{}
						return test.dial(ctx)
					}
				})
				options.Grace = time.Minute
				c := newCluster(t, dp, options)
				done := make(chan result, 1)
				go func() {
					var body io.Reader
					if method == http.MethodPost {
						body = strings.NewReader("once")
					}
					answer, err := send(c, method, "/", body)
					done <- result{answer, err}
				}()
				testserver.Receive(t, dialed)
				token = "new"
				require.NoError(t, c.Update(dp))
				answered := testserver.Receive(t, done)
				require.NoError(t, answered.err)
				want := map[string]string{http.MethodGet: "Bearer new ", http.MethodPost: "Bearer new once"}
				assert.Equal(t, want[method], answered.body)
			})
		}
	}
}

// Rotations come at every moment in the life of a connection.
func TestNoUnaryRequestFailsThroughRotations(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, http2 := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s http2=%t", method, http2), func(t *testing.T) {
				server := testserver.New(t, func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
				}, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
				planes := []*v1alpha1.DataPlane{server.DataPlane("prod", "alice"), server.DataPlane("prod", "bob")}
				c := newCluster(t, planes[0], remote.Options{Grace: time.Minute})
				ctx, stop := context.WithCancel(t.Context())
				var workers sync.WaitGroup
				for range 4 {
					workers.Add(1)
					go func() {
						defer workers.Done()
						for ctx.Err() == nil {
							_, err := send(c, method, "/", strings.NewReader("x"))
							if !assert.NoError(t, err) {
								return
							}
						}
					}()
				}
				for i := range 50 {
					require.NoError(t, c.Update(planes[(i+1)%2]))
					time.Sleep(time.Duration(i%8) * time.Millisecond)
				}
				stop()
				workers.Wait()
			})
		}
	}
}

// The server cuts the connection without an answer, after the credentials were rotated.
func TestARequestThatWasSentIsOnlyRepeatedWhereThatIsSafe(t *testing.T) {
	for name, test := range map[string]struct {
		method, path string
		wrap         func(http.RoundTripper) http.RoundTripper
		want         int32
	}{
		"GET":                   {method: http.MethodGet, path: "/", want: 2},
		"POST":                  {method: http.MethodPost, path: "/", want: 1},
		"DELETE with watch":     {method: http.MethodDelete, path: "/api/v1/pods?watch=true", want: 1},
		"POST, context is lost": {method: http.MethodPost, path: "/", wrap: dropContext, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var c *remote.Cluster
			var bob *v1alpha1.DataPlane
			var sent atomic.Int32
			server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/warm" || sent.Add(1) > 1 {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				assert.NoError(t, c.Update(bob))
				conn, _, err := w.(http.Hijacker).Hijack()
				if assert.NoError(t, err) {
					_ = conn.Close()
				}
			}, func(s *httptest.Server) { s.EnableHTTP2 = false })
			bob = server.DataPlane("prod", "bob")
			c = newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) {
				if test.wrap != nil {
					config.Wrap(test.wrap)
				}
			}))
			_, err := send(c, http.MethodGet, "/warm", nil) // net/http repeats on connections that it has used
			require.NoError(t, err)
			_, err = send(c, test.method, test.path, nil)
			assert.Equal(t, test.want > 1, err == nil, "%v", err)
			assert.Equal(t, test.want, sent.Load())
		})
	}
}

func TestAWrapperThatReturnsNothingIsAnError(t *testing.T) {
	nothing := func(config *rest.Config) {
		config.Wrap(func(http.RoundTripper) http.RoundTripper {
			return roundTripper(func(*http.Request) (*http.Response, error) { return nil, nil })
		})
	}
	gateway := &rest.Config{Host: "https://127.0.0.1:1"}
	nothing(gateway)
	for name, options := range map[string]remote.Options{
		"around the API server":      editConfig(nothing),
		"around the cluster gateway": {ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) { return helpers.GatewayConfigFor(dp, gateway) }},
	} {
		t.Run(name, func(t *testing.T) {
			options.Grace = time.Minute
			c := newCluster(t, dataplanetest.DataPlane("default", "prod"), options)
			_, err := get(t.Context(), c, "/api/v1/pods")
			require.ErrorContains(t, err, "data plane default/prod: a round tripper of rest.Config.Wrap returned neither a response nor an error")
			assertClassified(t, remote.ReachabilityUnknown, err)
			soon(t, c.Close)
		})
	}
}

func TestAnAttemptAfterCloseFailsAtOnce(t *testing.T) {
	t.Parallel()
	var attempts atomic.Int32
	answered := make(chan struct{}, 10)
	server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
		attempts.Add(1)
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		answered <- struct{}{}
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	result := make(chan error, 1)
	go func() {
		_, err := client.CoreV1().Pods("x").List(context.Background(), metav1.ListOptions{})
		result <- err
	}()
	testserver.Receive(t, answered)
	c.Close()
	require.ErrorIs(t, testserver.Receive(t, result), remote.ErrClosed)
	assert.EqualValues(t, 1, attempts.Load())
}

func TestCloseIdleConnectionsForReachesTheTransport(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	client := c.HTTPClient()
	for _, user := range []string{"alice", "bob"} { // before and after a rotation
		require.NoError(t, c.Update(server.DataPlane("prod", user)))
		_, err := get(t.Context(), c, "/")
		require.NoError(t, err, "it is not Close")
		// Repeated, since a stream stays busy for a moment after its end.
		require.Eventually(t, func() bool {
			utilnet.CloseIdleConnectionsFor(client.Transport)
			return server.Open() == 0
		}, 10*time.Second, 10*time.Millisecond)
	}
	c.Close()
	utilnet.CloseIdleConnectionsFor(client.Transport)
}
