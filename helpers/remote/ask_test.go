// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// tokens is a Secret from which ConfigFor reads a token.
type tokens struct {
	mu     sync.Mutex
	token  string
	err    error
	asked  int
	inside atomic.Int32
	twice  atomic.Bool
}

func (s *tokens) set(token string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.err = token, err
}

func (s *tokens) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *tokens) configFor(dp *v1alpha1.DataPlane) (*rest.Config, error) {
	if s.inside.Add(1) > 1 {
		s.twice.Store(true)
	}
	defer s.inside.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.err != nil {
		return nil, s.err
	}
	config, err := helpers.RESTConfigFor(dp)
	if err == nil {
		config.BearerToken = s.token
	}
	return config, err
}

// accepts is an API server that accepts one token at a time.
type accepts struct {
	token    atomic.Value
	requests atomic.Int32
}

func (s *accepts) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if r.Header.Get("Authorization") != "Bearer "+s.token.Load().(string) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	testserver.WhoAmI(w, r)
}

func TestCredentialsFromElsewhere(t *testing.T) {
	newPlane := func(t *testing.T, every, afterRefusal time.Duration) (*remote.Cluster, *tokens, *accepts, *atomic.Int32) {
		t.Helper()
		secret, api, rotations := &tokens{token: "old"}, &accepts{}, &atomic.Int32{}
		api.token.Store("old")
		server := testserver.New(t, api.serve)
		c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{
			ConfigFor: secret.configFor,
			OnRotate:  func(types.NamespacedName) { rotations.Add(1) },
		}.WithAsking(every, afterRefusal))
		return c, secret, api, rotations
	}

	t.Run("a read that is refused is sent again with the new ones", func(t *testing.T) {
		c, secret, api, rotations := newPlane(t, never, time.Nanosecond)
		_, err := get(t.Context(), c, "/")
		require.NoError(t, err)
		secret.set("new", nil)
		api.token.Store("new")
		user, err := get(t.Context(), c, "/")
		require.NoError(t, err)
		assert.Equal(t, "alice", user)
		assert.Equal(t, int32(3), api.requests.Load())
		assert.Equal(t, int32(1), rotations.Load())
	})

	t.Run("a write that is refused is not sent again, and the next succeeds", func(t *testing.T) {
		c, secret, api, _ := newPlane(t, never, time.Nanosecond)
		secret.set("new", nil)
		api.token.Store("new")
		for _, want := range []string{"", "alice"} {
			user, err := send(c, http.MethodPost, "/", strings.NewReader("text"))
			require.NoError(t, err)
			assert.Equal(t, want, user)
			assert.Equal(t, int32(1), api.requests.Swap(0))
		}
	})

	t.Run("the same ones are not sent again", func(t *testing.T) {
		c, secret, api, rotations := newPlane(t, never, time.Nanosecond)
		api.token.Store("new")
		asked := secret.count()
		_, err := get(t.Context(), c, "/")
		require.ErrorContains(t, err, "401")
		assert.Equal(t, int32(1), api.requests.Load())
		assert.Equal(t, asked+1, secret.count())
		assert.Zero(t, rotations.Load())
	})

	t.Run("refusals don't ask all the time", func(t *testing.T) {
		c, secret, api, _ := newPlane(t, never, never)
		api.token.Store("new")
		asked := secret.count()
		for range 5 {
			_, err := get(t.Context(), c, "/")
			require.ErrorContains(t, err, "401")
		}
		assert.Equal(t, asked+1, secret.count())
	})

	t.Run("they are picked up before they are refused", func(t *testing.T) {
		c, secret, api, rotations := newPlane(t, time.Nanosecond, never)
		secret.set("new", nil)
		api.token.Store("new")
		_, err := get(t.Context(), c, "/")
		require.NoError(t, err)
		assert.Equal(t, int32(1), api.requests.Load())
		assert.Equal(t, int32(1), rotations.Load())
	})

	t.Run("an error of ConfigFor is reported with the refusal, and the connection stays", func(t *testing.T) {
		c, secret, api, _ := newPlane(t, time.Nanosecond, time.Nanosecond)
		secret.set("", errors.New("no such Secret"))
		_, err := get(t.Context(), c, "/")
		require.NoError(t, err, "the credentials are good still")
		api.token.Store("new")
		body, err := get(t.Context(), c, "/")
		require.ErrorContains(t, err, "401")
		assert.Contains(t, body, "no such Secret")
		api.token.Store("old")
		_, err = get(t.Context(), c, "/")
		require.NoError(t, err)
	})

	t.Run("ConfigFor never runs twice at once, and of many reads none fails", func(t *testing.T) {
		c, secret, api, rotations := newPlane(t, never, time.Nanosecond)
		secret.set("new", nil)
		api.token.Store("new")
		var group sync.WaitGroup
		for range 20 {
			group.Add(1)
			go func() {
				defer group.Done()
				_, err := get(t.Context(), c, "/")
				assert.NoError(t, err)
			}()
		}
		group.Wait()
		assert.False(t, secret.twice.Load())
		assert.Equal(t, int32(1), rotations.Load())
	})
}

