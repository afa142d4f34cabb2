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
	"strings"
	"syscall"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

const (
	// slowFailure is the shortest failed attempt to connect that makes the server silent. Quicker
	// failures are not remembered.
	slowFailure = time.Second
	// silenceLasts is how long a server stays silent after the last such failure.
	silenceLasts = time.Minute
	// connectEvery is how long a silent server is left alone after an attempt.
	connectEvery = 10 * time.Second
	// connectWait is how long the request that makes an attempt waits for it. A connection that
	// takes longer serves the next request. With the default DialTimeout, ten silent servers
	// together were measured to take a third of a worker (docs/benchmarks.md).
	connectWait = time.Second / 2
)

// silence remembers the last attempt to connect to a silent server. It belongs to a session and is
// guarded by the session's lock. A rotation forgets it with the session; Clusters share nothing.
type silence struct {
	err         error     // of the attempt; nil if the server isn't silent
	until       time.Time // when the silence is forgotten
	nextAttempt time.Time // when a request may make the next attempt
	endedAt     time.Time // when the server was last seen to answer
}

// silentError is the error of a request that didn't wait for a silent server. Its text is always the
// same, since controllers write it to conditions.
type silentError struct{ error }

func (e *silentError) Error() string {
	return fmt.Sprintf("%v; not tried again for up to %s", e.error, connectEvery)
}

func (e *silentError) Unwrap() error { return e.error }

// Timeout is for url.Error, which doesn't unwrap.
func (e *silentError) Timeout() bool { return utilnet.IsTimeout(e.error) }

// resetError is a reset that client-go doesn't recognize: after one, it would send a GET ten more
// times, a second apart, and its caller would wait.
type resetError struct{ text string }

func (e *resetError) Error() string        { return e.text }
func (e *resetError) Is(target error) bool { return target == syscall.ECONNRESET }

// connect is the DialContext of the transport. While the server is silent, only Probes, watches, and a
// request now and then connect. net/http continues a dial after the end of the request that began it;
// the connection then serves another request.
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
		s.noteFailure(err, began)
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
	err := &silentError{silence.err}
	if now.Before(silence.nextAttempt) {
		return err
	}
	silence.nextAttempt = now.Add(connectEvery)
	time.AfterFunc(connectWait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.unsent && s.silence.err != nil {
			r.cancel(err)
		}
	})
	return nil
}

// noteFailure makes the server silent after a slow failure to connect, and ends its silence after a
// quick one. The failure of an attempt that began before the server was last seen to answer says
// nothing: net/http continues the attempts of requests that have ended.
func (s *session) noteFailure(err error, began time.Time) {
	if errors.Is(err, context.Canceled) { // by this side
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if began.Before(s.silence.endedAt) {
		return
	}
	s.silence = silence{endedAt: s.silence.endedAt}
	if now.Sub(began) >= slowFailure {
		if errors.Is(err, syscall.ECONNRESET) {
			err = &resetError{strings.ReplaceAll(err.Error(), " by peer", "")}
		}
		s.silence.err, s.silence.until, s.silence.nextAttempt = err, now.Add(silenceLasts), now.Add(connectEvery)
	}
}

// noteFailure calls the session's noteFailure for a failure after the TCP connection of the
// request.
func (r *request) noteFailure(err error) {
	r.session.mu.Lock()
	began := r.waitingSince
	r.session.mu.Unlock()
	r.session.noteFailure(err, began)
}

// endSilence records that there is a connection, or an answer.
func (s *session) endSilence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silence = silence{endedAt: time.Now()}
}

// checkProxyResponse returns a proxy's refusal with its status, of which net/http keeps the text
// only. The refusal is slow if the proxy waited for the server.
func (s *session) checkProxyResponse(ctx context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	err := &reachabilityError{ReachabilityProxyRefused, errors.New("the proxy does not connect: " + resp.Status)}
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		r.noteFailure(err)
	}
	return err
}
