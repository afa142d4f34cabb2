// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/pem"
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
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func send(c *remote.Cluster, method, path string, body io.Reader) (string, error) {
	req, err := http.NewRequest(method, c.Config().Host+path, body)
	if err != nil {
		return "", err
	}
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

// The connection with the first credentials never comes about.
func TestARequestThatWasNotSentGoesOnWithTheNewCredentials(t *testing.T) {
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

// dropContext gives requests a context of its own, as a wrapper with a limit may.
func dropContext(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) { return next.RoundTrip(r.Clone(context.Background())) })
}

// The wrapper drops the end of the request, so that only net/http itself can hold it back.
func TestARequestWhoseEndAWrapperDropsIsSentOnce(t *testing.T) {
	type sent struct{ method, token string }
	arrived := make(chan sent, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- sent{r.Method, r.Header.Get("Authorization")}
		if r.Header.Get("Authorization") == "Bearer old" {
			<-r.Context().Done() // the answer is lost
		}
	}))
	server.EnableHTTP2 = true
	server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} // a second request needs a second connection
	server.StartTLS()
	t.Cleanup(server.Close)
	dialed, release := make(chan struct{}, 10), make(chan struct{})
	token := "old"
	options := remote.Options{Grace: 500 * time.Millisecond, ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
		config := &rest.Config{Host: server.URL, BearerToken: token}
		config.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		old := token == "old"
		dials := 0
		config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials++; old && dials == 2 {
				dialed <- struct{}{}
				<-release
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		config.Wrap(dropEnd)
		return config, nil
	}}
	dp := dataplanetest.DataPlane("default", "prod")
	c := newCluster(t, dp, options)
	go func() { _, _ = send(c, http.MethodGet, "/", nil) }() // is under way, and keeps the old session
	require.Equal(t, sent{http.MethodGet, "Bearer old"}, testserver.Receive(t, arrived))
	done := make(chan error, 1)
	go func() {
		_, err := send(c, http.MethodPost, "/", strings.NewReader("once"))
		done <- err
	}()
	testserver.Receive(t, dialed)
	token = "new"
	require.NoError(t, c.Update(dp))
	close(release)
	assert.Equal(t, sent{http.MethodPost, "Bearer new"}, testserver.Receive(t, arrived), "not by the old token")
	require.NoError(t, testserver.Receive(t, done))
	assert.Empty(t, arrived, "and not twice")
}

// dropEnd keeps the values of a request's context, but not its end.
func dropEnd(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		return next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
	})
}

// net/http sends it again from GetBody, as after a GOAWAY.
func TestAnUploadThatIsSentAgainIsNotCutWhileBytesFlow(t *testing.T) {
	const limit, pause, pieces = 2 * time.Second, 300 * time.Millisecond, 10 // longer than the limit in all
	var attempts atomic.Int32
	received := make(chan string, 1)
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/warm" {
			return
		}
		if attempts.Add(1) == 1 {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, err := w.(http.Hijacker).Hijack()
			if assert.NoError(t, err) {
				_ = conn.Close()
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		received <- string(body)
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: limit})
	_, err := send(c, http.MethodGet, "/warm", nil) // net/http repeats on connections that it has used
	require.NoError(t, err)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL(), strings.NewReader(strings.Repeat("x", pieces)))
	require.NoError(t, err)
	req.Header.Set("Idempotency-Key", "1") // so that net/http may
	req.GetBody = func() (io.ReadCloser, error) {
		in, out := io.Pipe()
		go func() {
			for range pieces {
				_, _ = io.WriteString(out, "x")
				time.Sleep(pause)
			}
			_ = out.Close()
		}()
		return in, nil
	}
	resp, err := c.HTTPClient().Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, strings.Repeat("x", pieces), testserver.Receive(t, received))
}
