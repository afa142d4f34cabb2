// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// newEchoServer returns a server that upgrades connections, greets by the user's name, and
// sends back what it gets. A line "bye" ends the connection.
func newEchoServer(t testing.TB) *testserver.Server {
	t.Helper()
	return testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			testserver.WhoAmI(w, r)
			return
		}
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"+
			r.TLS.PeerCertificates[0].Subject.CommonName+"\n")
		for {
			line, err := buffered.ReadString('\n')
			if err != nil || line == "bye\n" {
				return
			}
			_, _ = io.WriteString(conn, line)
		}
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
}

// stream is an upgraded connection to an echo server.
type stream struct {
	t testing.TB
	io.ReadWriteCloser
	reader *bufio.Reader
}

func upgrade(ctx context.Context, t testing.TB, c *remote.Cluster) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Config().Host+"/api/v1/namespaces/x/pods/y/exec", nil)
	require.NoError(t, err)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	return c.HTTPClient().Do(req)
}

func newStream(ctx context.Context, t testing.TB, c *remote.Cluster, user string) *stream {
	t.Helper()
	resp, err := upgrade(ctx, t, c)
	require.NoError(t, err)
	body, ok := resp.Body.(io.ReadWriteCloser)
	require.True(t, ok, "%T", resp.Body)
	t.Cleanup(func() { _ = body.Close() })
	s := &stream{t, body, bufio.NewReader(body)}
	s.requireLine(user + "\n")
	return s
}

func (s *stream) requireLine(want string) {
	s.t.Helper()
	line, err := s.reader.ReadString('\n')
	require.NoError(s.t, err)
	assert.Equal(s.t, want, line)
}

func (s *stream) requireEcho() {
	s.t.Helper()
	_, err := io.WriteString(s, "hello\n")
	require.NoError(s.t, err)
	s.requireLine("hello\n")
}

func (s *stream) requireEnd(want error) {
	s.t.Helper()
	_, err := s.reader.ReadString('\n')
	require.ErrorIs(s.t, err, want)
	if want != io.EOF { //nolint:errorlint // this very value
		_, err = io.WriteString(s, "hello\n")
		require.ErrorIs(s.t, err, want)
	}
}

func TestUpgradedStreamsOutliveARotationByTheGrace(t *testing.T) {
	t.Parallel()
	const grace = time.Second
	server := newEchoServer(t)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{
		Grace: grace, StallTimeout: 50 * time.Millisecond, // doesn't apply to streams
	})
	old := newStream(t.Context(), t, c, "alice")
	began := time.Now()
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	old.requireEcho()
	fresh := newStream(t.Context(), t, c, "bob")
	old.requireEnd(remote.ErrRotated)
	assert.GreaterOrEqual(t, time.Since(began), grace)
	fresh.requireEcho()
}

func TestAnUpgradedStreamThatEndsFreesTheOldConnections(t *testing.T) {
	server := newEchoServer(t)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Hour})
	require.NoError(t, c.Probe(t.Context())) // leaves an idle connection
	s, other := newStream(t.Context(), t, c, "alice"), newStream(t.Context(), t, c, "alice")
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	_, err := io.WriteString(s, "bye\n")
	require.NoError(t, err)
	s.requireEnd(io.EOF)
	require.NoError(t, s.Close())
	require.NoError(t, other.Close())
	server.RequireNoConnections()
}

func TestCloseEndsUpgradedStreamsAtOnce(t *testing.T) {
	server := newEchoServer(t)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Hour})
	old := newStream(t.Context(), t, c, "alice")
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	fresh := newStream(t.Context(), t, c, "bob")
	c.Close()
	old.requireEnd(remote.ErrClosed)
	fresh.requireEnd(remote.ErrClosed)
}

func TestAnUpgradedStreamEndsWithTheContextOfItsRequest(t *testing.T) {
	server := newEchoServer(t)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	s := newStream(ctx, t, c, "alice")
	cancel()
	s.requireEnd(context.Canceled)
	require.NoError(t, s.Close())
}

// The server answers while the Cluster is closed, so either may come first.
func TestAConnectionThatIsUpgradedWhileTheClusterCloses(t *testing.T) {
	for range 20 {
		var c *remote.Cluster
		server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if !assert.NoError(t, err) {
				return
			}
			go c.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}, func(s *httptest.Server) { s.EnableHTTP2 = false })
		c = newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Hour})
		resp, err := upgrade(t.Context(), t, c)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		require.ErrorIs(t, err, remote.ErrClosed)
	}
}

