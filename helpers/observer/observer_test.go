// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package observer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/observer"
)

func observedBy(url string) *v1alpha1.DataPlane {
	dp := &v1alpha1.DataPlane{Spec: v1alpha1.DataPlaneSpec{Observer: &v1alpha1.ObserverAPI{URL: url}}}
	dp.Spec.Observer.Authentication.BasicAuth = v1alpha1.BasicAuthCredentials{Username: "admin", Password: "hunter2"}
	return dp
}

// direct returns options that trust the certificates of httptest servers.
func direct(servers ...*httptest.Server) observer.Options {
	pool := x509.NewCertPool()
	for _, server := range servers {
		pool.AddCert(server.Certificate())
	}
	return observer.Options{TLS: &tls.Config{RootCAs: pool}}
}

// serveLogs answers with the protocol of the request, if the password is right.
func serveLogs(w http.ResponseWriter, r *http.Request) {
	if username, password, _ := r.BasicAuth(); username != "admin" || password != "hunter2" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = fmt.Fprint(w, r.Proto)
}

func get(t *testing.T, client *http.Client, url string, edits ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for _, edit := range edits {
		edit(req)
	}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Empty(t, req.Header.Get("Authorization"), "the caller's request must stay as it is")
	return resp, string(body)
}

func TestClientAuthenticatesToItsOriginOnly(t *testing.T) {
	var leaks atomic.Int32
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaks.Add(1)
		}
	}))
	defer elsewhere.Close()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/base/away" {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		serveLogs(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	opts := direct(server, elsewhere)
	client, base, err := observer.ClientFor(observedBy(server.URL+"/base"), opts)
	require.NoError(t, err)
	assert.Equal(t, server.URL+"/base", base.String())
	resp, body := get(t, client, base.JoinPath("logs").String())
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Equal(t, "HTTP/2.0", body)

	resp, _ = get(t, client, base.JoinPath("away").String())
	assert.Equal(t, http.StatusTemporaryRedirect, resp.StatusCode, "redirects are returned")
	resp, _ = get(t, client, elsewhere.URL)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	resp, _ = get(t, client, base.String(), func(r *http.Request) { r.Host = "other.example.com" })
	assert.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	assert.Zero(t, leaks.Load())

	assert.Empty(t, opts.TLS.NextProtos, "the caller's TLS configuration must stay as it is")
}

func TestClientAuthenticatesToItsOriginInEachSpelling(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(serveLogs))
	defer server.Close()
	for _, test := range []struct {
		observer, url string
		host          string // the Host header
		want          int
	}{
		{observer: "https://example.com", url: "https://EXAMPLE.com:443/logs", want: http.StatusOK},
		{observer: "https://EXAMPLE.com:443", url: "https://example.com/logs", want: http.StatusOK},
		{observer: "https://example.com:", url: "https://example.com/logs", want: http.StatusOK},
		{observer: "https://example.com", url: "https://example.com", host: "Example.com:443", want: http.StatusOK},
		{observer: "https://example.com:8443", url: "https://EXAMPLE.com:8443", want: http.StatusOK},
		{observer: "https://example.com:8443", url: "https://example.com", want: http.StatusUnauthorized},
		{observer: "https://example.com", url: "https://example.com:80", want: http.StatusUnauthorized},
		{observer: "https://example.com", url: "https://example.com", host: "example.com:80", want: http.StatusUnauthorized},
		{observer: "https://example.com", url: "https://www.example.com", want: http.StatusUnauthorized},
	} {
		t.Run(test.observer+" and "+test.url+" "+test.host, func(t *testing.T) {
			opts := direct(server) // httptest's certificate names example.com
			opts.Proxy = tunnelTo(t, server)
			client, _, err := observer.ClientFor(observedBy(test.observer), opts)
			require.NoError(t, err)
			defer client.CloseIdleConnections()
			resp, _ := get(t, client, test.url, func(r *http.Request) {
				if test.host != "" {
					r.Host = test.host
				}
			})
			assert.Equal(t, test.want, resp.StatusCode)
		})
	}
}

// tunnelTo starts an HTTP proxy that connects every client to one server.
func tunnelTo(t *testing.T, server *httptest.Server) func(*http.Request) (*url.URL, error) {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target, err := new(net.Dialer).DialContext(r.Context(), "tcp", server.Listener.Addr().String())
		if !assert.NoError(t, err) {
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		_, _ = client.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		go func() { _, _ = io.Copy(target, client); _ = target.Close() }()
		_, _ = io.Copy(client, target)
		_ = client.Close()
	}))
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	return http.ProxyURL(address)
}

func TestFormattingAClientShowsNoPassword(t *testing.T) {
	client, _, err := observer.ClientFor(observedBy("https://observer.example.com"), observer.Options{})
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		assert.NotContains(t, fmt.Sprintf(verb, client), "hunter2")
		assert.NotContains(t, fmt.Sprintf(verb, client.Transport), "hunter2")
	}
}

