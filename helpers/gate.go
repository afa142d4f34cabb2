// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// gate is the way of all requests of a Remote. It counts those under way, bounds them,
// and lets none through once it is closed.
type gate struct {
	key       types.NamespacedName
	basePath  string // of the API server's URL
	timeout   time.Duration
	grace     time.Duration
	transport *http.Transport
	conns     connections

	// done is closed when the gate closes, finished when nothing is left of it.
	done, finished chan struct{}
	// closing ends what lasts by nature when the gate closes, cut all the rest at the
	// end of the grace.
	closing, cut             context.Context
	cancelClosing, cancelCut context.CancelCauseFunc

	mu       sync.Mutex
	closed   atomic.Bool // written with mu held
	underway int
	timer    *time.Timer // of the grace
	cutOnce  sync.Once
}

func newGate(key types.NamespacedName, basePath string, o options, tlsConfig *tls.Config) *gate {
	g := &gate{
		key: key, basePath: basePath, timeout: o.requestTimeout, grace: o.closeGrace,
		done: make(chan struct{}), finished: make(chan struct{}),
	}
	g.closing, g.cancelClosing = context.WithCancelCause(context.Background())
	g.cut, g.cancelCut = context.WithCancelCause(context.Background())
	dialer := o.dialer()
	g.transport = newHTTPTransport(o)
	g.transport.TLSClientConfig = tlsConfig
	g.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, release := endWith(ctx, g.cut)
		defer release()
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return g.conns.add(conn, g.closedError)
	}
	utilnet.SetTransportDefaults(g.transport)
	return g
}

// newHTTPTransport has what all our transports share. Its defaults for HTTP/2 come with
// utilnet.SetTransportDefaults or http.Transport's own.
func newHTTPTransport(o options) *http.Transport {
	proxy := o.proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return &http.Transport{
		Proxy:               proxy,
		TLSHandshakeTimeout: o.handshakeTimeout,
		IdleConnTimeout:     90 * time.Second,
		MaxIdleConnsPerHost: 25,
		// A peer that is gone without a word is found out after the sum of these. The
		// timer of the first keeps some 30 KB of a closed connection until it fires.
		HTTP2: &http.HTTP2Config{SendPingTimeout: o.pingAfter, PingTimeout: o.pingTimeout},
	}
}

// WrappedRoundTripper is how apimachinery's net package finds the transport.
func (g *gate) WrappedRoundTripper() http.RoundTripper { return g.transport }

func (g *gate) closedError() error {
	return fmt.Errorf("data plane %s: %w", g.key, ErrRemoteClosed)
}

// requestTimeout says that a request took longer than allowed.
type requestTimeout struct {
	key   types.NamespacedName
	after time.Duration
}

func (e *requestTimeout) Error() string {
	return fmt.Sprintf("data plane %s: request took longer than %s", e.key, e.after)
}
func (e *requestTimeout) Timeout() bool        { return true }
func (e *requestTimeout) Temporary() bool      { return true }
func (e *requestTimeout) Is(target error) bool { return target == context.DeadlineExceeded }

// RoundTrip implements http.RoundTripper.
func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	if !g.enter() {
		if req.Body != nil {
			_ = req.Body.Close() // a RoundTripper must
		}
		return nil, g.closedError()
	}
	t := &transit{gate: g, caller: req.Context()}
	lasting := lasts(req, g.basePath)
	if lasting {
		t.ctx, t.release = endWith(t.caller, g.closing)
	} else {
		t.ctx, t.release = endWith(t.caller, g.cut)
		if g.timeout > 0 {
			ctx, cancel := context.WithTimeoutCause(t.ctx, g.timeout, &requestTimeout{g.key, g.timeout})
			release := t.release
			t.ctx, t.release = ctx, func() { cancel(); release() }
		}
	}
	resp, err := g.transport.RoundTrip(req.WithContext(t.ctx))
	if err != nil {
		err = t.explain(err)
		t.end()
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if stream, ok := resp.Body.(io.ReadWriteCloser); ok {
			resp.Body = newUpgraded(t, stream)
			return resp, nil
		}
	}
	t.body = resp.Body
	resp.Body = t
	if !lasting && isRedirect(resp) { // a proxied service may redirect its client
		_ = t.Close()
		return nil, &reachabilityError{Redirected, fmt.Errorf("data plane %s: the server redirects, which is not followed", g.key)}
	}
	return resp, nil
}

func isRedirect(resp *http.Response) bool {
	return resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != ""
}

