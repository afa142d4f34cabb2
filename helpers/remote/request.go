// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/gateway"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// request follows a request until its response has ended, and is the body of that response.
type request struct {
	session        *session
	caller         context.Context
	ctx            context.Context
	cancel         context.CancelCauseFunc
	limit          *time.Timer // nil for none
	finished       sync.Once
	lifetime       requestinfo.Lifetime
	alwaysConnects bool // even to a silent server
	body           io.ReadCloser
	lasts          bool           // it is a watch or a stream that the server has accepted
	unlimited      bool           // the body may take any time
	events         *initialEvents // of the body; nil if there are none, and after their end

	answered atomic.Bool // there are response headers
	closing  atomic.Bool // the caller closes the body
	// Guarded by the session's lock.
	unsent       bool      // it waits for a connection, and has sent nothing
	waitingSince time.Time // when it began to wait for a connection
	initial      bool      // it is a watch whose initial events have not ended; false if nothing marks their end
	beganAt      time.Time // when the request began; after initial events, when they ended
}

// track replaces the body of a response by the request. It returns false for a request that was
// cut, and for a watch that must begin again with the next session.
func (r *request) track(resp *http.Response) bool {
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	r.unsent = false
	if r.wasCut() || r.lifetime == requestinfo.Watch && s.handedOver() {
		return false
	}
	r.answered.Store(true)
	r.limit.Stop()
	if resp.Body == nil { // a wrapper's own response may have none
		resp.Body = http.NoBody
	}
	r.lasts = r.lifetime != requestinfo.Unary && resp.StatusCode < 300
	if r.lasts && r.initial {
		r.events = newInitialEvents(resp.Header.Get("Content-Type"))
	}
	r.initial = r.events != nil
	r.unlimited = r.lasts && !r.initial
	r.body = resp.Body
	resp.Body = r
	if stream, ok := r.body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = newUpgraded(r, stream)
	}
	return true
}

// explain returns the reason why this side ended the request, or else err: net/http's error only
// says that the request's context has ended.
func (r *request) explain(err error) error {
	if ended := r.caller.Err(); ended != nil {
		return ended
	}
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	cause := context.Cause(r.ctx)
	switch {
	case errors.Is(cause, errAgain):
		return r.causeOfCut()
	case r.wasCut():
		return cause
	case s.closed, s.reason != nil && r.unsent:
		return r.causeOfCut()
	}
	return err
}

// wasCut reports that this side has ended the request. The server may then end its answer in good
// order, although the answer is incomplete.
func (r *request) wasCut() bool {
	cause := context.Cause(r.ctx)
	return r.caller.Err() != nil || cause != nil && !errors.Is(cause, context.Canceled)
}

// finish removes the request from its session.
func (r *request) finish() {
	r.finished.Do(func() {
		if r.limit != nil {
			r.limit.Stop()
		}
		r.cancel(nil)
		r.session.remove(r)
	})
}

// Read reads the body of the response.
func (r *request) Read(p []byte) (int, error) {
	if !r.unlimited {
		r.restartLimit()
		defer r.limit.Stop()
	}
	n, err := r.body.Read(p)
	if n > 0 && r.lasts {
		r.session.outcomes.succeed()
	}
	if r.events != nil && r.events.endIn(p[:n]) {
		r.endInitialEvents()
	}
	switch {
	case err == io.EOF && !r.wasCut(): //nolint:errorlint // readers compare with this very value
		r.finish()
	case err != nil:
		err = r.explain(err)
		r.keepOutcome(err)
		r.finish()
	}
	return n, err
}

// Close closes the body of the response.
func (r *request) Close() error {
	r.closing.Store(true)
	err := r.body.Close()
	r.finish()
	return err
}

// gate is the round tripper that the wrappers of a configuration wrap: a request that passes it
// goes out on a connection. It holds back a request that was cut while it waited for a connection,
// even if a wrapper has dropped the cancellation of the request's context.
type gate struct{ *http.Transport }

// requestKey is the key of the request in its context, which wrappers keep unless they replace
// the context.
type requestKey struct{}

func (g gate) RoundTrip(req *http.Request) (*http.Response, error) {
	r, ok := req.Context().Value(requestKey{}).(*request)
	if !ok {
		return g.Transport.RoundTrip(req)
	}
	ctx, cancel := context.WithCancel(req.Context())
	context.AfterFunc(r.ctx, cancel) // needs no stop: every request ends
	resp, err := g.Transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { r.markUnsent() }, // each time net/http tries again, which it does only if that is safe
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err != nil {
				r.noteFailure(err)
			} else {
				r.session.endSilence()
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			if !info.Reused {
				r.session.endSilence()
			}
			if r.markSent() {
				return
			}
			cancel() // HTTP/2 checks the context before it sends; HTTP/1 doesn't
			tlsConn, ok := info.Conn.(*tls.Conn)
			if !ok || tlsConn.ConnectionState().NegotiatedProtocol != "h2" {
				_ = info.Conn.Close()
			}
		},
	})))
	if err == nil {
		r.session.endSilence()
		resp.Header.Del(gateway.Header) // which only the transport of the gateway sets
	}
	return resp, err
}

// WrappedRoundTripper lets wrappers find the transport.
func (g gate) WrappedRoundTripper() http.RoundTripper { return g.Transport }

// markUnsent records that the request waits for a connection.
func (r *request) markUnsent() {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	r.unsent, r.waitingSince = true, time.Now()
}

// markSent records that the request goes out on a connection. It returns false if the request must
// not: it was cut while it waited, or a wrapper held it until the credentials were replaced.
func (r *request) markSent() bool {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	if r.unsent && r.session.handedOver() {
		r.cancel(r.causeOfCut())
	}
	if r.unsent && r.ctx.Err() != nil {
		return false
	}
	r.unsent = false
	return true
}
