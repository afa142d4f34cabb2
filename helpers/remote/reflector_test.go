// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// configMapServer serves lists and watches of one ConfigMap, and counts them.
type configMapServer struct {
	initialEvents time.Duration // how long they take
	lists         atomic.Int32  // also watches that begin with all objects
	watching      chan struct{} // receives for each watch that has sent these
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

// Reflectors list again when a watch ends within a second of its start, or of the end of its
// initial events, which these rotations come right after.
func TestReflectorsListOnceThroughARotation(t *testing.T) {
	t.Parallel()
	const reflectors = 5
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
			served := &configMapServer{watching: make(chan struct{}, 100)}
			if test.watchList {
				served.initialEvents = 1600 * time.Millisecond // longer than a watch lasts at least
			}
			server := testserver.New(t, served.serve)
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: test.grace})
			config := c.Config()
			config.ContentType = "application/json"
			client, err := kubernetes.NewForConfigAndClient(config, c.HTTPClient())
			require.NoError(t, err)
			all := make([]*cache.Reflector, reflectors)
			for i := range all {
				reflector := newReflector(client, test.watchList)
				go reflector.RunWithContext(t.Context())
				all[i] = reflector
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
			assert.EqualValues(t, reflectors, served.lists.Load())
		})
	}
}
