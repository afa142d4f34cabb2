// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestARequestThatMakesNoProgressEnds(t *testing.T) {
	t.Parallel()
	const list, watch = "request made no progress for 200ms", "no response headers within 200ms"
	for _, http2 := range []bool{true, false} {
		server := testserver.New(t, hang, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
		dp := server.DataPlane("prod", "alice")
		for path, says := range map[string]string{
			"/api/v1/pods":                                list,
			"/api/v1/pods?start=1":                        list,
			"/api/v1/pods?watch=false":                    list,
			"/api/v1/namespaces/x/pods/y/log":             list,
			"/api/v1/pods?watch=true":                     watch,
			"/api/v1/namespaces/x/pods/y/log?follow=true": watch,
			"/api/v1/namespaces/x/pods/y/exec":            watch,
			"/api/v1/namespaces/x/services/y/proxy/path":  watch,
		} {
			t.Run(path, func(t *testing.T) {
				t.Parallel()
				options := remote.Options{StallTimeout: time.Hour, HeaderTimeout: 200 * time.Millisecond}
				if says == list {
					options.StallTimeout, options.HeaderTimeout = options.HeaderTimeout, options.StallTimeout
				}
				c := newCluster(t, dp, options)
				_, err := get(t.Context(), c, path)
				requireTimeout(t, err, says)
			})
		}
	}
}

func TestALimitOfAnotherKindOrNoneCutsNothing(t *testing.T) {
	t.Parallel()
	const limit = 50 * time.Millisecond
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		time.Sleep(3 * time.Second)
		testserver.WhoAmI(w, r)
	})
	dp := server.DataPlane("prod", "alice")
	for name, test := range map[string]struct {
		path    string
		options remote.Options
	}{
		"a watch":               {"/api/v1/pods?watch=true", remote.Options{StallTimeout: limit}},
		"a followed log":        {"/api/v1/namespaces/x/pods/y/log?follow=true", remote.Options{StallTimeout: limit}},
		"a list":                {"/api/v1/pods", remote.Options{HeaderTimeout: limit}},
		"a list without limit":  {"/api/v1/pods", remote.Options{HeaderTimeout: limit, StallTimeout: -1}},
		"a watch without limit": {"/api/v1/pods?watch=true", remote.Options{HeaderTimeout: -1, StallTimeout: limit}},
		// The server sends headers at once.
		"a watch that has started": {"/api/v1/pods?watch=true", remote.Options{HeaderTimeout: 2500 * time.Millisecond, StallTimeout: limit}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user, err := get(t.Context(), newCluster(t, dp, test.options), test.path)
			require.NoError(t, err)
			assert.Equal(t, "alice", user)
		})
	}
}

// This test isn't parallel: other tests could take the machine for as long as the limit.
func TestProgressIsNotCut(t *testing.T) {
	const limit, pause, pieces = 2 * time.Second, 300 * time.Millisecond, 10 // longer than the limit in all
	received := make(chan int64, 1)
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			n, err := io.Copy(io.Discard, r.Body)
			assert.NoError(t, err)
			received <- n
			return
		}
		for range pieces {
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(pause)
		}
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: limit})
	t.Run("a slow list", func(t *testing.T) {
		t.Parallel()
		body, err := get(t.Context(), c, "/api/v1/pods")
		require.NoError(t, err)
		assert.Len(t, body, pieces)
	})
	t.Run("a slow upload", func(t *testing.T) {
		t.Parallel()
		in, out := io.Pipe()
		go func() {
			for range pieces {
				_, _ = io.WriteString(out, "x")
				time.Sleep(pause)
			}
			_ = out.Close()
		}()
		resp, err := c.HTTPClient().Post(server.URL()+"/api/v1/pods", "", in)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.EqualValues(t, pieces, testserver.Receive(t, received))
	})
	t.Run("a slow reader", func(t *testing.T) {
		t.Parallel()
		resp, err := open(t.Context(), c, "/api/v1/pods")
		require.NoError(t, err)
		defer resp.Body.Close()
		time.Sleep(limit * 3 / 2) // the server isn't the one that stalls
		_, err = resp.Body.Read(make([]byte, 1))
		require.NoError(t, err)
	})
}

func TestAnUploadThatTheServerDoesNotReadEnds(t *testing.T) {
	t.Parallel()
	server := testserver.New(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: 300 * time.Millisecond})
	_, err := c.HTTPClient().Post(server.URL()+"/api/v1/pods", "", bytes.NewReader(make([]byte, 32<<20)))
	requireTimeout(t, err, "request made no progress for 300ms")
}

// net/http sends the body again from GetBody, as after a GOAWAY.
func TestAnUploadThatIsSentAgainIsNotCutWhileBytesFlow(t *testing.T) {
	const limit, pause, pieces = 2 * time.Second, 300 * time.Millisecond, 10 // longer than the limit in all
	var attempts atomic.Int32
	received := make(chan string, 1)
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/warm" {
			return
		}
		if attempts.Add(1) == 1 {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, err := w.(http.Hijacker).Hijack()
			if assert.NoError(t, err) {
				_ = conn.Close()
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		received <- string(body)
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: limit})
	_, err := send(c, http.MethodGet, "/warm", nil) // net/http repeats on connections that it has used
	require.NoError(t, err)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL(), strings.NewReader(strings.Repeat("x", pieces)))
	require.NoError(t, err)
	req.Header.Set("Idempotency-Key", "1") // allows net/http to send it again
	req.GetBody = func() (io.ReadCloser, error) {
		in, out := io.Pipe()
		go func() {
			for range pieces {
				_, _ = io.WriteString(out, "x")
				time.Sleep(pause)
			}
			_ = out.Close()
		}()
		return in, nil
	}
	resp, err := c.HTTPClient().Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, strings.Repeat("x", pieces), testserver.Receive(t, received))
}

