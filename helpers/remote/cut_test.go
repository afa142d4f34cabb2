// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

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
