// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func observedBy(url string) *v1alpha1.DataPlane {
	dp := &v1alpha1.DataPlane{Spec: v1alpha1.DataPlaneSpec{Observer: &v1alpha1.ObserverAPI{URL: url}}}
	dp.Spec.Observer.Authentication.BasicAuth = v1alpha1.BasicAuthCredentials{Username: "admin", Password: "hunter2"}
	return dp
}

func TestObserverClientAuthenticatesToItsHostOnly(t *testing.T) {
	var leaked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Add(1)
		}
	}))
	defer elsewhere.Close()
	observer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		username, password, _ := r.BasicAuth()
		switch {
		case username != "admin" || password != "hunter2":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/base/away":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		case r.URL.Path == "/base/logs":
			_, _ = w.Write([]byte(r.UserAgent()))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer observer.Close()

	client, base, err := ObserverClientFor(observedBy(observer.URL+"/base"), WithUserAgent("tool/v1"))
	require.NoError(t, err)
	get := func(url string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Empty(t, req.Header.Get("Authorization"), "the caller's request must stay as it is")
		return resp
	}
	assert.Equal(t, http.StatusOK, get(base.JoinPath("logs").String()).StatusCode)
	assert.Equal(t, http.StatusTemporaryRedirect, get(base.JoinPath("away").String()).StatusCode)
	assert.Equal(t, http.StatusOK, get(elsewhere.URL).StatusCode)
	assert.Zero(t, leaked.Load())

	for _, verb := range []string{"%v", "%+v", "%#v"} {
		assert.NotContains(t, fmt.Sprintf(verb, client.Transport), "hunter2")
	}
	transport, ok := client.Transport.(*observerTransport)
	require.True(t, ok)
	client.CloseIdleConnections()
	dials := 0
	dial := transport.next.DialContext
	transport.next.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		return dial(ctx, network, address)
	}
	get(base.JoinPath("logs").String())
	assert.Equal(t, 1, dials, "the connection was closed")
}

func TestObserverClientForRefuses(t *testing.T) {
	for url, says := range map[string]string{
		"":                          "must be set",
		"observer.example.com":      "must start with",
		"ftp://observer":            "must start with",
		"https://admin:hunter2@x":   "user name or password",
		"https://x?token=hunter2":   "query or fragment",
		"https://x#hunter2":         "query or fragment",
		"https://":                  "must name a host",
		"https://x:99999":           "port",
		"https://x/%zz":             "can't be parsed",
		"https://hunter2:hunter2\n": "can't be parsed",
	} {
		_, _, err := ObserverClientFor(observedBy(url))
		require.ErrorContains(t, err, says, url)
		require.ErrorContains(t, err, "spec.observer.url")
		assert.NotContains(t, err.Error(), "hunter2")
	}
	for _, dp := range []*v1alpha1.DataPlane{nil, {}} {
		_, _, err := ObserverClientFor(dp)
		require.ErrorIs(t, err, ErrNoObserver)
	}
}

func TestObserverClientForNeedsThePassword(t *testing.T) {
	dp := newDataPlane(t)
	dp.Spec.Observer = &v1alpha1.ObserverAPI{URL: "https://observer.example.com"}
	dp.Spec.Observer.Authentication.BasicAuth = v1alpha1.BasicAuthCredentials{Username: "admin", Password: "hunter2"}
	_, _, err := ObserverClientFor(dp)
	require.NoError(t, err)
	_, _, err = ObserverClientFor(Redact(dp))
	require.ErrorIs(t, err, ErrSecretsDropped)
}
