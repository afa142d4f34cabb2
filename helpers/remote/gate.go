// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
)

// gate is what the wrappers of a configuration wrap: a request that passes it goes out on a
// connection. It holds a request back that was cut while it waited for one, even if a wrapper
// has dropped the end of the request's context.
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
	context.AfterFunc(r.ctx, cancel) // every request ends
	return g.Transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { r.markUnsent() }, // even when net/http tries again, if that is safe
		GotConn: func(info httptrace.GotConnInfo) {
			if r.markSent() {
				return
			}
			cancel() // HTTP/2 looks at it before it sends; HTTP/1 doesn't
			tlsConn, ok := info.Conn.(*tls.Conn)
			if !ok || tlsConn.ConnectionState().NegotiatedProtocol != "h2" {
				_ = info.Conn.Close()
			}
		},
	})))
}

// WrappedRoundTripper lets wrappers find the transport.
func (g gate) WrappedRoundTripper() http.RoundTripper { return g.Transport }

// markUnsent records that the request waits for a connection.
func (r *request) markUnsent() {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	r.unsent = true
}

// markSent records that the request goes out on a connection. It returns false for a request
// that must not go out: one that was cut while it waited, and one that a wrapper held until
// the credentials were replaced.
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
