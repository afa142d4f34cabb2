// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

const (
	// slowFailure is how long an attempt to connect takes at least if its failure makes the server
	// silent. Quick failures cost callers nothing.
	slowFailure = time.Second
	// silenceLasts is how long a server stays silent after the last such failure.
	silenceLasts = time.Minute
	// connectEvery is how long a silent server is left alone after an attempt.
	connectEvery = 10 * time.Second
	// connectWait is how long the request that makes an attempt waits for it: longer than a connection
	// around the world takes. Ten silent servers together take a quarter of a worker.
	connectWait = time.Second / 2
)

// silence remembers the last attempt to connect to a silent server. It belongs to a session and is
// guarded by its lock. In this way, a rotation forgets it, and Clusters share nothing.
type silence struct {
	err         error     // of the attempt; nil if the server isn't silent
	until       time.Time // when it is forgotten
	nextAttempt time.Time // when a request may make the next one
}

// silentError is the error of a request that didn't wait for a silent server.
type silentError struct {
	error
	wait time.Duration // until the next attempt
}

func (e *silentError) Error() string {
	return fmt.Sprintf("%v; not tried again for %s", e.error, (e.wait + time.Second - 1).Truncate(time.Second))
}

func (e *silentError) Unwrap() error { return e.error }

// Timeout is for url.Error, which doesn't unwrap.
func (e *silentError) Timeout() bool { return utilnet.IsTimeout(e.error) }

// connect is how the transport dials. To a silent server, few requests connect, and none waits long.
// net/http doesn't end a dial with its request: one that takes longer serves the next request.
func (s *session) connect(ctx context.Context, network, address string) (net.Conn, error) {
	r, ok := ctx.Value(requestKey{}).(*request)
	if !ok { // a wrapper has replaced the context
		return s.dial(ctx, network, address)
	}
	if err := r.mayConnect(); err != nil {
		return nil, err
	}
	began := time.Now()
	conn, err := s.dial(ctx, network, address)
	if err != nil {
		s.noteFailure(err, time.Since(began))
	}
	return conn, err
}

// mayConnect returns an error if the server is silent and the request must not connect now. A request
// that may connect to a silent server gives up after connectWait.
func (r *request) mayConnect() error {
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	now, silence := time.Now(), &s.silence
	if silence.err == nil || now.After(silence.until) || r.alwaysConnects {
		return nil
	}
	if wait := silence.nextAttempt.Sub(now); wait > 0 {
		err := &silentError{silence.err, wait}
		r.giveUp(err)
		return err
	}
	silence.nextAttempt = now.Add(connectEvery)
	err := &silentError{silence.err, connectEvery}
	time.AfterFunc(connectWait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.giveUp(err)
	})
	return nil
}

// giveUp ends a request that still waits for a connection. The caller holds the session's lock.
func (r *request) giveUp(err error) {
	if r.unsent {
		r.cancel(err)
	}
}

// noteFailure makes the server silent after a slow failure to connect, and ends its silence after a
// quick one.
func (s *session) noteFailure(err error, took time.Duration) {
	if errors.Is(err, context.Canceled) { // by this side
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silence = silence{}
	if took >= slowFailure {
		now := time.Now()
		s.silence = silence{err, now.Add(silenceLasts), now.Add(connectEvery)}
	}
}

// endSilence is called when the server has answered.
func (s *session) endSilence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silence = silence{}
}

// noteHandshakeFailure is noteFailure for a TLS handshake. Only one that timed out was slow.
func (s *session) noteHandshakeFailure(err error) {
	var took time.Duration
	if utilnet.IsTimeout(err) {
		took = s.options.handshakeTimeout
	}
	s.noteFailure(err, took)
}

// checkProxyResponse keeps the status of a proxy's refusal; net/http keeps its text only. The refusal is
// slow if the proxy waited for the server.
func (s *session) checkProxyResponse(ctx context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	err := &reachabilityError{ReachabilityProxyRefused, errors.New("the proxy does not connect: " + resp.Status)}
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		s.mu.Lock()
		began := r.beganAt
		s.mu.Unlock()
		s.noteFailure(err, time.Since(began))
	}
	return err
}
