// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

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

func TestAWatchThatHasNotStartedContinuesWithTheNewCredentials(t *testing.T) {
	t.Parallel()
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

// configMapServer serves lists and watches of one ConfigMap, and counts them.
type configMapServer struct {
	initialEvents time.Duration // how long a watch takes to send them
	lists         atomic.Int32  // includes watches that begin with all objects
	watching      chan struct{} // receives once for each watch that has sent them
}

func (s *configMapServer) serve(w http.ResponseWriter, r *http.Request) {
	const object = `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"x","resourceVersion":"5"}}`
	write := func(text string) {
		_, _ = io.WriteString(w, text+"\n")
		w.(http.Flusher).Flush()
	}
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	if query.Get("watch") == "" {
		s.lists.Add(1)
		write(`{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[` + object + `]}`)
		return
	}
	w.(http.Flusher).Flush()
	if query.Get("sendInitialEvents") == "true" {
		s.lists.Add(1)
		write(`{"type":"ADDED","object":` + object + `}`)
		time.Sleep(s.initialEvents)
		write(`{"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1",` +
			`"metadata":{"resourceVersion":"5","annotations":{"k8s.io/initial-events-end":"true"}}}}`)
	}
	s.watching <- struct{}{}
	<-r.Context().Done()
}

// Reflectors list again when a watch ends within a second of its start or of the end of its initial
// events; these rotations come right after both. A busy machine can hold up a reflector for half a
// second, and so make it list again: one good round of three is enough.
func TestReflectorsListOnceThroughARotation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		watchList bool
		grace     time.Duration
	}{
		"list, short grace":       {grace: 100 * time.Millisecond},
		"list, no grace":          {grace: -1},
		"watch list":              {watchList: true, grace: 2 * time.Second},
		"watch list, short grace": {watchList: true, grace: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const reflectors = 5
			lists := 0
			for round := 0; round < 3 && lists != reflectors; round++ {
				lists = listsThroughARotation(t, reflectors, test.watchList, test.grace)
			}
			assert.Equal(t, reflectors, lists)
		})
	}
}

// listsThroughARotation returns how often reflectors list until they watch again.
func listsThroughARotation(t *testing.T, reflectors int, watchList bool, grace time.Duration) int {
	t.Helper()
	served := &configMapServer{watching: make(chan struct{}, 100)}
	if watchList {
		served.initialEvents = 1600 * time.Millisecond // longer than the shortest watch
	}
	server := testserver.New(t, served.serve)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: grace})
	config := c.Config()
	config.ContentType = "application/json"
	client, err := kubernetes.NewForConfigAndClient(config, c.HTTPClient())
	require.NoError(t, err)
	all := make([]*cache.Reflector, reflectors)
	for i := range all {
		all[i] = newReflector(client, watchList)
		go all[i].RunWithContext(t.Context())
	}
	waitForWatches := func() {
		for _, reflector := range all {
			testserver.Receive(t, served.watching)
			synced := func() bool { return reflector.LastSyncResourceVersion() == "5" }
			require.Eventually(t, synced, 10*time.Second, time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond) // the response headers are under way
	}
	waitForWatches()
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	waitForWatches()
	return int(served.lists.Load())
}

func TestOldConnectionsCloseAsTheyBecomeIdle(t *testing.T) {
	h := newHold()
	server := testserver.New(t, h.serve, func(s *httptest.Server) { s.EnableHTTP2 = false })
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Minute})
	var results []<-chan result
	for range 3 {
		results = append(results, h.start(t, c))
	}
	require.Equal(t, len(results), server.Open())
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	for left := len(results) - 1; left >= 0; left-- {
		h.answer <- struct{}{}
		require.Eventually(t, func() bool { return server.Open() == left }, 10*time.Second, time.Millisecond)
	}
	for _, done := range results {
		assert.NoError(t, testserver.Receive(t, done).err)
	}
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

func TestAnyGraceIsAccepted(t *testing.T) {
	t.Parallel()
	server := testserver.New(t, streams)
	for _, grace := range []time.Duration{math.MinInt64, -1, 1, math.MaxInt64 / 2, math.MaxInt64} {
		for _, watched := range []time.Duration{0, 1600 * time.Millisecond} { // shorter and longer than the shortest watch
			t.Run(fmt.Sprint(grace, " after ", watched), func(t *testing.T) {
				t.Parallel()
				c, err := remote.NewCluster(server.DataPlane("prod", "alice"), remote.Options{Grace: grace})
				require.NoError(t, err)
				resp, err := open(t.Context(), c, "/api/v1/configmaps?watch=true")
				require.NoError(t, err)
				time.Sleep(watched)
				require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
				c.Close()
				require.NoError(t, resp.Body.Close())
			})
		}
	}
}

// All calls run at once, for the race detector.
func TestUpdateWhileManyRequestsRun(t *testing.T) {
	server := testserver.New(t, streams)
	first := server.DataPlane("prod", "user-0")
	c := newCluster(t, first, remote.Options{Grace: 20 * time.Second})
	planes := []*v1alpha1.DataPlane{first, server.DataPlane("prod", "user-1"), server.DataPlane("prod", "user-2")}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var requests, updates sync.WaitGroup
	for range 10 {
		requests.Add(1)
		go func() {
			defer requests.Done()
			for i := 0; i < 50 || ctx.Err() == nil; i++ {
				_, err := get(context.Background(), c, "/")
				if !assert.NoError(t, err) {
					return
				}
			}
		}()
	}
	for i := range 4 {
		updates.Add(1)
		go func() {
			defer updates.Done()
			for n := range 10 {
				assert.NoError(t, c.Update(planes[(i+n)%len(planes)]))
				assert.NotEmpty(t, c.Config().KeyData)
				resp, err := open(ctx, c, "/api/v1/configmaps?watch=true")
				if assert.NoError(t, err) {
					_, _ = io.CopyN(io.Discard, resp.Body, 7)
					_ = resp.Body.Close()
				}
			}
		}()
	}
	updates.Wait()
	stop()
	requests.Wait()
	c.Close()
	server.RequireNoConnections()
}
