// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func newServer(t *testing.T, handler http.Handler, edits ...func(*httptest.Server)) *dataplanetest.Server {
	t.Helper()
	server := dataplanetest.NewServer(handler, edits...)
	t.Cleanup(server.Close)
	return server
}

// httpClient returns a client with the credentials of a DataPlane and its own connections.
func httpClient(t *testing.T, dp *v1alpha1.DataPlane) *http.Client {
	t.Helper()
	config, err := helpers.RESTConfigFor(dp)
	require.NoError(t, err)
	transport, err := rest.TransportFor(config)
	require.NoError(t, err)
	client := &http.Client{Transport: transport}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func get(t *testing.T, dp *v1alpha1.DataPlane, path string) (status int, err error) {
	t.Helper()
	return getBy(t, httpClient(t, dp), dp, path)
}

func getBy(t *testing.T, client *http.Client, dp *v1alpha1.DataPlane, path string) (status int, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, dp.Spec.KubernetesCluster.Credentials.APIServerURL+path, nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func receive[T any](t *testing.T, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(time.Minute):
		require.FailNow(t, "nothing was received")
	}
	return value
}

// dataPlanesOf returns a client for DataPlanes stored in the server itself.
func dataPlanesOf(t *testing.T, dp *v1alpha1.DataPlane) openchoreotyped.DataPlaneInterface {
	t.Helper()
	config, err := helpers.RESTConfigFor(dp)
	require.NoError(t, err)
	client, err := openchoreoclient.NewForConfig(config)
	require.NoError(t, err)
	return client.OpenChoreoV1alpha1().DataPlanes("default")
}

func TestServerRecordsUsersAndRequests(t *testing.T) {
	server := newServer(t, nil)
	alice := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	bob := alice.DeepCopy()
	server.As("bob")(bob)
	stranger := dataplanetest.DataPlane("default", "prod") // of another authority
	stranger.Spec.KubernetesCluster.Credentials.APIServerURL = server.URL()
	stranger.Spec.KubernetesCluster.Credentials.CACert = alice.Spec.KubernetesCluster.Credentials.CACert

	for _, test := range []struct {
		dp   *v1alpha1.DataPlane
		path string
		want int
	}{
		{alice, "/readyz", http.StatusOK},
		{bob, "/api/v1/pods?limit=1", http.StatusNotFound},
		{stranger, "/healthz", http.StatusUnauthorized},
	} {
		status, err := get(t, test.dp, test.path)
		require.NoError(t, err)
		assert.Equal(t, test.want, status)
	}
	assert.Equal(t, []dataplanetest.Request{
		{User: "alice", Method: http.MethodGet, URI: "/readyz"},
		{User: "bob", Method: http.MethodGet, URI: "/api/v1/pods?limit=1"},
		{Method: http.MethodGet, URI: "/healthz"},
	}, server.Requests())
}

func TestServerRefusesOldClientsAtOnce(t *testing.T) {
	server := newServer(t, nil)
	dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	client := httpClient(t, dp)
	status, err := getBy(t, client, dp, "/readyz")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)

	server.RotateClients()
	status, err = getBy(t, client, dp, "/readyz")
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnauthorized, status, "even over the same connection")
	server.As("alice")(dp)
	status, err = get(t, dp, "/readyz")
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)
}

func TestServerWithAnotherAuthorityIsNotTrusted(t *testing.T) {
	server := newServer(t, nil)
	dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	server.RotateServer()
	_, err := get(t, dp, "/readyz")
	require.ErrorContains(t, err, "certificate")
	server.As("alice")(dp)
	status, err := get(t, dp, "/readyz")
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)
}

func TestServerMoves(t *testing.T) {
	server := newServer(t, nil)
	dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	old := server.URL()
	server.Move()
	require.NotEqual(t, old, server.URL())
	_, err := get(t, dp, "/readyz")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	server.As("alice")(dp)
	status, err := get(t, dp, "/readyz")
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)

	server.Close()
	server.Move()
	server.As("alice")(dp)
	_, err = get(t, dp, "/readyz")
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "a closed server doesn't start again")
}

