// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestAnUpgradeThatNobodyAskedForFails(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api/v1/pods", "/api/v1/pods?watch=true", "/api/v1/namespaces/x/pods/y/exec"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			closed := make(chan error, 1)
			server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, buffered, err := w.(http.Hijacker).Hijack()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				_, err = buffered.ReadByte()
				closed <- err
			}, func(s *httptest.Server) { s.EnableHTTP2 = false })
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
			result := make(chan error, 1)
			go func() {
				_, err := get(t.Context(), c, path)
				result <- err
			}()
			err := testserver.Receive(t, result)
			require.ErrorContains(t, err, "data plane default/prod: the server switches protocols without being asked")
			assertClassified(t, remote.ReachabilityNotReady, err)
			require.Error(t, testserver.Receive(t, closed), "the connection is closed")
		})
	}
}

// countBody gives responses another body, as a wrapper that counts bytes does.
func countBody(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil {
			resp.Body = struct{ io.ReadCloser }{resp.Body}
		}
		return resp, err
	})
}

func TestAResponseWithoutABodyNeedsNoClose(t *testing.T) {
	for name, test := range map[string]struct {
		method, path string
		status       int
	}{
		"HEAD":                     {http.MethodHead, "/api/v1/pods", http.StatusOK},
		"204":                      {http.MethodGet, "/api/v1/pods", http.StatusNoContent},
		"304":                      {http.MethodGet, "/api/v1/pods", http.StatusNotModified},
		"length 0":                 {http.MethodDelete, "/api/v1/namespaces/x/pods/y", http.StatusOK},
		"length 0 of an error":     {http.MethodGet, "/api/v1/pods?watch=true", http.StatusServiceUnavailable},
		"length 0 through a proxy": {http.MethodPost, "/api/v1/namespaces/x/services/y/proxy/", http.StatusOK},
	} {
		for _, http2 := range []bool{true, false} {
			for _, wrapped := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, http2=%t, wrapped=%t", name, http2, wrapped), func(t *testing.T) {
					server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(test.status) },
						func(s *httptest.Server) { s.EnableHTTP2 = http2 })
					options := editConfig(func(config *rest.Config) {
						if wrapped {
							config.Wrap(countBody)
						}
					})
					options.Grace = time.Hour
					c := newCluster(t, server.DataPlane("prod", "alice"), options)
					t.Cleanup(c.Abort)
					req, err := http.NewRequestWithContext(t.Context(), test.method, server.URL()+test.path, nil)
					require.NoError(t, err)
					resp, err := c.HTTPClient().Do(req)
					require.NoError(t, err)
					require.Equal(t, test.status, resp.StatusCode)
					soon(t, c.Close)
					body, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					require.Empty(t, body)
				})
			}
		}
	}
}

// A response that a wrapper makes up often has no ContentLength, which says 0.
func TestABodyWithoutAContentLengthIsWhole(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) {
		config.Wrap(func(http.RoundTripper) http.RoundTripper {
			return roundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("made up"))}, nil
			})
		})
	}))
	body, err := get(t.Context(), c, "/api/v1/pods")
	require.NoError(t, err)
	assert.Equal(t, "made up", body)
}

func TestRetryAfterIsCapped(t *testing.T) {
	var status atomic.Int32
	var retryAfter atomic.Value
	server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", retryAfter.Load().(string))
		w.WriteHeader(int(status.Load()))
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	for _, test := range []struct {
		status     int
		sent, want string
	}{
		{http.StatusServiceUnavailable, "3600", "32"},
		{http.StatusTooManyRequests, "33", "32"},
		{http.StatusInternalServerError, "3600", "32"}, // which client-go sleeps for too
		{http.StatusServiceUnavailable, "32", "32"},
		{http.StatusTooManyRequests, "1", "1"},
		{http.StatusServiceUnavailable, "", ""},
		{http.StatusServiceUnavailable, "Fri, 31 Dec 2100 23:59:59 GMT", "Fri, 31 Dec 2100 23:59:59 GMT"}, // no client-go reads it
		{http.StatusAccepted, "3600", "3600"},
	} {
		status.Store(int32(test.status))
		retryAfter.Store(test.sent)
		resp, err := open(t.Context(), c, "/api/v1/pods")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, test.want, resp.Header.Get("Retry-After"), "%d with %q", test.status, test.sent)
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
