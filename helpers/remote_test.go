// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

var discardLog = log.New(io.Discard, "", 0)

func TestRemoteActsAsTheUserInTheSpec(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	r := newRemote(t, server.dataPlane("prod", "alice"))
	assert.Equal(t, "default/prod", r.Key().String())
	user, err := get(t, r, "/")
	require.NoError(t, err)
	assert.Equal(t, "alice", user)
}

func TestRemoteStartsNothingBeforeItIsUsed(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	dp := server.dataPlane("prod", "alice")
	before := runtime.NumGoroutine()
	remotes := make([]*Remote, 100)
	for i := range remotes {
		remotes[i] = newRemote(t, dp)
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	assert.Zero(t, server.accepted())
	for _, r := range remotes {
		r.Close()
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
}

func TestRemoteServesEveryKindOfClient(t *testing.T) {
	server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/version":
			_, _ = io.WriteString(w, `{"gitVersion":"v1.36.3"}`)
		case strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList"):
			_, _ = io.WriteString(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[]}`)
		default:
			_, _ = io.WriteString(w, `{"kind":"ConfigMapList","apiVersion":"v1","items":[]}`)
		}
	})
	r := newRemote(t, server.dataPlane("prod", "alice"))
	configMaps := resource("configmaps")

	typed, err := kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
	require.NoError(t, err)
	_, err = typed.CoreV1().ConfigMaps("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	untyped, err := dynamic.NewForConfigAndClient(r.Config(), r.HTTPClient())
	require.NoError(t, err)
	_, err = untyped.Resource(configMaps).Namespace("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	meta, err := metadata.NewForConfigAndClient(r.Config(), r.HTTPClient())
	require.NoError(t, err)
	_, err = meta.Resource(configMaps).Namespace("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	disco, err := discovery.NewDiscoveryClientForConfigAndClient(r.Config(), r.HTTPClient())
	require.NoError(t, err)
	version, err := disco.ServerVersion()
	require.NoError(t, err)
	assert.Equal(t, "v1.36.3", version.GitVersion)

	assert.Equal(t, 1, server.accepted(), "all of them share one connection")
	r.Close()
	server.requireNoConnections()
}

func TestRemoteConfigIsCompleteAndTheCallers(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	r := newRemote(t, server.dataPlane("prod", "alice"), WithUserAgent("tool/v1"))
	config := r.Config()
	assert.Equal(t, "tool/v1", config.UserAgent)
	assert.Zero(t, config.Timeout)
	assert.Same(t, config.RateLimiter, r.Config().RateLimiter, "one limit for all clients")
	tlsConfig, err := rest.TLSConfigFor(config) // as SPDY and WebSocket clients do
	require.NoError(t, err)
	require.NotNil(t, tlsConfig.GetClientCertificate)

	clear(config.KeyData)
	config.Host = "https://elsewhere"
	assert.NotEqual(t, config.KeyData, r.Config().KeyData)
	assert.Equal(t, server.URL, r.Config().Host)
	r.HTTPClient().Timeout = time.Nanosecond
	assert.Zero(t, r.HTTPClient().Timeout)

	assert.Nil(t, newRemote(t, server.dataPlane("prod", "alice"), WithRateLimit(-1, 0)).Config().RateLimiter)
}

func TestRemotesOfTheSameCredentialsShareNoConnection(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	dp := server.dataPlane("a", "alice")
	a, b := newRemote(t, dp), newRemote(t, dp)
	for _, r := range []*Remote{a, b} {
		_, err := get(t, r, "/")
		require.NoError(t, err)
	}
	assert.Equal(t, 2, server.open())
	a.Close()
	require.Eventually(t, func() bool { return server.open() == 1 }, 10*time.Second, time.Millisecond)
	_, err := get(t, b, "/")
	require.NoError(t, err)
	assert.Equal(t, 2, server.accepted(), "b has kept its connection")
}

func TestCloseRefusesNewRequests(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	r := newRemote(t, server.dataPlane("prod", "alice"))
	_, err := get(t, r, "/")
	require.NoError(t, err)
	r.Close()
	r.Close()
	mustReceive(t, r.Done())
	server.requireNoConnections()
	_, err = get(t, r, "/")
	require.ErrorIs(t, err, ErrRemoteClosed)
	assertClassified(t, Closed, err)
	assert.Contains(t, err.Error(), "data plane default/prod")
	assertClassified(t, Closed, r.Probe(t.Context()))
}

func TestCloseLetsRequestsEndWithinTheGrace(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	server := newAPIServer(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-answer
		_, _ = io.WriteString(w, "done")
	})
	r := newRemote(t, server.dataPlane("prod", "alice"), WithCloseGrace(time.Minute))
	result := make(chan error, 1)
	go func() {
		body, err := get(t, r, "/")
		if err == nil && body != "done" {
			err = errors.New(body)
		}
		result <- err
	}()
	mustReceive(t, arrived)
	closed := make(chan struct{})
	go func() { r.Close(); close(closed) }()
	mustReceive(t, r.Done())
	_, err := get(t, r, "/")
	require.ErrorIs(t, err, ErrRemoteClosed)
	close(answer)
	require.NoError(t, mustReceive(t, result))
	mustReceive(t, closed)
	server.requireNoConnections()
}

func TestCloseCutsWhatOutlastsTheGrace(t *testing.T) {
	for name, test := range map[string]struct {
		path  string
		grace time.Duration
		start bool // of the response, before the server hangs
	}{
		"no answer":                              {path: "/slow", grace: 20 * time.Millisecond},
		"half an answer":                         {path: "/slow", grace: 20 * time.Millisecond, start: true},
		"no grace":                               {path: "/slow"},
		"a watch, without waiting for the grace": {path: "/api/v1/pods?watch=true", grace: time.Hour, start: true},
		"a followed log":                         {path: "/api/v1/namespaces/x/pods/y/log?follow=1", grace: time.Hour, start: true},
	} {
		t.Run(name, func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			arrived := make(chan struct{})
			server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) {
				if test.start {
					_, _ = io.WriteString(w, "half")
					w.(http.Flusher).Flush()
				}
				close(arrived)
				<-r.Context().Done()
			})
			r := newRemote(t, server.dataPlane("prod", "alice"), WithCloseGrace(test.grace))
			result := make(chan error, 1)
			go func() {
				_, err := get(t, r, test.path)
				result <- err
			}()
			mustReceive(t, arrived)
			r.Close()
			server.requireNoConnections()
			err := mustReceive(t, result)
			require.ErrorIs(t, err, ErrRemoteClosed, "and not: context canceled")
			server.Close()
			requireGoroutines(t, goroutines)
		})
	}
}

func TestRequestTimeoutSparesWhatLasts(t *testing.T) {
	release := make(chan struct{})
	server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("body") != "" {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	const limit = 50 * time.Millisecond
	r := newRemote(t, server.dataPlane("prod", "alice"), WithRequestTimeout(limit))
	for _, path := range []string{"/headers-never-come", "/body-stalls?body=1", "/not-a-watch?watch=false"} {
		_, err := get(t, r, path)
		require.ErrorIs(t, err, context.DeadlineExceeded, path)
		assertClassified(t, Timeout, err)
		assert.Contains(t, err.Error(), "data plane default/prod: request took longer than 50ms")
	}

	results := make(chan error, 10)
	lasting := []string{
		"/api/v1/pods?watch=true", "/api/v1/pods?limit=1&watch=1",
		"/api/v1/namespaces/x/pods/y/log", "/api/v1/namespaces/x/pods/y/proxy/path",
	}
	for _, path := range lasting {
		go func() {
			_, err := get(t, r, path)
			results <- err
		}()
	}
	select {
	case err := <-results:
		t.Fatalf("ended before it was released: %v", err)
	case <-time.After(4 * limit):
	}
	close(release)
	for range lasting {
		require.NoError(t, mustReceive(t, results))
	}

	assert.Zero(t, newRemote(t, server.dataPlane("prod", "alice"), WithRequestTimeout(0)).transport.timeout)
}

func TestWhatLasts(t *testing.T) {
	for want, paths := range map[bool][]string{
		true: {
			"/api/v1/namespaces/x/pods/y/exec",
			"/api/v1/namespaces/x/pods/y/attach",
			"/api/v1/namespaces/x/pods/y/portforward",
			"/api/v1/namespaces/x/pods/y/log",
			"/api/v1/namespaces/x/services/y/proxy/a/b",
			"/api/v1/nodes/y/proxy/metrics",
			"/api/v1/pods?watch=1",
			"/apis/apps/v1/deployments?watch=true&limit=5",
		},
		false: {
			"/api/v1/pods?watch=false",
			"/api/v1/namespaces/log/pods",
			"/api/v1/namespaces/proxy",
			"/api/v1/namespaces/x/configmaps/proxy",
			"/apis/apps/v1/namespaces/x/deployments/exec",
			"/apis/apps/v1/namespaces/x/deployments/y/status",
			"/apis/apps/v1/namespaces/x/deployments/log/scale",
			"/healthz/log",
			"/api",
			"/proxy/api/v1/log",
		},
	} {
		for _, path := range paths {
			for _, base := range []string{"", "/proxy", "/k8s/clusters/exec"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://host"+base+path, nil)
				require.NoError(t, err)
				assert.Equal(t, want, lasts(req, base), base+path)
			}
		}
	}
}

func TestUserAgent(t *testing.T) {
	server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.UserAgent()) })
	dp := server.dataPlane("prod", "alice")
	agent, err := get(t, newRemote(t, dp), "/")
	require.NoError(t, err)
	assert.Equal(t, rest.DefaultKubernetesUserAgent(), agent)
	agent, err = get(t, newRemote(t, dp, WithUserAgent("tool/v1")), "/")
	require.NoError(t, err)
	assert.Equal(t, "tool/v1", agent)
}

func TestHTTP2CanBeTurnedOff(t *testing.T) {
	server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	dp := server.dataPlane("prod", "alice")
	proto, err := get(t, newRemote(t, dp), "/")
	require.NoError(t, err)
	assert.Equal(t, "HTTP/2.0", proto)
	t.Setenv("DISABLE_HTTP2", "1") // as of every Kubernetes client
	proto, err = get(t, newRemote(t, dp), "/")
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1", proto)
}

// A server that no longer accepts a certificate: the connection that is open goes on, and
// a rotated certificate is accepted.
func TestRevokedCertificate(t *testing.T) {
	var revoked atomic.Value
	revoked.Store("")
	server := newAPIServer(t, whoAmI, func(s *httptest.Server) {
		s.TLS.VerifyPeerCertificate = func(_ [][]byte, chains [][]*x509.Certificate) error {
			if chains[0][0].Subject.CommonName == revoked.Load() {
				return errors.New("revoked")
			}
			return nil
		}
	})
	dp := server.dataPlane("prod", "alice")
	r := newRemote(t, dp)
	require.NoError(t, r.Probe(t.Context()))
	revoked.Store("alice")
	require.NoError(t, r.Probe(t.Context()), "over the connection that is open")
	err := newRemote(t, dp).Probe(t.Context())
	assert.Contains(t, []Reachability{TLSFailure, Refused}, Classify(err), "%v", err)
	require.NoError(t, newRemote(t, server.dataPlane("prod", "bob")).Probe(t.Context()))
}

// A server that sends its part of the handshake byte by byte.
func TestSlowHandshakeEndsInTime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for _, b := range append([]byte{22, 3, 3, 0x10, 0}, make([]byte, 4000)...) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	dp := newDataPlane(t)
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + listener.Addr().String()
	r := newRemote(t, dp, func(o *options) { o.handshakeTimeout = 100 * time.Millisecond })
	_, err = get(t, r, "/")
	require.ErrorContains(t, err, "TLS handshake timeout")
	assertClassified(t, Timeout, err)
	assert.Equal(t, 10*time.Second, newRemote(t, dp).transport.transport.TLSHandshakeTimeout)
}

func TestCloseEndsUpgradedStreamsAtOnce(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-answer
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
	r := newRemote(t, server.dataPlane("prod", "alice"), WithCloseGrace(time.Hour))
	go func() { _, _ = get(t, r, "/slow") }()
	mustReceive(t, arrived)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/exec", nil)
	require.NoError(t, err)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := r.HTTPClient().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	closed := make(chan struct{})
	go func() { r.Close(); close(closed) }()
	_, err = resp.Body.Read(make([]byte, 1))
	require.ErrorIs(t, err, ErrRemoteClosed)
	_, err = resp.Body.(io.Writer).Write([]byte("x"))
	require.ErrorIs(t, err, ErrRemoteClosed)
	close(answer)
	mustReceive(t, closed)
}

func TestTheCallersContextStaysTheCallers(t *testing.T) {
	server := newAPIServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := newRemote(t, server.dataPlane("prod", "alice"))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, _, err := r.get(ctx, "/")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrRemoteClosed)
	assertClassified(t, Unknown, err)
}

func TestRedirectsAreRefused(t *testing.T) {
	elsewhere := newAPIServer(t, whoAmI)
	for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		for _, target := range []string{elsewhere.URL, "http://" + elsewhere.Listener.Addr().String()} {
			server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, target+"/login?token=hunter2", code)
			})
			r := newRemote(t, server.dataPlane("prod", "alice"))
			err := r.Probe(t.Context())
			assertClassified(t, Redirected, err)
			assert.NotContains(t, err.Error(), "hunter2", "what the server wants shown is not")
			client, err := kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
			require.NoError(t, err)
			_, err = client.CoreV1().ConfigMaps("x").Create(t.Context(), configMap("y"), metav1.CreateOptions{})
			assertClassified(t, Redirected, err)
		}
	}
	assert.Zero(t, elsewhere.accepted())
}

func TestUpgradedConnectionsWorkAndEndWithTheRemote(t *testing.T) {
	server := newAPIServer(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
	r := newRemote(t, server.dataPlane("prod", "alice"), WithRequestTimeout(50*time.Millisecond))

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/api/v1/namespaces/x/pods/y/exec", nil)
	require.NoError(t, err)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := r.HTTPClient().Do(req)
	require.NoError(t, err)
	stream, ok := resp.Body.(io.ReadWriteCloser)
	require.True(t, ok, "%T", resp.Body)
	defer stream.Close()
	reader := bufio.NewReader(stream)
	for range 3 {
		time.Sleep(30 * time.Millisecond) // beyond the timeout of other requests, in all
		_, err = io.WriteString(stream, "hello\n")
		require.NoError(t, err)
		line, err := reader.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "hello\n", line)
	}
	r.Close()
	_, err = reader.ReadString('\n')
	require.Error(t, err)
}

func TestProbe(t *testing.T) {
	answer := func(readyz, healthz int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/prefix/readyz":
				w.WriteHeader(readyz)
			case "/prefix/healthz":
				w.WriteHeader(healthz)
			default:
				w.WriteHeader(http.StatusTeapot)
			}
			_, _ = io.WriteString(w, "[-]etcd failed: reason withheld")
		}
	}
	for name, test := range map[string]struct {
		readyz, healthz int
		want            Reachability
	}{
		"ready":                       {readyz: 200, healthz: 500, want: Reachable},
		"forbidden":                   {readyz: 403, want: Reachable},
		"unauthorized":                {readyz: 401, want: Unauthorized},
		"not ready":                   {readyz: 500, want: NotReady},
		"old server, healthy":         {readyz: 404, healthz: 200, want: Reachable},
		"old server, not healthy":     {readyz: 404, healthz: 500, want: NotReady},
		"no API server":               {readyz: 404, healthz: 404, want: NotReady},
		"overloaded":                  {readyz: 503, want: NotReady},
		"something in between denies": {readyz: 407, want: NotReady},
	} {
		t.Run(name, func(t *testing.T) {
			server := newAPIServer(t, answer(test.readyz, test.healthz))
			dp := server.dataPlane("prod", "alice")
			dp.Spec.KubernetesCluster.Credentials.APIServerURL += "/prefix/"
			err := newRemote(t, dp).Probe(t.Context())
			assertClassified(t, test.want, err)
			if test.want == NotReady {
				assert.ErrorContains(t, err, "etcd failed")
				assert.ErrorContains(t, err, "data plane default/prod")
			}
		})
	}
}

func TestProbeTellsWhatIsInTheWay(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	dead := newAPIServer(t, whoAmI)
	dead.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = mute.Close() }) // accepts in the kernel, and never says a word
	reset, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = reset.Close() })
	go func() {
		for {
			conn, err := reset.Accept()
			if err != nil {
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	}()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	plain.Config.ErrorLog = discardLog
	key := newECDSAKey(t)

	for name, test := range map[string]struct {
		server, ca string
		opts       []Option
		cert       *x509.Certificate
		want, or   Reachability
		says       string
	}{
		"wrong CA":       {ca: encode(pemCertificate(newAuthority(t).cert)), want: TLSFailure, says: "unknown authority"},
		"refused":        {server: dead.URL, want: Refused},
		"no such name":   {server: "https://no-such-host.invalid", want: DNSFailure, or: Timeout},
		"no TLS at all":  {server: strings.Replace(plain.URL, "http:", "https:", 1), want: TLSFailure},
		"no handshake":   {server: "https://" + mute.Addr().String(), want: Timeout},
		"reset":          {server: "https://" + reset.Addr().String(), want: Refused},
		"another name":   {opts: []Option{WithServerName("other.example.org")}, want: TLSFailure, says: "other.example.org"},
		"policy":         {opts: []Option{WithDialControl(denyAddress)}, want: Unknown, says: "address is not allowed"},
		"proxy is gone":  {opts: []Option{WithProxy(http.ProxyURL(mustParseURL(t, dead.URL)))}, want: Refused},
		"client expired": {cert: server.clients.issue(key, expired), want: CertificateExpired, says: "client certificate expired at"},
		// In TLS 1.3, the server says so after the handshake, if it comes to that.
		"unknown to server": {cert: newAuthority(t).issue(key), want: TLSFailure, or: Refused},
		"all is well":       {want: Reachable},
		"name as told":      {opts: []Option{WithServerName("example.com")}, want: Reachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert := test.cert
			if cert == nil {
				cert = server.clients.issue(key)
			}
			dp := server.dataPlaneWith("prod", cert, key)
			creds := &dp.Spec.KubernetesCluster.Credentials
			if test.server != "" {
				creds.APIServerURL = test.server
			}
			if test.ca != "" {
				creds.CACert = test.ca
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := newRemote(t, dp, test.opts...).Probe(ctx)
			if Classify(err) != test.or || test.or == "" {
				assertClassified(t, test.want, err)
			}
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
			}
			if err != nil {
				assert.NotContains(t, err.Error(), creds.ClientKey[:40])
			}
		})
	}
}

func denyAddress(context.Context, string, string, syscall.RawConn) error {
	return errors.New("address is not allowed")
}

func TestServerCertificateExpired(t *testing.T) {
	a := newAuthority(t)
	key := newECDSAKey(t)
	server := newAPIServer(t, whoAmI, func(s *httptest.Server) {
		certificate := a.issue(key, expired, func(c *x509.Certificate) {
			c.ExtKeyUsage, c.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []net.IP{net.IPv4(127, 0, 0, 1)}
		})
		s.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}
	})
	dp := server.dataPlane("prod", "alice")
	dp.Spec.KubernetesCluster.Credentials.CACert = encode(pemCertificate(a.cert))
	assertClassified(t, CertificateExpired, newRemote(t, dp).Probe(t.Context()))
}

func TestBlackHoledConnectionIsFoundOut(t *testing.T) {
	server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	hole := newBlackHole(t, server.Listener.Addr().String())
	dp := server.dataPlane("prod", "alice")
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + hole.Addr().String()
	r := newRemote(t, dp, func(o *options) { o.pingAfter, o.pingTimeout = 100*time.Millisecond, 100*time.Millisecond })

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.config.Host+"/api/v1/pods?watch=true", nil)
	require.NoError(t, err)
	resp, err := r.HTTPClient().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 2, resp.ProtoMajor)
	hole.swallow.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(resp.Body)
		result <- err
	}()
	err = mustReceive(t, result)
	require.Error(t, err, "the watch must not hang")
	assertClassified(t, Timeout, err)
}

// blackHole passes bytes on until it swallows them.
type blackHole struct {
	net.Listener
	swallow atomic.Bool
}

func newBlackHole(t *testing.T, target string) *blackHole {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	hole := &blackHole{Listener: listener}
	pass := func(dst io.WriteCloser, src io.ReadCloser) {
		defer dst.Close()
		defer src.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := src.Read(buffer)
			if err != nil {
				return
			}
			if hole.swallow.Load() {
				continue
			}
			if _, err := dst.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			go pass(out, in)
			go pass(in, out)
		}
	}()
	return hole
}

func TestRemoteShowsNoSecret(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	dp := server.dataPlane("prod", "alice")
	r := newRemote(t, dp)
	key := string(decode(dp.Spec.KubernetesCluster.Credentials.ClientKey))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		assert.NotContains(t, fmt.Sprintf(verb, r), key[60:100])
		assert.Contains(t, fmt.Sprintf(verb, r), "default/prod")
	}
}

func TestNewRemoteRefusesWhatRESTConfigForRefuses(t *testing.T) {
	_, err := NewRemote(nil)
	require.ErrorIs(t, err, ErrNoCredentials)
	dp := newDataPlane(t)
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "http://host"
	_, err = NewRemote(dp)
	require.ErrorIs(t, err, ErrInvalidCredentials)
}

func TestCloseIdleConnectionsReachesTheTransport(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	r := newRemote(t, server.dataPlane("prod", "alice"))
	_, err := get(t, r, "/")
	require.NoError(t, err)
	// Again and again, since a stream stays busy for a moment after its end.
	require.Eventually(t, func() bool {
		utilnet.CloseIdleConnectionsFor(r.HTTPClient().Transport)
		return server.open() == 0
	}, 10*time.Second, 10*time.Millisecond)
	_, err = get(t, r, "/")
	require.NoError(t, err, "it is not Close")
}

func TestClassify(t *testing.T) {
	resource := schema.GroupResource{Resource: "configmaps"}
	for want, errs := range map[Reachability][]error{
		Reachable: {
			nil, apierrors.NewNotFound(resource, "x"), apierrors.NewConflict(resource, "x", nil),
			apierrors.NewTooManyRequests("slow down", 1), apierrors.NewBadRequest("bad"),
		},
		Unauthorized: {apierrors.NewUnauthorized("who")},
		Forbidden:    {apierrors.NewForbidden(resource, "x", nil)},
		NotReady:     {apierrors.NewServiceUnavailable("starting"), apierrors.NewInternalError(errors.New("oops"))},
		Timeout: {
			context.DeadlineExceeded, apierrors.NewTimeoutError("slow", 1), &requestTimeout{}, os.ErrDeadlineExceeded,
		},
		Closed:     {ErrRemoteClosed},
		Redirected: {&reachabilityError{Redirected, errors.New("x")}, &apierrors.StatusError{ErrStatus: metav1.Status{Code: 302}}},
		Refused: {
			errors.New("http2: server sent GOAWAY and closed the connection"),
			errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer"), syscall.ECONNREFUSED, syscall.ECONNRESET, io.ErrUnexpectedEOF, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH},
		},
		DNSFailure: {&net.DNSError{IsTimeout: true}},
		TLSFailure: {x509.HostnameError{}, x509.UnknownAuthorityError{}, x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}},
		Unknown:    {context.Canceled, errors.New("else")},
	} {
		for _, err := range errs {
			assertClassified(t, want, err)
			if err != nil {
				assertClassified(t, want, fmt.Errorf("wrapped: %w", &url.Error{Op: "Get", Err: err}))
			}
		}
	}
}

func resource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: name}
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func mustParseURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u
}
