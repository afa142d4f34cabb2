// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	restwatch "k8s.io/client-go/rest/watch"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	jsonWatch     = "application/json"
	protobufWatch = "application/vnd.kubernetes.protobuf"
	streamedList  = "/api/v1/configmaps?watch=true&sendInitialEvents=true&allowWatchBookmarks=true"
)

// encode returns an event as an API server sends it.
func encode(t testing.TB, mediaType string, event watch.EventType, edit func(*corev1.ConfigMap)) []byte {
	t.Helper()
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
	require.True(t, ok)
	var text bytes.Buffer
	stream := streaming.NewEncoder(info.StreamSerializer.NewFrameWriter(&text),
		scheme.Codecs.EncoderForVersion(info.StreamSerializer.Serializer, corev1.SchemeGroupVersion))
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "5"}}
	edit(object)
	require.NoError(t, restwatch.NewEncoder(stream, scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion)).
		Encode(&watch.Event{Type: event, Object: object}))
	return text.Bytes()
}

func asBookmark(object *corev1.ConfigMap) {
	object.Annotations = map[string]string{"a": "b", metav1.InitialEventsAnnotationKey: "true", "z": "y"}
}

// asDecoy puts the name of the annotation everywhere but in its place.
func asDecoy(object *corev1.ConfigMap) {
	const key = metav1.InitialEventsAnnotationKey
	object.Name = "decoy"
	object.Annotations = map[string]string{"text": fmt.Sprintf("%q:%q", key, "true"), key + "-not": "true"}
	object.Data = map[string]string{"text": key, "json": fmt.Sprintf(`{"metadata":{"annotations":{%q:"true"}}}`, key)}
	object.ManagedFields = []metav1.ManagedFieldsEntry{{FieldsV1: &metav1.FieldsV1{Raw: fmt.Appendf(nil, `{"f:%s":{}}`, key)}}}
}

// watchServer writes each piece of a watch's body at once, and then nothing until the client
// has gone.
func watchServer(t testing.TB, contentType string, pieces <-chan []byte) *testserver.Server {
	return testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.(http.Flusher).Flush()
		for {
			select {
			case piece := <-pieces:
				_, _ = w.Write(piece)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
}

func TestInitialEventsThatMakeNoProgressEnd(t *testing.T) {
	t.Parallel()
	for _, mediaType := range []string{jsonWatch, protobufWatch} {
		for name, sent := range map[string][]byte{
			"nothing":                nil,
			"an object":              encode(t, mediaType, watch.Added, func(o *corev1.ConfigMap) { o.Name = "a" }),
			"the text of a bookmark": encode(t, mediaType, watch.Added, asDecoy),
			"half a bookmark":        encode(t, mediaType, watch.Bookmark, asBookmark)[:100],
			"another bookmark":       encode(t, mediaType, watch.Bookmark, func(*corev1.ConfigMap) {}),
		} {
			t.Run(mediaType+", "+name, func(t *testing.T) {
				t.Parallel()
				pieces := make(chan []byte, 1)
				pieces <- sent
				server := watchServer(t, mediaType+";stream=watch", pieces)
				c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: 300 * time.Millisecond})
				result := make(chan error, 1)
				go func() {
					_, err := get(t.Context(), c, streamedList)
					result <- err
				}()
				err := testserver.Receive(t, result)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assertClassified(t, remote.ReachabilityTimeout, err)
				assert.ErrorContains(t, err, "data plane default/prod: initial events made no progress for 300ms")
			})
		}
	}
}

// These cases aren't parallel: other tests could take the machine for as long as the limit.
func TestAWatchHasNoLimitAfterItsInitialEvents(t *testing.T) {
	const limit = 3 * time.Second
	for name, test := range map[string]struct {
		contentType string
		bookmark    []byte
		piece       int // length
	}{
		"JSON":                       {jsonWatch, encode(t, jsonWatch, watch.Bookmark, asBookmark), 1000},
		"JSON in small pieces":       {jsonWatch, encode(t, jsonWatch, watch.Bookmark, asBookmark), 7},
		"JSON byte by byte":          {jsonWatch, encode(t, jsonWatch, watch.Bookmark, asBookmark), 1},
		"protobuf":                   {protobufWatch + ";stream=watch", encode(t, protobufWatch, watch.Bookmark, asBookmark), 1000},
		"protobuf in small pieces":   {protobufWatch + ";stream=watch", encode(t, protobufWatch, watch.Bookmark, asBookmark), 7},
		"protobuf byte by byte":      {protobufWatch + ";stream=watch", encode(t, protobufWatch, watch.Bookmark, asBookmark), 1},
		"an encoding without a rule": {"application/cbor-seq", []byte("?"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pieces := make(chan []byte, 1000)
			for rest := test.bookmark; len(rest) > 0; {
				n := min(len(rest), test.piece)
				pieces <- rest[:n]
				rest = rest[n:]
			}
			server := watchServer(t, test.contentType, pieces)
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: limit})
			resp, err := open(t.Context(), c, streamedList)
			require.NoError(t, err)
			defer resp.Body.Close()
			_, err = io.CopyN(io.Discard, resp.Body, int64(len(test.bookmark)))
			require.NoError(t, err)
			time.AfterFunc(limit*3/2, func() { pieces <- []byte("x") })
			_, err = io.CopyN(io.Discard, resp.Body, 1)
			require.NoError(t, err)
		})
	}
}

