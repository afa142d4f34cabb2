// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

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
		Grace: grace, StallTimeout: 50 * time.Millisecond, // which is for others
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
	require.NoError(t, c.Probe(t.Context())) // a connection that is idle from then on
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

// The server answers as the cluster is closed, so that the one may come before the other.
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

func TestRedirectsAreRefused(t *testing.T) {
	elsewhere := testserver.New(t, testserver.WhoAmI)
	for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		for _, target := range []string{elsewhere.URL(), strings.Replace(elsewhere.URL(), "https:", "http:", 1)} {
			server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, target+"/login?token=hunter2", code)
			})
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
			client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
			require.NoError(t, err)
			configMaps := client.CoreV1().ConfigMaps("x")
			for _, request := range []func(ctx context.Context) error{
				c.Probe,
				func(ctx context.Context) error {
					_, err := configMaps.Create(ctx, &corev1.ConfigMap{}, metav1.CreateOptions{})
					return err
				},
				func(ctx context.Context) error {
					_, err := configMaps.Watch(ctx, metav1.ListOptions{})
					return err
				},
				func(ctx context.Context) error {
					_, err := client.CoreV1().Pods("x").GetLogs("y", &corev1.PodLogOptions{Follow: true}).Stream(ctx)
					return err
				},
			} {
				err := request(t.Context())
				assertClassified(t, remote.ReachabilityRedirected, err)
				assert.NotContains(t, err.Error(), "hunter2", "what the server wants shown is not")
			}
		}
	}
	assert.Zero(t, elsewhere.Accepted())
}

func TestAProxiedServiceMayRedirectItsClient(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/login", http.StatusFound)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	resp, err := open(t.Context(), c, "/api/v1/namespaces/x/services/y/proxy/")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusFound, resp.StatusCode)
	assert.True(t, strings.HasSuffix(resp.Header.Get("Location"), "/login"))
}
