// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"

	"k8s.io/client-go/util/flowcontrol"
)

// transport is the Cluster as its HTTP client sees it.
type transport Cluster

// send sends a request with the current credentials, and with the next ones if those are
// replaced before it is sent. A body can be sent again only if there is a GetBody.
func (c *Cluster) send(req *http.Request) (*http.Response, error) {
	for body := req.Body; ; {
		s, err := c.use()
		if err != nil {
			closeBody(body)
			return nil, err
		}
		resp, err := s.roundTrip(req, body)
		if !errors.Is(err, errAgain) {
			return resp, err
		}
		if body == nil || body == http.NoBody {
			continue
		}
		if req.GetBody == nil {
			return nil, c.wrap(ErrRotated)
		}
		if body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

// requestKey is the key of the request in its context, which wrappers keep unless they replace
// the context.
type requestKey struct{}

// sender sends what has passed the wrappers. It holds a request back that was stopped while it
// waited for a connection, even if a wrapper has dropped the end of the request's context.
type sender struct{ *http.Transport }

func (s sender) RoundTrip(req *http.Request) (*http.Response, error) {
	r, ok := req.Context().Value(requestKey{}).(*request)
	if !ok {
		return s.Transport.RoundTrip(req)
	}
	ctx, cancel := context.WithCancel(req.Context())
	context.AfterFunc(r.ctx, cancel) // every request ends
	return s.Transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { r.wait() }, // even when net/http tries again, if that is safe
		GotConn: func(info httptrace.GotConnInfo) {
			if r.start() {
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
func (s sender) WrappedRoundTripper() http.RoundTripper { return s.Transport }

func closeBody(body io.Closer) {
	if body != nil {
		_ = body.Close()
	}
}

// WrappedRoundTripper is how clients that upgrade connections by themselves find a dialer and
// the TLS configuration. Without one, they would dial in their own way.
func (t *transport) WrappedRoundTripper() http.RoundTripper {
	s, err := (*Cluster)(t).use()
	if s != nil {
		return s.streams
	}
	return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, err }}
}

// CloseIdleConnections is what http.Client's method of this name calls.
func (t *transport) CloseIdleConnections() {
	if s, _ := (*Cluster)(t).use(); s != nil {
		s.transport.CloseIdleConnections()
	}
}

// doNotFollow leaves redirects to the session, and those of proxied services to the caller.
func doNotFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// clusterLimiter lets a request through at once, to be refused by the transport, if the
// Cluster accepts none or is closed meanwhile. client-go would add words to an error.
type clusterLimiter struct {
	flowcontrol.RateLimiter
	cluster *Cluster
}

func (l *clusterLimiter) Wait(ctx context.Context) error {
	if s, _ := l.cluster.use(); s == nil {
		return nil
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.cluster.ctx, cancel)()
	err := l.RateLimiter.Wait(waiting)
	if ctx.Err() == nil && l.cluster.ctx.Err() != nil {
		return nil
	}
	return err
}
