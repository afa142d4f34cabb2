// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// resolve gives every name these addresses until the test ends.
func resolve(t *testing.T, addresses ...string) {
	t.Helper()
	usual := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = usual })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			length := make([]byte, 2)
			if _, err := io.ReadFull(server, length); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(length))
			if _, err := io.ReadFull(server, query); err != nil {
				return
			}
			end := 12 // of the question: the name, its type and its class
			for query[end] != 0 {
				end += 1 + int(query[end])
			}
			end += 5
			answer := append([]byte{0, 0, query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
			if query[end-3] == 1 { // IPv4
				answer[9] = byte(len(addresses))
				for _, address := range addresses {
					answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
					answer = append(answer, netip.MustParseAddr(address).AsSlice()...)
				}
			}
			binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
			_, _ = server.Write(answer)
		}()
		return client, nil
	}}
}

func TestProbeReachesTheThirdAddressOfAName(t *testing.T) {
	resolve(t, "127.0.0.2", "127.0.0.3", "127.0.0.1")
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.APIServerURL = strings.Replace(creds.APIServerURL, "127.0.0.1", "api.example.org", 1)
	options := editConfig(func(config *rest.Config) { config.ServerName = "kubernetes.default.svc" })
	options.DialControl = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		if strings.HasPrefix(address, "127.0.0.1:") {
			return nil
		}
		<-ctx.Done() // as long as an address that doesn't answer would take
		return ctx.Err()
	}
	require.NoError(t, newCluster(t, dp, options).Probe(t.Context()))
}

func TestProbeTakesAnyDialTimeout(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	for _, limit := range []time.Duration{-1, time.Minute, math.MaxInt64} {
		require.NoError(t, newCluster(t, server.DataPlane("prod", "alice"), remote.Options{DialTimeout: limit}).Probe(t.Context()))
	}
}

// socksProxy answers requests for connections with a code, and connects if that is 0.
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

func TestASOCKSProxyIsUsedAndItsRefusalIsTold(t *testing.T) {
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

func TestOnlyAProbeIsTriedAgainWhenItsReusedConnectionIsCut(t *testing.T) {
	for name, request := range map[string]struct {
		do   func(*remote.Cluster) error
		want remote.Reachability
		sent int32 // after the first request
	}{
		"Probe": {
			do: func(c *remote.Cluster) error { return c.Probe(t.Context()) }, want: remote.ReachabilityReachable, sent: 2,
		},
		"another request": {
			do: func(c *remote.Cluster) error { _, err := get(t.Context(), c, "/"); return err }, want: remote.ReachabilityRefused, sent: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var server *testserver.Server
			var sent atomic.Int32
			server = testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
				if sent.Add(1) == 2 {
					go server.CutConnections()
					<-r.Context().Done()
				}
				testserver.WhoAmI(w, r)
			})
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
			require.NoError(t, c.Probe(t.Context()))
			assertClassified(t, request.want, request.do(c))
			assert.Equal(t, 1+request.sent, sent.Load())
		})
	}
}

func TestAProbeWhoseNewConnectionIsCutIsNotTriedAgain(t *testing.T) {
	var accepted atomic.Int32
	cutting := listen(t, func(conn net.Conn) {
		accepted.Add(1)
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	})
	dp := dataplanetest.DataPlane("default", "prod")
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + cutting.Addr().String()
	assertClassified(t, remote.ReachabilityRefused, newCluster(t, dp, remote.Options{}).Probe(t.Context()))
	assert.EqualValues(t, 1, accepted.Load())
}
