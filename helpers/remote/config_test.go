// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// editConfig returns options that change what RESTConfigFor returns.
func editConfig(edit func(*rest.Config)) remote.Options {
	return remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		config, err := helpers.RESTConfigFor(dp)
		if err == nil {
			edit(config)
		}
		return config, err
	}}
}

// echoHeader answers with the header that the path names.
func echoHeader(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, r.Header.Get(strings.TrimPrefix(r.URL.Path, "/")))
}

func TestWhatConfigForSetsTakesEffectAtOnce(t *testing.T) {
	server := testserver.New(t, echoHeader)
	tokens := t.TempDir()
	for name, test := range map[string]struct {
		set    func(config *rest.Config, value string)
		header string
		prefix string
	}{
		"bearer token": {
			func(config *rest.Config, value string) { config.BearerToken = value }, "Authorization", "Bearer ",
		},
		"bearer token file": {
			func(config *rest.Config, value string) {
				config.BearerTokenFile = filepath.Join(tokens, value)
				assert.NoError(t, os.WriteFile(config.BearerTokenFile, []byte(value), 0o600))
			}, "Authorization", "Bearer ",
		},
		"impersonated user": {
			func(config *rest.Config, value string) { config.Impersonate.UserName = value }, "Impersonate-User", "",
		},
		"impersonated group": {
			func(config *rest.Config, value string) {
				config.Impersonate = rest.ImpersonationConfig{UserName: "x", Groups: []string{value}}
			}, "Impersonate-Group", "",
		},
		"user agent": {func(config *rest.Config, value string) { config.UserAgent = value }, "User-Agent", ""},
		"WrapTransport, with something else": {
			func(config *rest.Config, value string) {
				config.UserAgent = value
				config.Wrap(func(next http.RoundTripper) http.RoundTripper {
					return roundTripper(func(req *http.Request) (*http.Response, error) {
						req = req.Clone(req.Context())
						req.Header.Set("X-Wrapped", value)
						return next.RoundTrip(req)
					})
				})
			}, "X-Wrapped", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			value := "first"
			dp := server.DataPlane("prod", "alice")
			c := newCluster(t, dp, editConfig(func(config *rest.Config) { test.set(config, value) }))
			for _, value = range []string{"first", "second", "third"} {
				require.NoError(t, c.Update(dp))
				sent, err := get(t.Context(), c, "/"+test.header)
				require.NoError(t, err)
				assert.Equal(t, test.prefix+value, sent)
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestConfigForCanConnectThroughAGateway(t *testing.T) {
	started := make(chan struct{})
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			close(started)
			<-r.Context().Done()
		}
		if strings.HasSuffix(r.URL.Path, "/readyz") {
			_, _ = io.WriteString(w, "ok")
			return
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}))
	t.Cleanup(gateway.Close)
	const prefix = "/api/proxy/dataplane/p/default/prod/k8s"
	dp := &v1alpha1.DataPlane{} // of a later release, without credentials
	dp.Namespace, dp.Name = "default", "prod"
	c := newCluster(t, dp, remote.Options{
		ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
			return &rest.Config{Host: gateway.URL + prefix}, nil
		},
		HeaderTimeout: 300 * time.Millisecond, StallTimeout: time.Hour,
	})
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	path, err := client.CoreV1().RESTClient().Get().Resource("pods").DoRaw(t.Context())
	require.NoError(t, err)
	assert.Equal(t, prefix+"/api/v1/pods", string(path))
	require.NoError(t, c.Probe(t.Context()))

	_, err = get(t.Context(), c, "/api/v1/pods?watch=true")
	require.ErrorIs(t, err, context.DeadlineExceeded, "it is a watch behind the prefix too")
	testserver.Receive(t, started)
}

// connectProxy is an HTTP proxy that answers with a status, or connects.
func connectProxy(t *testing.T, status int) (proxy *url.URL, used *atomic.Int32) {
	t.Helper()
	used = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		used.Add(1)
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		out, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
		if !assert.NoError(t, err) {
			return
		}
		in, buffered, err := w.(http.Hijacker).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(out, buffered)
			_ = out.Close()
		}()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}))
	t.Cleanup(server.Close)
	proxy, err := url.Parse(server.URL)
	require.NoError(t, err)
	return proxy, used
}