func TestServerMovesAndClosesAmongRequests(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			server := dataplanetest.NewServer(dataplanetest.Hang(), func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			ctx, cancel := context.WithCancel(t.Context())
			var group wait.Group
			for range 10 {
				dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
				client := httpClient(t, dp)
				group.StartWithContext(ctx, func(ctx context.Context) {
					for ctx.Err() == nil {
						dp.Spec.KubernetesCluster.Credentials.APIServerURL = server.URL()
						_, _ = getBy(t, client, dp, "/version")
					}
				})
			}
			closed := make(chan struct{})
			go func() {
				seen := 0
				for range 20 {
					for len(server.Requests()) == seen {
						time.Sleep(time.Millisecond)
					}
					seen = len(server.Requests())
					server.Move()
				}
				server.Close()
				close(closed)
			}()
			select {
			case <-closed:
			case <-time.After(time.Minute):
				require.FailNow(t, "a server waits for a request that it doesn't end")
			}
			cancel()
			group.Wait()
		})
	}
}

// As of exec and port-forward.
func TestServerEndsUpgradedConnections(t *testing.T) {
	for name, end := range map[string]func(*dataplanetest.Server){
		"Close":          (*dataplanetest.Server).Close,
		"Move":           (*dataplanetest.Server).Move,
		"CutConnections": (*dataplanetest.Server).CutConnections,
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tests\r\nConnection: Upgrade\r\n\r\n")
				_, _ = io.Copy(io.Discard, conn)
			}), func(s *httptest.Server) { s.EnableHTTP2 = false })
			dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL()+"/exec", nil)
			require.NoError(t, err)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "tests")
			resp, err := httpClient(t, dp).Do(req)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
			ended := make(chan struct{}, 1)
			var group wait.Group
			defer group.Wait()
			defer resp.Body.Close()
			group.Start(func() {
				end(server)
				_, _ = io.Copy(io.Discard, resp.Body)
				ended <- struct{}{}
			})
			receive(t, ended)
		})
	}
}

func TestServerClosesAfterItsHandlers(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			var returned atomic.Bool
			arrived := make(chan struct{}, 1)
			server := newServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				<-r.Context().Done()
				time.Sleep(100 * time.Millisecond) // as a handler that writes to the log of its test
				returned.Store(true)
			}), func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
			var group wait.Group
			group.Start(func() { _, _ = get(t, dp, "/version") })
			receive(t, arrived)
			server.Close()
			assert.True(t, returned.Load())
			group.Wait()
		})
	}
}

func TestServerAnswersAsAPIServersDo(t *testing.T) {
	server := newServer(t, nil)
	dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	for code, is := range map[int]func(error) bool{
		http.StatusUnauthorized:       apierrors.IsUnauthorized,
		http.StatusForbidden:          apierrors.IsForbidden,
		http.StatusTooManyRequests:    apierrors.IsTooManyRequests,
		http.StatusServiceUnavailable: apierrors.IsServiceUnavailable,
	} {
		server.SetHandler(dataplanetest.Status(code))
		_, err := dataPlanesOf(t, dp).List(t.Context(), metav1.ListOptions{})
		assert.True(t, is(err), "%d: %v", code, err)
	}
	server.RotateClients()
	_, err := dataPlanesOf(t, dp).List(t.Context(), metav1.ListOptions{})
	assert.EqualError(t, err, "Unauthorized")
}

func TestServerHangsUntilItIsCutOff(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan string, 1)
			hang := dataplanetest.Hang()
			server := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- r.Proto
				hang.ServeHTTP(w, r)
			}), func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
			dataPlanes, result := dataPlanesOf(t, dp), make(chan error, 1)
			go func() {
				_, err := dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
				result <- err
			}()
			assert.Contains(t, receive(t, arrived), name)
			server.CutConnections()
			require.Error(t, receive(t, result))

			server.SetHandler(nil)
			status, err := get(t, dp, "/readyz")
			require.NoError(t, err, "new connections are accepted")
			assert.Equal(t, http.StatusOK, status)
		})
	}
}
