// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package remote_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// mood says how a wire treats a dial.
type mood string

const (
	silent  mood = "silent"  // no answer until the context ends, after DialTimeout
	slow    mood = "slow"    // a connection after two seconds
	refuses mood = "refuses" // at once
	answers mood = "answers"
	mute    mood = "mute"     // a connection on which the server sends nothing
	hangsUp mood = "hangs up" // after 5 s, as a load balancer that looks for its backend
)

// wire is a network with one server, in a synctest bubble.
type wire struct {
	mu       sync.Mutex
	mood     mood
	dials    int
	requests int
	conns    chan net.Conn
	handler  http.HandlerFunc
}

func (w *wire) set(m mood) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mood = m
}

// takeDials returns how often the server was dialed since the last call.
func (w *wire) takeDials() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.dials
	w.dials = 0
	return n
}

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	w.mu.Lock()
	w.dials++
	m := w.mood
	w.mu.Unlock()
	sleep := func(d time.Duration, err error) error {
		select {
		case <-time.After(d):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	failed := func(err error) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	switch m {
	case silent:
		<-ctx.Done()
		if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
			return failed(err)
		}
		return failed(os.ErrDeadlineExceeded)
	case refuses:
		return failed(syscall.ECONNREFUSED)
	case slow:
		if err := sleep(2*time.Second, nil); err != nil {
			return failed(err)
		}
	}
	client, server := net.Pipe()
	switch m {
	case mute:
	case hangsUp:
		go func() { _, _ = io.Copy(io.Discard, server) }()
		time.AfterFunc(5*time.Second, func() { _ = server.Close() })
	default:
		w.conns <- server
	}
	return client, nil
}

// Accept, Close and Addr make a wire its server's listener.
func (w *wire) Accept() (net.Conn, error) {
	if conn, ok := <-w.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (w *wire) Close() error   { close(w.conns); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wire) ServeHTTP(resp http.ResponseWriter, req *http.Request) {
	w.mu.Lock()
	w.requests++
	w.mu.Unlock()
	if w.handler != nil {
		w.handler(resp, req)
		return
	}
	_, _ = io.WriteString(resp, "ok")
}

// onWire runs a test in a bubble, with a Cluster at the other end of a wire.
func onWire(t *testing.T, m mood, edit func(*rest.Config), test func(t *testing.T, w *wire, c *remote.Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{mood: m, conns: make(chan net.Conn, 100)}
		server := &http.Server{Handler: w}
		go func() { _ = server.Serve(w) }()
		defer server.Close()
		token := "token"
		c, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod"), remote.Options{
			ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				config := &rest.Config{Host: "http://192.0.2.1:6443", Dial: w.dial, BearerToken: token}
				if edit != nil {
					edit(config)
				}
				token += "+" // another one for each Update
				return config, nil
			},
		}.WithAsking(never, never))
		require.NoError(t, err)
		defer c.Abort()
		test(t, w, c)
	})
}
