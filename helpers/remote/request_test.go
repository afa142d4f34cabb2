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
	"strings"
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

// bodyUntilCut ends in good order when the request is cut, as a server's answer may.
type bodyUntilCut struct{ context.Context }

func (b bodyUntilCut) Read([]byte) (int, error) { <-b.Done(); return 0, io.EOF }
func (b bodyUntilCut) Close() error             { return nil }

func TestAnAnswerThatWasCutIsAnError(t *testing.T) {
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
		for _, headers := range []bool{false, true} { // do they come before the cut
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

func TestABodyThatOutlastsTheGraceFailsWithErrRotatedThroughAnyWrapper(t *testing.T) {
	for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
		"that passes requests on": func(next http.RoundTripper) http.RoundTripper { return next },
		"that drops contexts":     dropContext,
		"that drops cancellations": func(next http.RoundTripper) http.RoundTripper {
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

func TestARequestThatItsCallerCancelsFailsWithCanceled(t *testing.T) {
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

// countBody replaces the body of responses, as a wrapper that counts bytes does.
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

// A wrapper's own response often has no ContentLength, which means 0.
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

// A wrapper holds the request while the credentials are replaced.
func TestARequestInAWrapperIsNotSentWithOldCredentials(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+" ")
		_, _ = io.Copy(w, r.Body)
	})
	token, inside, release := "old", make(chan struct{}, 1), make(chan struct{})
	options := editConfig(func(config *rest.Config) {
		config.BearerToken = token
		if token == "old" {
			config.CertData, config.KeyData = nil, nil // an old key signs nothing
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					inside <- struct{}{}
					<-release
					return next.RoundTrip(r)
				})
			})
		}
	})
	options.Grace = time.Minute
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, options)
	results := make(chan result, 1)
	go func() {
		body, err := send(c, http.MethodPost, "/", strings.NewReader("once"))
		results <- result{body, err}
	}()
	testserver.Receive(t, inside)
	token = "new"
	require.NoError(t, c.Update(dp))
	close(release)
	got := testserver.Receive(t, results)
	require.NoError(t, got.err)
	assert.Equal(t, "Bearer new once", got.body)
}

// The wrapper drops the cancellation of the request, so that only net/http can hold it back.
func TestARequestWhoseCancellationAWrapperDropsIsSentOnce(t *testing.T) {
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
	go func() { _, _ = send(c, http.MethodGet, "/", nil) }() // keeps the old session open
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
	assert.Equal(t, sent{http.MethodPost, "Bearer new"}, testserver.Receive(t, arrived), "not with the old token")
	require.NoError(t, testserver.Receive(t, done))
	assert.Empty(t, arrived, "and not twice")
}

// dropEnd keeps the values of a request's context, but not its cancellation.
func dropEnd(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		return next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
	})
}