func TestReadsThatAreRefusedTogetherAskOnce(t *testing.T) {
	const reads = 10
	api, arrived, release := &accepts{}, make(chan struct{}, reads), make(chan struct{})
	api.token.Store("new")
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer old" {
			arrived <- struct{}{}
			<-release
		}
		api.serve(w, r)
	})
	secret := &tokens{token: "old"}
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		if secret.count() > 0 {
			time.Sleep(50 * time.Millisecond) // the other reads are refused within this
		}
		return secret.configFor(dp)
	}}.WithAsking(never, never))
	secret.set("new", nil)
	results := make(chan error, reads)
	for range reads {
		go func() {
			_, err := get(t.Context(), c, "/")
			results <- err
		}()
	}
	for range reads {
		testserver.Receive(t, arrived)
	}
	close(release)
	for range reads {
		require.NoError(t, testserver.Receive(t, results))
	}
	assert.Equal(t, 2, secret.count())
}

func TestAnExecThatIsCutIsNotSentAgain(t *testing.T) {
	var sent atomic.Int32
	server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
		sent.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if assert.NoError(t, err) {
			_ = conn.Close()
		}
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
	secret := &tokens{token: "old"}
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{ConfigFor: secret.configFor}.WithAsking(never, time.Nanosecond))
	secret.set("new", nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL()+"/api/v1/namespaces/x/pods/y/exec", nil)
	require.NoError(t, err)
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	_, err = c.HTTPClient().Do(req)
	require.Error(t, err)
	assert.EqualValues(t, 1, sent.Load())
}

// cert-manager renews the client certificate in a mounted Secret; no DataPlane changes.
func TestRenewedCertificateOfTheGatewayIsPickedUp(t *testing.T) {
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	files := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(files, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	config := gateway.Config()
	cluster, err := remote.NewCluster(dataplanetest.ClusterDataPlane("prod").AsDataPlane(), remote.Options{
		ConfigFor: helpers.ConfigFor(&rest.Config{Host: config.Host, TLSClientConfig: rest.TLSClientConfig{
			CAFile: write("ca.crt", config.CAData), CertFile: write("tls.crt", config.CertData), KeyFile: write("tls.key", config.KeyData),
		}}),
	}.WithAsking(time.Hour, time.Nanosecond))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	for range 10 {
		_, err := get(t.Context(), cluster, "/version")
		require.NoError(t, err)
		gateway.RotateClients()
		renewed := gateway.Config()
		write("tls.crt", renewed.CertData)
		write("tls.key", renewed.KeyData)
		gateway.CutConnections()
	}
}

func TestAnAddressFromElsewhereIsUsedByTheNextGet(t *testing.T) {
	old, next := testserver.New(t, testserver.WhoAmI), testserver.New(t, testserver.WhoAmI)
	var secret atomic.Pointer[v1alpha1.DataPlane]
	secret.Store(old.DataPlane("prod", "alice"))
	f := newFixture(t, remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
		inSecret := secret.Load()
		return helpers.RESTConfigFor(inSecret)
	}}.WithAsking(time.Nanosecond, never))
	f.set(dataplanetest.DataPlane("default", "prod"))
	before := f.mustGet(prod)
	f.requireUser("alice", before)
	secret.Store(next.DataPlane("prod", "bob"))
	old.Close()
	_, err := get(t.Context(), before.Cluster, "/")
	assertClassified(t, remote.ReachabilityRefused, err)
	after := f.mustGet(prod)
	f.requireUser("bob", after)
	assert.True(t, isClosed(before))
	assert.Same(t, after, f.mustGet(prod))
}
