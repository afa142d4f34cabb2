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
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// bodyUntilCut ends in good order when the request is cut, as a server's answer may.
type bodyUntilCut struct{ context.Context }

func (b bodyUntilCut) Read([]byte) (int, error) { <-b.Done(); return 0, io.EOF }
func (b bodyUntilCut) Close() error             { return nil }

func TestAnAnswerThatWasCutIsNotTakenForAWholeOne(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	for name, test := range map[string]struct {
		options remote.Options
		cut     func(c *remote.Cluster, cancel context.CancelFunc)
		want    error
	}{
		"by a limit": {
			options: remote.Options{HeaderTimeout: 50 * time.Millisecond, StallTimeout: 50 * time.Millisecond}, want: context.DeadlineExceeded,
		},
		"by Close": {cut: func(c *remote.Cluster, _ context.CancelFunc) { c.Close() }, want: remote.ErrClosed},
		"by the caller": {
			cut: func(_ *remote.Cluster, cancel context.CancelFunc) { cancel() }, want: context.Canceled,
		},
	} {
		for _, headers := range []bool{false, true} { // come before the cut
			t.Run(fmt.Sprintf("%s, headers=%t", name, headers), func(t *testing.T) {
				sent := make(chan struct{})
				options := editConfig(func(config *rest.Config) {
					config.Wrap(func(http.RoundTripper) http.RoundTripper {
						return roundTripper(func(req *http.Request) (*http.Response, error) {
							close(sent)
							if headers {
								return &http.Response{StatusCode: http.StatusOK, Body: bodyUntilCut{req.Context()}}, nil
							}
							<-req.Context().Done()
							return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
						})
					})
				})
				options.HeaderTimeout, options.StallTimeout = test.options.HeaderTimeout, test.options.StallTimeout
				options.Grace = -1
				c := newCluster(t, dp, options)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				result := make(chan error, 1)
				go func() {
					_, err := get(ctx, c, "/api/v1/pods")
					result <- err
				}()
				testserver.Receive(t, sent)
				if test.cut != nil {
					test.cut(c, cancel)
				}
				require.ErrorIs(t, testserver.Receive(t, result), test.want)
			})
		}
	}
}

func TestABodyThatOutlastsTheGraceIsToldWhyThroughAnyWrapper(t *testing.T) {
	for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
		"that passes requests on": func(next http.RoundTripper) http.RoundTripper { return next },
		"that drops contexts":     dropContext,
		"that drops their ends": func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				return next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := testserver.New(t, streams)
			options := editConfig(func(config *rest.Config) { config.Wrap(wrap) })
			options.Grace = 50 * time.Millisecond
			c := newCluster(t, server.DataPlane("prod", "alice"), options)
			resp, err := open(t.Context(), c, "/api/v1/namespaces/x/pods")
			require.NoError(t, err)
			defer resp.Body.Close()
			require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
			_, err = io.ReadAll(resp.Body)
			require.ErrorIs(t, err, remote.ErrRotated)
		})
	}
}

func TestTheCallersContextStaysTheCallers(t *testing.T) {
	arrived := make(chan struct{})
	server := testserver.New(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := get(ctx, c, "/")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, remote.ErrClosed)
	assertClassified(t, remote.ReachabilityUnknown, err)
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
