// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// ErrRotated reports that the credentials were rotated while a request was under way, and that it
// had not ended within Options.Grace. Watches don't get it: they end as if the API server had ended
// them.
var ErrRotated = errors.New("credentials of data plane were rotated")

// shortestWatch is the least time that a watch stays open after its start or its initial events.
// Reflectors list again if a watch ends within a second without an event.
const shortestWatch = 1500 * time.Millisecond

// errAgain says that a request may be sent again with the next credentials: nothing of it was sent,
// or it is a watch without response headers.
var errAgain = errors.New("the credentials were replaced before the request was sent")

// handOver retires a session that a next one replaces. Unsent requests continue with the next
// session. Watches end as if the API server had ended them, after their initial events. Others may
// finish within the grace.
func (s *session) handOver() {
	s.retire(s.wrap(ErrRotated), func(r *request) bool {
		// Through OpenChoreo's cluster gateway, watches have no headers before they end.
		if r.lifetime == requestinfo.Watch && !r.unsent && (!r.initial || !r.answered.Load()) {
			r.cutWatchSoon()
		}
		return r.unsent
	})
}

// shutDown retires a session that no next one replaces. Only unary requests may finish within the
// grace.
func (s *session) shutDown(reason error) {
	s.retire(reason, func(r *request) bool { return r.lifetime != requestinfo.Unary })
}

// retire refuses new requests, keeps the key from signing, and cuts requests: those that cutNow
// chooses at once, the others when the grace, or the time for initial events, is over.
func (s *session) retire(reason error, cutNow func(*request) bool) {
	s.signing.Lock()
	s.mu.Lock()
	s.reason = reason
	if s.timers == nil {
		s.timers = []*time.Timer{
			time.AfterFunc(s.options.Grace, func() { s.cut(func(r *request) bool { return r.lifetime != requestinfo.Watch }) }),
			time.AfterFunc(s.options.initialEvents, func() { s.cut(func(r *request) bool { return r.initial }) }),
		}
	}
	s.mu.Unlock()
	s.signing.Unlock()
	s.cut(cutNow)
	s.closeUnused()
}

// handedOver is false after shutDown. The caller holds the session's lock.
func (s *session) handedOver() bool { return errors.Is(s.reason, ErrRotated) }

// causeOfCut returns the error of a request that ends because its session is retired. The
// caller holds the session's lock.
//
//	              not sent, or a watch   a watch with   all others
//	              without headers        headers
//	handed over   errAgain               io.EOF         ErrRotated
//	shut down     the reason             the reason     the reason
func (r *request) causeOfCut() error {
	s := r.session
	switch {
	case !s.handedOver():
		return s.reason
	case r.lifetime == requestinfo.Watch && r.answered.Load():
		return io.EOF
	case r.lifetime == requestinfo.Watch, r.unsent:
		return errAgain
	}
	return s.reason
}

// cutWatchSoon cuts a watch once reflectors accept its end, after a random delay, so that not all
// watches resume at once. The caller holds the session's lock.
func (r *request) cutWatchSoon() {
	s, grace := r.session, r.session.options.Grace
	earliest := max(0, shortestWatch-time.Since(r.beganAt))
	spread := rand.N(max(1, grace-earliest, grace/4)) //nolint:gosec // spreads load, hides nothing
	time.AfterFunc(earliest+spread, func() {
		s.cut(func(other *request) bool { return other == r })
	})
}

// cut ends the chosen requests, even if their callers don't close the bodies.
func (s *session) cut(chosen func(*request) bool) {
	var cut []*request
	s.mu.Lock()
	for r := range s.requests {
		if chosen(r) {
			r.cancel(r.causeOfCut())
			cut = append(cut, r)
		}
	}
	s.mu.Unlock()
	for _, r := range cut {
		r.finish()
	}
}

// closeUnused closes the idle connections of a retired session, and the session if it has no
// requests.
func (s *session) closeUnused() {
	s.transport.CloseIdleConnections()
	s.mu.Lock()
	unused := len(s.requests) == 0
	s.mu.Unlock()
	if unused {
		s.close()
	}
}

// close cuts the remaining requests, and closes the connections.
func (s *session) close() {
	s.cut(func(*request) bool { return true })
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	for _, timer := range s.timers {
		timer.Stop()
	}
	s.mu.Unlock()
	if closed {
		return
	}
	s.cancel()
	s.transport.CloseIdleConnections()
	s.conns.CloseAll()
	s.onClose(s)
}
