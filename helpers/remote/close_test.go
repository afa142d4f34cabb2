// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestCloseRefusesNewRequests(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	require.NoError(t, c.Probe(t.Context()))
	c.Close()
	c.Close()
	testserver.Receive(t, c.Done())
	server.RequireNoConnections()
	_, err := get(t.Context(), c, "/")
	require.ErrorIs(t, err, remote.ErrClosed)
	assertClassified(t, remote.ReachabilityClosed, err)
	assert.Contains(t, err.Error(), "data plane default/prod")
	assertClassified(t, remote.ReachabilityClosed, c.Probe(t.Context()))
	body := &closeRecorder{Reader: strings.NewReader("x")}
	_, err = c.HTTPClient().Post(server.URL(), "", body)
	require.ErrorIs(t, err, remote.ErrClosed)
	assert.True(t, body.closed, "as a RoundTripper must")
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (r *closeRecorder) Close() error { r.closed = true; return nil }

// hold serves paths with /slow: it tells that a request has come, and answers with the
// user's name when it may.
type hold struct {
	arrived chan string
	answer  chan struct{}
}

func newHold() *hold { return &hold{arrived: make(chan string, 100), answer: make(chan struct{})} }

func (h *hold) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/slow") {
		h.arrived <- r.URL.Path
		select {
		case <-h.answer:
		case <-r.Context().Done():
		}
	}
	streams(w, r)
}

type result struct {
	body string
	err  error
}

// start makes a request in the background, and waits until the server has it.
func (h *hold) start(t testing.TB, c *remote.Cluster) <-chan result {
	t.Helper()
	done := make(chan result, 1)
	go func() {
		body, err := get(context.Background(), c, "/slow")
		done <- result{body, err}
	}()
	testserver.Receive(t, h.arrived)
	return done
}

func TestCloseLetsUnaryRequestsEndWithinTheGrace(t *testing.T) {
	h := newHold()
	server := testserver.New(t, h.serve)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Minute})
	// Also those of earlier rotations.
	var results []<-chan result
	for i := range 3 {
		require.NoError(t, c.Update(server.DataPlane("prod", fmt.Sprintf("user-%d", i))))
		results = append(results, h.start(t, c))
	}
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	testserver.Receive(t, c.Done())
	_, err := get(t.Context(), c, "/")
	require.ErrorIs(t, err, remote.ErrClosed)
	select {
	case <-closed:
		t.Error("Close has not waited")
	default:
	}
	close(h.answer)
	for i, done := range results {
		result := testserver.Receive(t, done)
		require.NoError(t, result.err)
		assert.Equal(t, fmt.Sprintf("user-%d", i), result.body, "each ends as who it began")
	}
	testserver.Receive(t, closed)
	server.RequireNoConnections()
}

func TestAbortCutsWhatCloseWaitsFor(t *testing.T) {
	h := newHold()
	server := testserver.New(t, h.serve)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Hour})
	before := h.start(t, c)
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	after := h.start(t, c)
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	testserver.Receive(t, c.Done())
	c.Abort()
	server.RequireNoConnections()
	testserver.Receive(t, closed)
	for _, done := range []<-chan result{before, after} {
		require.ErrorIs(t, testserver.Receive(t, done).err, remote.ErrClosed)
	}
	c.Abort() // again
}

func TestCloseCutsWhatOutlastsTheGrace(t *testing.T) {
	for name, test := range map[string]struct {
		path  string
		grace time.Duration
	}{
		"no answer":                              {path: "/slow", grace: 20 * time.Millisecond},
		"half an answer":                         {path: "/half?start=1", grace: 20 * time.Millisecond},
		"no grace":                               {path: "/slow", grace: -1},
		"a watch, without waiting for the grace": {path: "/api/v1/pods?watch=true&start=1", grace: time.Hour},
		"a watch without headers":                {path: "/api/v1/pods?watch=true", grace: time.Hour},
		"a followed log":                         {path: "/api/v1/namespaces/x/pods/y/log?follow=1&start=1", grace: time.Hour},
	} {
		for _, rotated := range []bool{false, true} {
			for _, http2 := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, rotated=%t, http2=%t", name, rotated, http2), func(t *testing.T) {
					goroutines := runtime.NumGoroutine()
					arrived := make(chan struct{}, 2)
					server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
						arrived <- struct{}{}
						hang(w, r)
					}, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
					options := remote.Options{Grace: test.grace, HeaderTimeout: time.Hour}
					c := newCluster(t, server.DataPlane("prod", "alice"), options)
					result := make(chan error, 1)
					go func() {
						_, err := get(context.Background(), c, test.path)
						result <- err
					}()
					testserver.Receive(t, arrived)
					if rotated && test.grace == time.Hour {
						require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
					}
					c.Close()
					server.RequireNoConnections()
					err := testserver.Receive(t, result)
					require.ErrorIs(t, err, remote.ErrClosed, "and not: context canceled")
					server.Close()
					testserver.RequireGoroutines(t, goroutines)
				})
			}
		}
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