// lasts says whether a request goes on until somebody ends it: a watch, following a log,
// or a stream to a container, a port or a service.
func lasts(req *http.Request, basePath string) bool {
	if req.Header.Get("Upgrade") != "" {
		return true
	}
	if strings.Contains(req.URL.RawQuery, "watch=") || strings.Contains(req.URL.RawQuery, "follow=") {
		query := req.URL.Query()
		for _, name := range []string{"watch", "follow"} {
			if value := query.Get(name); value == "true" || value == "1" {
				return true
			}
		}
	}
	switch subresource(strings.TrimPrefix(req.URL.Path, basePath)) {
	case "exec", "attach", "portforward", "proxy", "log":
		return true
	}
	return false
}

// subresource returns what comes after the name of an object in a path of the API, or "".
// Paths begin with /api/VERSION or /apis/GROUP/VERSION, and go on with the resource and
// the name, which namespaces/NAMESPACE may precede.
func subresource(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return ""
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	if len(parts) < 3 {
		return ""
	}
	return parts[2]
}

// endWith returns ctx, ended by other as well, with other's cause.
func endWith(ctx, other context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return ctx, func() { stop(); cancel(nil) }
}

// transit is one request under way, and the body of its response.
type transit struct {
	gate    *gate
	caller  context.Context
	ctx     context.Context
	release context.CancelFunc
	body    io.ReadCloser
	once    sync.Once
}

func (t *transit) Read(p []byte) (int, error) {
	n, err := t.body.Read(p)
	switch {
	case err == io.EOF: //nolint:errorlint // readers are told the end by this very value
		t.end()
	case err != nil:
		err = t.explain(err)
		t.end()
	}
	return n, err
}

func (t *transit) Close() error {
	err := t.body.Close()
	t.end()
	return err
}

// explain says why this side has ended the request, where net/http only says that its
// context has ended.
func (t *transit) explain(err error) error {
	cause := context.Cause(t.ctx)
	if t.gate.cut.Err() != nil { // t.ctx may not know yet
		cause = context.Cause(t.gate.cut)
	}
	if cause == nil || t.caller.Err() != nil || errors.Is(cause, context.Canceled) { // by end
		return err
	}
	return cause
}

// upgraded is a connection that has left HTTP and belongs to the caller. Unlike other
// bodies, it does not heed a context, so it is closed when the gate is.
type upgraded struct {
	transit *transit
	stream  io.ReadWriteCloser
	detach  func() bool
}

func newUpgraded(t *transit, stream io.ReadWriteCloser) *upgraded {
	return &upgraded{
		transit: t, stream: stream,
		detach: context.AfterFunc(t.gate.closing, func() {
			_ = stream.Close()
			t.end()
		}),
	}
}

func (u *upgraded) Read(p []byte) (int, error) {
	n, err := u.stream.Read(p)
	return n, u.explain(err)
}

func (u *upgraded) Write(p []byte) (int, error) {
	n, err := u.stream.Write(p)
	return n, u.explain(err)
}

func (u *upgraded) explain(err error) error {
	if err != nil && u.transit.gate.closing.Err() != nil {
		return context.Cause(u.transit.gate.closing)
	}
	return err
}

func (u *upgraded) Close() error {
	u.detach()
	err := u.stream.Close()
	u.transit.end()
	return err
}

func (t *transit) end() {
	t.once.Do(func() {
		t.release()
		t.gate.leave()
	})
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed.Load() {
		return false
	}
	g.underway++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	g.underway--
	last := g.closed.Load() && g.underway == 0
	g.mu.Unlock()
	if last {
		g.finish()
	}
}

// close begins the end and doesn't wait for it.
func (g *gate) close() {
	g.mu.Lock()
	if g.closed.Load() {
		g.mu.Unlock()
		return
	}
	g.closed.Store(true)
	close(g.done)
	idle := g.underway == 0 || g.grace == 0
	if !idle {
		g.timer = time.AfterFunc(g.grace, g.finish)
	}
	g.mu.Unlock()
	g.cancelClosing(g.closedError())
	if idle {
		g.finish()
	}
}

func (g *gate) finish() {
	g.cutOnce.Do(func() {
		g.mu.Lock()
		if g.timer != nil {
			g.timer.Stop()
		}
		g.mu.Unlock()
		g.cancelCut(g.closedError())
		g.transport.CloseIdleConnections()
		g.conns.closeAll()
		close(g.finished)
	})
}

// connections are the open connections of a gate, so that they can be closed whatever
// the transport thinks of them.
type connections struct {
	mu     sync.Mutex
	open   map[*connection]struct{}
	closed bool
}

type connection struct {
	net.Conn
	of *connections
}

func (c *connections) add(conn net.Conn, closed func() error) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return nil, closed()
	}
	if c.open == nil {
		c.open = map[*connection]struct{}{}
	}
	tracked := &connection{Conn: conn, of: c}
	c.open[tracked] = struct{}{}
	return tracked, nil
}

func (c *connections) closeAll() {
	c.mu.Lock()
	open := c.open
	c.open, c.closed = nil, true
	c.mu.Unlock()
	for conn := range open {
		_ = conn.Conn.Close()
	}
}

func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
