// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// hang answers as the query says: with nothing at all, or with the start of a body.
func hang(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("start") != "" {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
	}
	<-r.Context().Done()
}

func requireTimeout(t testing.TB, err error, says string) {
	t.Helper()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	assert.True(t, timeout.Timeout())
	assertClassified(t, remote.ReachabilityTimeout, err)
	assert.ErrorContains(t, err, "data plane default/prod: "+says)
}

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
		// Headers come at once.
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

// It does not run beside other tests, which could take the machine for as long as the limit.
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
		time.Sleep(limit * 3 / 2) // it is not the server that makes no progress
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

// client-go tries a watch again that has timed out at its start, so that an informer needs
// no list for it.
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

// A server that sends its part of the handshake byte by byte.
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

func TestABlackHoledConnectionIsFoundOut(t *testing.T) {
	t.Parallel()
	server := testserver.New(t, hang)
	var swallow atomic.Bool
	pass := func(dst io.WriteCloser, src io.ReadCloser) {
		defer dst.Close()
		defer src.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := src.Read(buffer)
			if err != nil {
				return
			}
			if swallow.Load() {
				continue
			}
			if _, err := dst.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	hole := listen(t, func(in net.Conn) {
		out, err := net.Dial("tcp", strings.TrimPrefix(server.URL(), "https://"))
		if !assert.NoError(t, err) {
			return
		}
		go pass(out, in)
		pass(in, out)
	})
	dp := server.DataPlane("prod", "alice")
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + hole.Addr().String()
	c := newCluster(t, dp, remote.Options{}.WithTimes(3*time.Second, 0)) // a busy machine may answer a ping late
	resp, err := open(t.Context(), c, "/api/v1/pods?watch=true&start=1")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 2, resp.ProtoMajor)
	swallow.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(resp.Body)
		result <- err
	}()
	err = testserver.Receive(t, result)
	require.Error(t, err, "the watch must not hang")
	assertClassified(t, remote.ReachabilityTimeout, err)
}
