// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

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

func TestARefusalOfAProxyIsReported(t *testing.T) {
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

// socksProxy answers requests for connections with the code reply, and connects if it is 0.
func socksProxy(t *testing.T, method, reply byte) *url.URL {
	t.Helper()
	listener := listen(t, func(in net.Conn) {
		defer in.Close()
		greeting := make([]byte, 2)
		if _, err := io.ReadFull(in, greeting); err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, in, int64(greeting[1]))
		_, _ = in.Write([]byte{5, method})
		request := make([]byte, 10) // of an IPv4 address
		if _, err := io.ReadFull(in, request); err != nil {
			return
		}
		_, _ = in.Write([]byte{5, reply, 0, 1, 0, 0, 0, 0, 0, 0})
		if reply != 0 {
			return
		}
		target := netip.AddrPortFrom(netip.AddrFrom4([4]byte(request[4:8])), binary.BigEndian.Uint16(request[8:]))
		out, err := net.Dial("tcp", target.String())
		if !assert.NoError(t, err) {
			return
		}
		defer out.Close()
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		_, _ = io.Copy(in, out)
	})
	return &url.URL{Scheme: "socks5", Host: listener.Addr().String()}
}

func TestASOCKSProxyIsUsedAndItsRefusalIsReported(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	for name, test := range map[string]struct {
		method, reply byte
		want          remote.Reachability
	}{
		"connects":                    {want: remote.ReachabilityReachable},
		"fails":                       {reply: 1, want: remote.ReachabilityProxyRefused},
		"does not allow the address":  {reply: 2, want: remote.ReachabilityProxyRefused},
		"is refused by the address":   {reply: 5, want: remote.ReachabilityProxyRefused},
		"wants another authenticator": {method: 0xff, want: remote.ReachabilityProxyRefused},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := socksProxy(t, test.method, test.reply)
			c := newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) {
				config.Proxy = http.ProxyURL(proxy)
			}))
			assertClassified(t, test.want, c.Probe(t.Context()))
		})
	}
}

func TestAProxyOfAnotherSchemeIsRefusedByName(t *testing.T) {
	const refused = "rest.Config field Proxy: the scheme of a proxy must be http, socks5 or socks5h"
	dp := dataplanetest.DataPlane("default", "prod")
	for name, proxy := range map[string]string{
		"https": "https://user:hunter2@proxy.example.org:3128", "unknown": "ftp://user:hunter2@proxy.example.org",
		"none": "user:hunter2@proxy.example.org",
	} {
		t.Run(name, func(t *testing.T) {
			proxyURL, err := url.Parse(proxy)
			require.NoError(t, err)
			_, err = remote.NewCluster(dp, editConfig(func(config *rest.Config) { config.Proxy = http.ProxyURL(proxyURL) }))
			require.EqualError(t, err, "data plane default/prod: "+refused)
		})
	}

	// A proxy may be chosen for each request.
	var dialed atomic.Int32
	c := newCluster(t, dp, editConfig(func(config *rest.Config) {
		config.Dial = func(context.Context, string, string) (net.Conn, error) {
			dialed.Add(1)
			return nil, syscall.ECONNREFUSED
		}
		config.Proxy = func(r *http.Request) (*url.URL, error) {
			if r.URL.Path == "/other" {
				return &url.URL{Scheme: "https", Host: "127.0.0.1:3128"}, nil
			}
			return nil, nil
		}
	}))
	_, err := get(t.Context(), c, "/other")
	require.ErrorContains(t, err, refused)
	assert.Zero(t, dialed.Load())
}

// A rotation compares what the old and the new Proxy return. Requests don't wait for a slow Proxy.
func TestRequestsDoNotWaitForTheComparisonOfProxies(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		config, err := helpers.RESTConfigFor(dp)
		if dp.Labels["proxy"] == "slow" {
			config.Proxy = func(*http.Request) (*url.URL, error) {
				select {
				case entered <- struct{}{}:
				default:
				}
				<-leave
				return nil, nil
			}
		}
		return config, err
	}})
	_, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	slow := dp.DeepCopy()
	slow.Labels = map[string]string{"proxy": "slow"}
	updated := make(chan error, 1)
	go func() { updated <- c.Update(slow) }()
	testserver.Receive(t, entered)
	answered := make(chan error, 1)
	go func() {
		_, err := get(t.Context(), c, "/")
		answered <- err
	}()
	select {
	case err := <-answered:
		assert.NoError(t, err)
	case <-time.After(10 * time.Second):
		assert.Fail(t, "the request waits")
	}
	close(leave)
	require.NoError(t, testserver.Receive(t, updated))
}