// After a timeout, a reflector would begin the same again, without end.
func TestAReflectorListsIfTheServerSendsNoBookmark(t *testing.T) {
	t.Parallel()
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			_, _ = io.WriteString(w, `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}`)
			return
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: 2 * time.Second})
	config := c.Config()
	config.ContentType = "application/json"
	client, err := kubernetes.NewForConfigAndClient(config, c.HTTPClient())
	require.NoError(t, err)
	reflector := newReflector(client, true)
	go reflector.RunWithContext(t.Context())
	require.Eventually(t, func() bool { return reflector.LastSyncResourceVersion() == "7" }, time.Minute, 10*time.Millisecond)
}

// API servers send no bookmark unless the watch allows them.
func TestAWatchWithoutBookmarksHasNoLimitOfInitialEvents(t *testing.T) {
	const limit = time.Second
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonWatch)
		w.(http.Flusher).Flush()
		select {
		case <-time.After(3 * limit):
			_, _ = io.WriteString(w, "x")
		case <-r.Context().Done():
		}
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: limit})
	text, err := get(t.Context(), c, "/api/v1/configmaps?watch=true&sendInitialEvents=true")
	require.NoError(t, err)
	assert.Equal(t, "x", text)
}

func TestARotationLetsInitialEventsFinish(t *testing.T) {
	t.Parallel()
	const grace = 50 * time.Millisecond
	for _, mediaType := range []string{jsonWatch, protobufWatch} {
		t.Run(mediaType, func(t *testing.T) {
			t.Parallel()
			pieces := make(chan []byte, 3)
			server := watchServer(t, mediaType, pieces)
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: grace})
			object := encode(t, mediaType, watch.Added, func(o *corev1.ConfigMap) { o.Name = "a" })
			bookmark := encode(t, mediaType, watch.Bookmark, asBookmark)
			resp, err := open(t.Context(), c, streamedList)
			require.NoError(t, err)
			defer resp.Body.Close()
			read := func(sent []byte) {
				pieces <- sent
				received := make([]byte, len(sent))
				_, err := io.ReadFull(resp.Body, received)
				require.NoError(t, err)
				require.Equal(t, sent, received)
			}
			read(object)
			require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
			time.Sleep(2 * time.Second) // longer than the grace, and than the shortest watch
			read(object)
			sent := time.Now()
			read(bookmark)
			_, err = resp.Body.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err, "reflectors take only this value for an end")
			assert.Greater(t, time.Since(sent), time.Second, "reflectors list again after a shorter watch")
			server.RequireNoConnections()
		})
	}
}

func TestInitialEventsWithoutAnEndAreCutAfterARotation(t *testing.T) {
	t.Parallel()
	pieces := make(chan []byte)
	server := watchServer(t, jsonWatch, pieces)
	const limit = 500 * time.Millisecond
	options := remote.Options{Grace: -1}.WithInitialEvents(limit)
	c := newCluster(t, server.DataPlane("prod", "alice"), options)
	resp, err := open(t.Context(), c, streamedList)
	require.NoError(t, err)
	defer resp.Body.Close()
	began := time.Now()
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	_, err = resp.Body.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	assert.GreaterOrEqual(t, time.Since(began), limit)
	server.RequireNoConnections()
}

// Otherwise, all would list or resume at once.
func TestBusyWatchesEndAtRandomAfterARotation(t *testing.T) {
	t.Parallel()
	const watches, grace = 20, 2 * time.Second
	bookmark := encode(t, jsonWatch, watch.Bookmark, asBookmark)
	event := encode(t, jsonWatch, watch.Modified, func(o *corev1.ConfigMap) { o.Name = "a" })
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonWatch)
		_, _ = w.Write(bookmark)
		for r.Context().Err() == nil {
			_, _ = w.Write(event)
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: grace})
	var running sync.WaitGroup
	ends := make([]time.Time, watches)
	for i := range ends {
		resp, err := open(t.Context(), c, streamedList)
		require.NoError(t, err)
		_, err = io.CopyN(io.Discard, resp.Body, int64(len(bookmark)))
		require.NoError(t, err)
		running.Add(1)
		go func() {
			defer running.Done()
			defer resp.Body.Close()
			_, err := io.Copy(io.Discard, resp.Body)
			assert.NoError(t, err)
			ends[i] = time.Now()
		}()
	}
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	running.Wait()
	first, last := ends[0], ends[0]
	for _, end := range ends {
		if end.Before(first) {
			first = end
		}
		if end.After(last) {
			last = end
		}
	}
	assert.Greater(t, last.Sub(first), grace/20)
}
