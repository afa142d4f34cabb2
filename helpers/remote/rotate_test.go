// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Tests that are parallel wait more than they work, so that few processors are enough for many.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8")
	m.Run()
}

func newCluster(t testing.TB, dp *v1alpha1.DataPlane, options remote.Options) *remote.Cluster {
	t.Helper()
	c, err := remote.NewCluster(dp, options)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// get returns the body of a response, and fails for one that is not 200.
func get(ctx context.Context, c *remote.Cluster, path string) (string, error) {
	resp, err := open(ctx, c, path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(body), err
}

func open(ctx context.Context, c *remote.Cluster, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Config().Host+path, nil)
	if err != nil {
		return nil, err
	}
	return c.HTTPClient().Do(req)
}

// streams serves paths that begin with /api: a line with the user's name, and then
// nothing until the client has gone. Others answer with the user's name.
func streams(w http.ResponseWriter, r *http.Request) {
	testserver.WhoAmI(w, r)
	if len(r.URL.Path) < 4 || r.URL.Path[:4] != "/api" {
		return
	}
	_, _ = io.WriteString(w, "\n")
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func TestUpdateTakesEffectAtOnce(t *testing.T) {
	server := testserver.New(t, streams)
	rotations := 0
	c := newCluster(t, server.DataPlane("prod", "user-0"), remote.Options{OnRotate: func(key types.NamespacedName) {
		assert.Equal(t, "default/prod", key.String())
		rotations++
	}})
	client := c.HTTPClient() // made once
	for i := range 20 {
		dp := server.DataPlane("prod", fmt.Sprintf("user-%d", i))
		require.NoError(t, c.Update(dp))
		require.NoError(t, c.Update(dp), "the same is nothing to do")
		resp, err := client.Get(c.Config().Host + "/")
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, fmt.Sprintf("user-%d", i), string(body))
	}
	assert.Equal(t, 20, rotations)
	require.Eventually(t, func() bool { return server.Open() == 1 }, 5*time.Second, time.Millisecond, "old connections are closed")
}

func TestWatchesEndCleanlyAndOthersAtTheEndOfTheGrace(t *testing.T) {
	t.Parallel()
	const grace = 2 * time.Second
	for _, http2 := range []bool{true, false} {
		t.Run(fmt.Sprintf("http2=%t", http2), func(t *testing.T) {
			t.Parallel()
			server := testserver.New(t, streams, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: grace})
			read := func(path string) <-chan error {
				resp, err := open(t.Context(), c, path)
				require.NoError(t, err)
				line, err := bufio.NewReader(resp.Body).ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, "alice\n", line)
				ended := make(chan error, 1)
				go func() {
					defer resp.Body.Close()
					_, err := resp.Body.Read(make([]byte, 1))
					ended <- err
				}()
				return ended
			}
			opened := time.Now()
			watched := read("/api/v1/configmaps?watch=true")
			followed := read("/api/v1/namespaces/x/pods/y/log?follow=true")
			began := time.Now()
			require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
			assert.Equal(t, io.EOF, testserver.Receive(t, watched), "exactly what reflectors take for an end")
			assert.Greater(t, time.Since(opened), time.Second, "what is shorter is listed again")
			err := testserver.Receive(t, followed)
			assert.ErrorIs(t, err, remote.ErrRotated)
			assert.GreaterOrEqual(t, time.Since(began), grace)
			require.Eventually(t, func() bool { return server.Open() == 0 }, 5*time.Second, time.Millisecond)
		})
	}
}

func TestAWatchThatHasNotStartedGoesOnWithTheNewCredentials(t *testing.T) {
	arrived := make(chan struct{}, 2)
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if r.TLS.PeerCertificates[0].Subject.CommonName == "alice" {
			<-r.Context().Done()
			return
		}
		testserver.WhoAmI(w, r)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	body := make(chan string, 1)
	go func() {
		text, err := get(context.Background(), c, "/api/v1/configmaps?watch=1")
		assert.NoError(t, err)
		body <- text
	}()
	testserver.Receive(t, arrived)
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	assert.Equal(t, "bob", testserver.Receive(t, body))
}

func TestCredentialsThatCannotBeUsedStopTheConnection(t *testing.T) {
	server := testserver.New(t, streams)
	good := server.DataPlane("prod", "alice")
	c := newCluster(t, good, remote.Options{})
	resp, err := open(t.Context(), c, "/api/v1/configmaps?watch=true")
	require.NoError(t, err)
	defer resp.Body.Close()

	bad := good.DeepCopy()
	bad.Spec.KubernetesCluster.Credentials.ClientKey = "bm90IGEga2V5"
	replaced := good.DeepCopy()
	replaced.UID = "another"
	moved := good.DeepCopy()
	moved.Spec.KubernetesCluster.Credentials.APIServerURL += "/other"
	for _, test := range []struct {
		dp   *v1alpha1.DataPlane
		want error
	}{
		{bad, helpers.ErrInvalidCredentials},
		{replaced, helpers.ErrReplaced},
		{moved, remote.ErrServerChanged},
	} {
		err := c.Update(test.dp)
		require.ErrorIs(t, err, test.want)
		_, err = get(t.Context(), c, "/")
		require.ErrorIs(t, err, test.want, "never by the old ones")
		assert.Empty(t, c.Config().KeyData)
	}
	_, err = io.ReadAll(resp.Body)
	require.ErrorIs(t, err, helpers.ErrInvalidCredentials, "what was under way ends too")

	require.NoError(t, c.Update(good))
	user, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	assert.Equal(t, "alice", user)
	c.Close()
	require.ErrorIs(t, c.Update(good), remote.ErrClosed)
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
