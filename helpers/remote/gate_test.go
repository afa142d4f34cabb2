// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/pem"
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
			config.CertData, config.KeyData = nil, nil // a key doesn't sign after it was replaced
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