func TestAProxyIsUsedAndCanBeChanged(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	first, usedFirst := connectProxy(t, http.StatusOK)
	second, usedSecond := connectProxy(t, http.StatusOK)
	proxy := first
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, editConfig(func(config *rest.Config) { config.Proxy = http.ProxyURL(proxy) }))
	require.NoError(t, c.Probe(t.Context()))
	require.NoError(t, c.Update(dp), "another function, and the same proxy")
	require.NoError(t, c.Probe(t.Context()))
	assert.EqualValues(t, 1, usedFirst.Load())
	proxy = second
	require.NoError(t, c.Update(dp))
	require.NoError(t, c.Probe(t.Context()))
	assert.EqualValues(t, 1, usedSecond.Load())
	c.Close()
	server.RequireNoConnections()
}

func TestAProxyThatRefusesIsTold(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusProxyAuthRequired, http.StatusForbidden} {
		proxy, _ := connectProxy(t, status)
		proxy.User = url.UserPassword("user", "hunter2")
		c := newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) {
			config.Proxy = http.ProxyURL(proxy)
		}))
		err := c.Probe(t.Context())
		assertClassified(t, remote.ReachabilityProxyRefused, err)
		assert.ErrorContains(t, err, http.StatusText(status))
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestConfigsShareOneRateLimiter(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	given := flowcontrol.NewTokenBucketRateLimiter(7, 1)
	for name, test := range map[string]struct {
		edit func(*rest.Config)
		want float32 // 0 for none
	}{
		"of the default":     {func(*rest.Config) {}, 50},
		"of QPS":             {func(config *rest.Config) { config.QPS = 3 }, 3},
		"client-go's":        {func(config *rest.Config) { config.QPS = 0 }, rest.DefaultQPS},
		"that was given":     {func(config *rest.Config) { config.RateLimiter = given }, 7},
		"none for QPS below": {func(config *rest.Config) { config.QPS = -1 }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dp, editConfig(test.edit))
			limiter := c.Config().RateLimiter
			if test.want == 0 {
				assert.Nil(t, limiter)
				return
			}
			require.NotNil(t, limiter)
			assert.Equal(t, test.want, limiter.QPS())
			require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
			assert.Same(t, limiter, c.Config().RateLimiter)
		})
	}
}

func TestWhatAClusterCannotHonourIsRefusedByName(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("x") }
	for field, edit := range map[string]func(*rest.Config){
		"ExecProvider": func(config *rest.Config) { config.ExecProvider = &clientcmdapi.ExecConfig{Command: "x"} },
		"AuthProvider": func(config *rest.Config) { config.AuthProvider = &clientcmdapi.AuthProviderConfig{Name: "x"} },
		"Transport":    func(config *rest.Config) { config.Transport = http.DefaultTransport },
		"Timeout":      func(config *rest.Config) { config.Timeout = time.Second },
		"Dial":         func(config *rest.Config) { config.Dial = dial },
	} {
		t.Run(field, func(t *testing.T) {
			options := editConfig(edit)
			options.DialControl = denyAddress
			_, err := remote.NewCluster(dp, options)
			require.ErrorContains(t, err, "data plane default/production-dataplane: rest.Config field "+field+": ")
		})
	}
	_, err := remote.NewCluster(dp, remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) { return nil, nil }})
	require.ErrorContains(t, err, "ConfigFor returned no configuration")
}

func denyAddress(context.Context, string, string, syscall.RawConn) error {
	return errors.New("address is not allowed")
}

func TestDialOfConfigForIsUsedAndItsConnectionsAreClosed(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	var dialed atomic.Int32
	c := newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) {
		config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}))
	require.NoError(t, c.Probe(t.Context()))
	assert.EqualValues(t, 1, dialed.Load())
	c.Close()
	server.RequireNoConnections()
}

// stuckLimiter lets nobody through.
type stuckLimiter struct {
	flowcontrol.RateLimiter
	waiting chan struct{}
	once    sync.Once
}

func (l *stuckLimiter) Wait(ctx context.Context) error {
	l.once.Do(func() { close(l.waiting) })
	<-ctx.Done()
	return ctx.Err()
}

func TestARequestToAClosedClusterDoesNotWaitForTheRateLimiter(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	limiter := &stuckLimiter{RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter(), waiting: make(chan struct{})}
	c := newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) { config.RateLimiter = limiter }))
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	request := func(ctx context.Context) error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/").DoRaw(ctx)
		return err
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, request(cancelled), context.Canceled)

	result := make(chan error, 1)
	go func() { result <- request(context.Background()) }()
	testserver.Receive(t, limiter.waiting)
	c.Close()
	waiting := testserver.Receive(t, result)
	go func() { result <- request(context.Background()) }()
	for _, err := range []error{waiting, testserver.Receive(t, result)} {
		require.ErrorIs(t, err, remote.ErrClosed)
		assert.NotContains(t, err.Error(), "rate limiter")
	}
}
