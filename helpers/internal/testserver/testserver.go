// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package testserver has a dataplanetest.Server that counts its connections, and other helpers
// for the tests of several packages under helpers. Only tests import it.
package testserver

import (
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// Server counts its connections.
type Server struct {
	*dataplanetest.Server
	t testing.TB

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	total int
}

// New starts a server that closes at the end of the test. Edits change it before it starts.
func New(t testing.TB, handler http.HandlerFunc, edits ...func(*httptest.Server)) *Server {
	t.Helper()
	s := &Server{t: t, conns: map[net.Conn]struct{}{}}
	s.Server = dataplanetest.NewServer(handler, append(edits, s.count)...)
	t.Cleanup(s.Close)
	return s
}

func (s *Server) count(server *httptest.Server) {
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.conns[conn] = struct{}{}
			s.total++
		case http.StateClosed, http.StateHijacked:
			delete(s.conns, conn)
		}
	}
}

// DataPlane returns a DataPlane with a new client certificate for user.
func (s *Server) DataPlane(name, user string) *v1alpha1.DataPlane {
	return dataplanetest.DataPlane("default", name, s.As(user))
}

// Open returns the number of open connections.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Accepted returns the number of connections so far, including closed ones.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// RequireNoConnections waits until no connection is open.
func (s *Server) RequireNoConnections() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.Open() == 0 }, 10*time.Second, time.Millisecond, "connections are left open")
}

// WhoAmI answers /readyz with ok, and other requests with the name in the client certificate.
func WhoAmI(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		_, _ = w.Write([]byte("ok"))
		return
	}
	_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].Subject.CommonName))
}

// RequireGoroutines waits until there are no more goroutines than before: some of net/http's end
// asynchronously.
func RequireGoroutines(t testing.TB, before int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before { // not by Eventually, which starts one itself
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			require.FailNow(t, "goroutines are left", "%s", stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Receive returns the next value from a channel, and fails if none comes.
func Receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(time.Minute): // for busy machines
		require.FailNow(t, "nothing came within a minute")
		panic("unreachable")
	}
}