// proxy starts a proxy that refuses requests, and counts them and the passwords in them.
func proxy(t *testing.T) (proxyOf func(*http.Request) (*url.URL, error), requests, leaks *atomic.Int32) {
	t.Helper()
	requests, leaks = &atomic.Int32{}, &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Header.Get("Authorization") != "" {
			leaks.Add(1)
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	require.NoError(t, err)
	return http.ProxyURL(address), requests, leaks
}

func TestClientSendsNoPasswordToAProxy(t *testing.T) {
	t.Run("http", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(serveLogs))
		defer server.Close()
		proxyOf, requests, _ := proxy(t)
		client, base, err := observer.ClientFor(observedBy(server.URL), observer.Options{AllowHTTP: true, Proxy: proxyOf})
		require.NoError(t, err)
		resp, _ := get(t, client, base.String())
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Zero(t, requests.Load(), "http goes through no proxy")
	})
	t.Run("https", func(t *testing.T) {
		proxyOf, requests, leaks := proxy(t)
		client, base, err := observer.ClientFor(observedBy("https://observer.example.com"), observer.Options{Proxy: proxyOf})
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base.String(), nil)
		require.NoError(t, err)
		_, err = client.Do(req)
		require.ErrorContains(t, err, "Bad Gateway")
		assert.EqualValues(t, 1, requests.Load())
		assert.Zero(t, leaks.Load())
	})
}

func TestClientDials(t *testing.T) {
	refused := errors.New("not this address")
	for name, test := range map[string]struct{ timeout, want time.Duration }{
		"within 10 s by default":   {0, 10 * time.Second},
		"within the given time":    {time.Hour, time.Hour},
		"within 10 s if it is < 0": {-1, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var limit time.Duration
			var dialed string
			client, base, err := observer.ClientFor(observedBy("https://127.0.0.1:1"), observer.Options{
				DialTimeout: test.timeout,
				DialControl: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
					deadline, _ := ctx.Deadline()
					limit, dialed = time.Until(deadline), address
					return refused
				},
			})
			require.NoError(t, err)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base.String(), nil)
			require.NoError(t, err)
			_, err = client.Do(req)
			require.ErrorIs(t, err, refused)
			assert.Equal(t, "127.0.0.1:1", dialed)
			assert.InDelta(t, test.want, limit, float64(5*time.Second))
		})
	}
}

func TestClientSharesNoConnections(t *testing.T) {
	server := testserver.New(t, serveLogs)
	config, err := helpers.RESTConfigFor(server.DataPlane("prod", "alice"))
	require.NoError(t, err)
	opts := direct()
	opts.TLS, err = rest.TLSConfigFor(config)
	require.NoError(t, err)
	clients := make([]*http.Client, 2)
	for i := range clients {
		client, base, err := observer.ClientFor(observedBy(server.URL()), opts)
		require.NoError(t, err)
		for range 2 {
			_, body := get(t, client, base.String())
			assert.Contains(t, body, "HTTP/2.0")
		}
		clients[i] = client
	}
	assert.Equal(t, 2, server.Accepted())
	for _, client := range clients {
		client.CloseIdleConnections()
	}
	server.RequireNoConnections()
}

func TestClientForRefuses(t *testing.T) {
	for url, says := range map[string]string{
		"":                          "must be set",
		"observer.example.com":      "must start with https://",
		"ftp://observer":            "must start with https://",
		"http://observer":           "AllowHTTP",
		"https://admin:hunter2@x":   "user name or password",
		"https://x?token=hunter2":   "query or fragment",
		"https://x?":                "query or fragment",
		"https://x#hunter2":         "query or fragment",
		"https://":                  "must name a host",
		"https://:8443":             "must name a host",
		"https:hunter2":             "must start with https://",
		"10.0.0.1:8443":             "must start with https://",
		"https://x#":                "query or fragment",
		"https://x:99999":           "port from 1 to 65535",
		"https://x:00":              "port from 1 to 65535",
		"https://BÜCHER":            "must have a host in ASCII",
		"https://x/%zz":             "can't be parsed",
		"https://hunter2:hunter2\n": "control characters",
	} {
		_, _, err := observer.ClientFor(observedBy(url), observer.Options{})
		require.ErrorContains(t, err, "spec.observer.url: ", url)
		require.ErrorContains(t, err, says, url)
		assert.NotContains(t, err.Error(), "hunter2")
		assert.True(t, validateWarns(observedBy(url)), url)
	}
	for _, url := range []string{"https://observer.example.com.", "https://[::1]:8443/path", "https://observer_1", "https://x/a%2Fb"} {
		_, _, err := observer.ClientFor(observedBy(url), observer.Options{})
		require.NoError(t, err, url)
		assert.False(t, validateWarns(observedBy(url)), url)
	}
	dp := observedBy("https://observer.example.com")
	dp.Spec.Observer.Authentication.BasicAuth.Username = "hunter2:a"
	_, _, err := observer.ClientFor(dp, observer.Options{})
	require.EqualError(t, err, "spec.observer.authentication.basicAuth.username: must not contain a colon, which ends a user name in basic authentication")
	assert.True(t, validateWarns(dp))

	_, _, err = observer.ClientFor(&v1alpha1.DataPlane{}, observer.Options{})
	require.ErrorIs(t, err, observer.ErrNoObserver)
	_, _, err = observer.ClientFor(nil, observer.Options{})
	require.EqualError(t, err, "nil data plane")
	_, _, err = observer.ClientFor(observedBy("https://observer.example.com").Redacted(), observer.Options{})
	require.ErrorIs(t, err, helpers.ErrSecretsDropped)
	require.ErrorContains(t, err, "spec.observer.authentication.basicAuth.password: ")
}

// validateWarns reports whether helpers.Validate warns of the observer.
func validateWarns(dp *v1alpha1.DataPlane) bool {
	warnings, _ := helpers.Validate(dp)
	return slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, "spec.observer.") })
}
