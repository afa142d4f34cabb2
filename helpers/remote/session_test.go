// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
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

func TestHTTP2CanBeTurnedOff(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	dp := server.DataPlane("prod", "alice")
	proto, err := get(t.Context(), newCluster(t, dp, remote.Options{}), "/")
	require.NoError(t, err)
	assert.Equal(t, "HTTP/2.0", proto)
	t.Setenv("DISABLE_HTTP2", "1") // as for every Kubernetes client
	proto, err = get(t.Context(), newCluster(t, dp, remote.Options{}), "/")
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1", proto)
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

func TestDialTimeoutLimitsTheDialOfConfigFor(t *testing.T) {
	ended := make(chan struct{}, 1)
	options := editConfig(func(config *rest.Config) {
		config.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		}
	})
	options.DialTimeout = 50 * time.Millisecond
	_, err := get(t.Context(), newCluster(t, dataplanetest.DataPlane("default", "prod"), options), "/")
	assertClassified(t, remote.ReachabilityTimeout, err)
	select {
	case <-ended:
	default:
		assert.Fail(t, "net/http continues the dial after its request")
	}
}

func TestCloseWhileConnectionsAreMade(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	server := testserver.New(t, testserver.WhoAmI)
	for range 20 {
		c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: -1})
		result := make(chan error, 1)
		go func() {
			_, err := get(context.Background(), c, "/")
			result <- err
		}()
		c.Close()
		if err := testserver.Receive(t, result); err != nil {
			require.ErrorIs(t, err, remote.ErrClosed)
		}
	}
	server.RequireNoConnections()
	server.Close()
	testserver.RequireGoroutines(t, goroutines)
}

// The server sends its part of the handshake byte by byte.
func TestASlowHandshakeEndsInTime(t *testing.T) {
	t.Parallel()
	listener := listen(t, func(conn net.Conn) {
		defer conn.Close()
		for _, b := range append([]byte{22, 3, 3, 0x10, 0}, make([]byte, 4000)...) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + listener.Addr().String()
	_, err := get(t.Context(), newCluster(t, dp, remote.Options{}.WithTimes(0, 100*time.Millisecond)), "/")
	require.ErrorContains(t, err, "TLS handshake timeout")
	assertClassified(t, remote.ReachabilityTimeout, err)
}

// behindHole returns the DataPlane of a server behind a proxy, and a function by which its open connections lose
// what is sent from then on.
func behindHole(t *testing.T, server *testserver.Server) (dp *v1alpha1.DataPlane, loseOpen func()) {
	t.Helper()
	var accepted, lost atomic.Int64
	hole := listen(t, func(in net.Conn) {
		n := accepted.Add(1)
		pass := func(dst io.WriteCloser, src io.ReadCloser) {
			defer dst.Close()
			defer src.Close()
			buffer := make([]byte, 32<<10)
			for {
				read, err := src.Read(buffer)
				if err != nil {
					return
				}
				if n <= lost.Load() {
					continue
				}
				if _, err := dst.Write(buffer[:read]); err != nil {
					return
				}
			}
		}
		out, err := net.Dial("tcp", strings.TrimPrefix(server.URL(), "https://"))
		if !assert.NoError(t, err) {
			return
		}
		go pass(out, in)
		pass(in, out)
	})
	dp = server.DataPlane("prod", "alice")
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + hole.Addr().String()
	return dp, func() { lost.Store(accepted.Load()) }
}

func TestABlackHoledConnectionIsDetected(t *testing.T) {
	t.Parallel()
	dp, loseOpen := behindHole(t, testserver.New(t, hang))
	c := newCluster(t, dp, remote.Options{}.WithTimes(3*time.Second, 0)) // a busy machine may answer a ping late
	resp, err := open(t.Context(), c, "/api/v1/pods?watch=true&start=1")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 2, resp.ProtoMajor)
	loseOpen()
	result := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(resp.Body)
		result <- err
	}()
	err = testserver.Receive(t, result)
	require.Error(t, err, "the watch must not hang")
	assertClassified(t, remote.ReachabilityTimeout, err)
}

// Such as by a firewall that forgets it. Its server can be reached.
func TestAProbeWhoseConnectionIsLostTriesAnotherOne(t *testing.T) {
	t.Parallel()
	dp, loseOpen := behindHole(t, testserver.New(t, testserver.WhoAmI))
	c := newCluster(t, dp, remote.Options{}.WithTimes(3*time.Second, 0)) // a busy machine may answer a ping late
	require.NoError(t, c.Probe(t.Context()))
	loseOpen()
	require.NoError(t, c.Probe(t.Context()))
}

func TestTheOldKeySignsNothingAfterUpdate(t *testing.T) {
	// The server holds handshakes up until the credentials are rotated.
	hold := make(chan struct{})
	reached := make(chan struct{}, 1)
	server := testserver.New(t, streams, func(s *httptest.Server) {
		usual := s.TLS.GetConfigForClient
		s.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			select {
			case reached <- struct{}{}:
			default:
			}
			<-hold
			return usual(hello)
		}
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	user := make(chan string, 1)
	go func() {
		body, err := get(context.Background(), c, "/")
		assert.NoError(t, err)
		user <- body
	}()
	testserver.Receive(t, reached)
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	close(hold)
	assert.Equal(t, "bob", testserver.Receive(t, user), "a request that was not sent takes the new credentials")
}

func TestErrorsAreOneLineThatNamesTheDataPlaneFirstAndOnce(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	bad := dataplanetest.DataPlane("default", "prod")
	bad.Spec.KubernetesCluster.Credentials.ClientCert, bad.Spec.KubernetesCluster.Credentials.ClientKey = "?", ""
	f := newFixture(t, remote.Options{})
	f.set(bad)
	_, newErr := remote.NewCluster(bad, remote.Options{})
	_, cacheErr := f.Get(prod)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	updateErr := c.Update(bad)
	refusedErr := c.Probe(t.Context())
	require.NoError(t, c.Update(server.DataPlane("prod", "alice")))
	server.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "[+]ping ok\n[-]etcd failed: reason\x1b[31m\u2028withheld\x00\n")
	}))
	notReadyErr := c.Probe(t.Context())
	server.SetHandler(dataplanetest.Hang())
	stalled, err := remote.NewCluster(server.DataPlane("prod", "alice"), remote.Options{StallTimeout: 100 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(stalled.Close)
	stalledErr := stalled.Probe(t.Context())
	c.Close()
	for name, err := range map[string]error{
		"NewCluster": newErr, "Get": cacheErr, "Update": updateErr, "Probe of bad credentials": refusedErr,
		"Probe, not ready": notReadyErr, "Probe, stalled": stalledErr, "Probe, closed": c.Probe(t.Context()),
	} {
		const dataPlane = "data plane default/prod: "
		require.Error(t, err, name)
		assert.True(t, strings.HasPrefix(err.Error(), dataPlane), "%s: %v", name, err)
		assert.Equal(t, 1, strings.Count(err.Error(), dataPlane), "%s: %v", name, err)
		assert.NotRegexp(t, `[^[:print:]]`, err.Error(), name)
	}
	assert.ErrorContains(t, newErr, "clientCert: ")
	assert.ErrorContains(t, newErr, "; spec.kubernetesCluster.credentials.clientKey: ")
	assert.ErrorContains(t, notReadyErr, "the API server answers 500: [+]ping ok; [-]etcd failed: reason; [31m; withheld")
}