func TestTheBodyOfAWatchsErrorHasTheLimitOfAUnaryRequest(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	finish := make(chan struct{})
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-finish:
		}
	})
	dp := server.DataPlane("prod", "alice")
	const path = "/api/v1/pods?watch=1"
	for _, start := range []time.Duration{-1, time.Hour} {
		_, err := get(ctx, newCluster(t, dp, remote.Options{HeaderTimeout: start, StallTimeout: 50 * time.Millisecond}), path)
		requireTimeout(t, err, "request made no progress for 50ms")
	}
	time.AfterFunc(200*time.Millisecond, func() { close(finish) })
	_, err := get(ctx, newCluster(t, dp, remote.Options{StallTimeout: -1}), path)
	require.EqualError(t, err, "status 503", "without a limit")
}

// client-go tries a watch again that timed out at its start, so an informer needs no list.
func TestAnInformersWatchThatDoesNotStartIsTriedAgain(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"}}}`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{HeaderTimeout: time.Second})
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	watch, err := client.CoreV1().ConfigMaps("x").Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer watch.Stop()
	assert.EqualValues(t, "ADDED", testserver.Receive(t, watch.ResultChan()).Type)
}

func TestAWatchBehindAPathWithDotsIsAWatch(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/b/api/") {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		<-r.Context().Done()
	})
	dp := server.DataPlane("prod", "alice")
	dp.Spec.KubernetesCluster.Credentials.APIServerURL += "/a/../b/"
	c := newCluster(t, dp, remote.Options{HeaderTimeout: 300 * time.Millisecond, StallTimeout: 400 * time.Millisecond})
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	err = client.CoreV1().RESTClient().Get().Resource("pods").Param("watch", "true").Do(t.Context()).Error()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "no response headers within 300ms")
}

func TestInformersThroughTheGatewayOfASlowAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	prod := dataplanetest.ClusterDataPlane("prod").AsDataPlane()
	t.Run("on a Cluster", func(t *testing.T) {
		t.Parallel()
		testSlowAPIServer(t, func(gateway *rest.Config) (*rest.Config, *http.Client) {
			cluster, err := remote.NewCluster(prod, remote.Options{ConfigFor: helpers.ConfigFor(gateway)})
			require.NoError(t, err)
			t.Cleanup(cluster.Close)
			return cluster.Config(), cluster.HTTPClient()
		})
	})
	t.Run("on a rest.Config", func(t *testing.T) {
		t.Parallel()
		testSlowAPIServer(t, func(gateway *rest.Config) (*rest.Config, *http.Client) {
			config, err := helpers.GatewayConfigFor(prod, gateway)
			require.NoError(t, err)
			client, err := rest.HTTPClientFor(config)
			require.NoError(t, err)
			return config, client
		})
	})
}

// An API server may need longer than a watch lasts, to list and to begin a watch.
func testSlowAPIServer(t *testing.T, connect func(gateway *rest.Config) (*rest.Config, *http.Client)) {
	t.Helper()
	const objects = 20_000
	var list bytes.Buffer
	list.WriteString(`{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[`)
	for i := range objects {
		fmt.Fprintf(&list, `{"metadata":{"name":"a%d","namespace":"x","resourceVersion":"1"}},`, i)
	}
	list.WriteString(`{"metadata":{"name":"last","namespace":"x","resourceVersion":"1"}}]}`)
	var lists, watches atomic.Int32
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			lists.Add(1)
			pause(r, 6*time.Second)
			_, _ = w.Write(list.Bytes())
			return
		}
		// The second watch sends its event late.
		if watches.Add(1) == 2 {
			pause(r, 4*time.Second)
			_, _ = io.WriteString(w, `{"type":"MODIFIED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"last","namespace":"x","resourceVersion":"2"}}}`)
			return
		}
		pause(r, 2*time.Second)
	}))
	config, httpClient := connect(gateway.Config())
	config.ContentType = "application/json"
	client, err := kubernetes.NewForConfigAndClient(config, httpClient)
	require.NoError(t, err)
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().ConfigMaps().Informer()
	t.Cleanup(factory.Shutdown)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	factory.Start(stop)
	require.Eventually(t, informer.HasSynced, time.Minute, 10*time.Millisecond)
	assert.Len(t, informer.GetStore().ListKeys(), objects+1)
	require.Eventually(t, func() bool {
		last, _, err := informer.GetStore().GetByKey("x/last")
		return err == nil && last.(*corev1.ConfigMap).ResourceVersion == "2"
	}, time.Minute, 10*time.Millisecond)
	assert.Equal(t, int32(1), lists.Load())
}

// pause waits, as an API server that takes its time does.
func pause(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}