// dialStream dials as a SPDY client does whose UpgradeTransport is that of the Cluster.
func dialStream(t testing.TB, c *remote.Cluster, server *testserver.Server) (net.Conn, error) {
	t.Helper()
	dial, err := utilnet.DialerFor(c.HTTPClient().Transport)
	require.NoError(t, err)
	require.NotNil(t, dial, "a client would dial in its own way")
	return dial(t.Context(), "tcp", strings.TrimPrefix(server.URL(), "https://"))
}

func TestStreamsOverUpgradeTransportHeedDialControl(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{DialControl: denyAddress})
	_, err := dialStream(t, c, server)
	require.ErrorContains(t, err, "address is not allowed")
	require.ErrorIs(t, c.Update(&v1alpha1.DataPlane{ObjectMeta: server.DataPlane("prod", "alice").ObjectMeta}), helpers.ErrNoCredentials)
	_, err = dialStream(t, c, server)
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
	c.Close()
	_, err = dialStream(t, c, server)
	require.ErrorIs(t, err, remote.ErrClosed)
	assert.Zero(t, server.Accepted())
}

func TestStreamsOverUpgradeTransportEndWithTheClusterOrAfterTheGrace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		grace time.Duration
		end   func(*remote.Cluster, *v1alpha1.DataPlane) error
		after time.Duration
	}{
		"Close":      {time.Hour, func(c *remote.Cluster, _ *v1alpha1.DataPlane) error { c.Close(); return nil }, 0},
		"a rotation": {time.Second, (*remote.Cluster).Update, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.New(t, testserver.WhoAmI)
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: test.grace})
			conn, err := dialStream(t, c, server)
			require.NoError(t, err)
			began := time.Now()
			require.NoError(t, test.end(c, server.DataPlane("prod", "bob")))
			_, err = conn.Read(make([]byte, 1))
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF)
			assert.GreaterOrEqual(t, time.Since(began), test.after)
			_ = conn.Close()
			server.RequireNoConnections()
		})
	}
}

func TestAStreamOverUpgradeTransportThatIsClosedFreesItsSession(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Hour})
	conn, err := dialStream(t, c, server)
	require.NoError(t, err)
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	require.NoError(t, conn.Close())
	server.RequireNoConnections()
}

// client-go's SPDY client doesn't close the connection of an upgrade that the server refuses.
func TestAStreamOverUpgradeTransportThatItsClientDropsIsClosed(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	func() {
		_, err := dialStream(t, c, server)
		require.NoError(t, err)
	}()
	require.Eventually(t, func() bool { return server.Accepted() == 1 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		runtime.GC()
		return server.Open() == 0
	}, 10*time.Second, 10*time.Millisecond)
}

func TestAStreamOverUpgradeTransportThatIsReadStaysOpen(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: -1})
	conn, err := dialStream(t, c, server)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1)) // the last use
		ended <- err
	}()
	require.Eventually(t, func() bool { return server.Accepted() == 1 }, 10*time.Second, time.Millisecond)
	for range 10 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // for a cleanup, which no one can wait for
	}
	assert.Equal(t, 1, server.Open())
	assert.Empty(t, ended)
	c.Close()
	require.Error(t, testserver.Receive(t, ended))
}

// Without a TLS configuration, client-go's SPDY client would send the token to any server.
func TestStreamsOverUpgradeTransportVerifyTheServer(t *testing.T) {
	t.Setenv("DISABLE_HTTP2", "1") // as for every Kubernetes client
	c := newCluster(t, dataplanetest.DataPlane("default", "prod"), remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
		return &rest.Config{Host: "https://192.0.2.1:6443", BearerToken: "token"}, nil // whose CA the system knows
	}})
	for _, when := range []string{"before Close", "after Close"} { // a client may have got its dialer before
		tlsConfig, err := utilnet.TLSClientConfig(c.HTTPClient().Transport)
		require.NoError(t, err)
		require.NotNil(t, tlsConfig, when)
		assert.False(t, tlsConfig.InsecureSkipVerify, when)
		c.Close()
	}
}
