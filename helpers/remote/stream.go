// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// upgraded is a connection that has left HTTP and belongs to the caller.
type upgraded struct {
	request *request
	io.ReadWriteCloser
	stopClosing func() bool // stops the end of the request's context from closing the connection
}

// newUpgraded returns a connection that ends with its request: net/http's own heeds no context
// after HTTP.
func newUpgraded(r *request, stream io.ReadWriteCloser) *upgraded {
	return &upgraded{r, stream, context.AfterFunc(r.ctx, func() { _ = stream.Close() })}
}

func (u *upgraded) Read(p []byte) (int, error) {
	n, err := u.ReadWriteCloser.Read(p)
	return n, u.explain(err)
}

func (u *upgraded) Write(p []byte) (int, error) {
	n, err := u.ReadWriteCloser.Write(p)
	return n, u.explain(err)
}

func (u *upgraded) explain(err error) error {
	if err == nil || u.request.ctx.Err() == nil {
		return err
	}
	return u.request.explain(err)
}

func (u *upgraded) Close() (err error) {
	if u.stopClosing() {
		err = u.ReadWriteCloser.Close()
	}
	u.request.finish()
	return err
}

// WrappedRoundTripper lets clients that upgrade connections by themselves find a dialer and the TLS
// configuration. Without it, they would dial in their own way.
func (t *roundTripper) WrappedRoundTripper() http.RoundTripper {
	s, err := (*Cluster)(t).use()
	if s == nil {
		return &http.Transport{
			DialContext:     func(context.Context, string, string) (net.Conn, error) { return nil, err },
			TLSClientConfig: &tls.Config{}, // with nil, client-go would verify nothing over a dialer that it got before
		}
	}
	return &http.Transport{DialContext: s.dialStream, TLSClientConfig: s.transport.TLSClientConfig}
}

// dialStream makes a connection for a client that upgrades it by itself, as SPDY clients do. The
// connection counts as a lasting request until it is closed.
func (s *session) dialStream(ctx context.Context, network, address string) (net.Conn, error) {
	r := &request{session: s, lifetime: requestinfo.Stream}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	if !s.add(r) {
		r.cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, s.reason
	}
	conn, err := s.dial(ctx, network, address)
	if err != nil {
		r.finish()
		return nil, err
	}
	context.AfterFunc(r.ctx, func() { _ = conn.Close() })
	stream := &streamConn{conn, r}
	// client-go's SPDY client drops a connection without Close when the server refuses the upgrade.
	runtime.AddCleanup(stream, (*request).finish, r)
	return stream, nil
}

type streamConn struct {
	net.Conn
	request *request
}

func (c *streamConn) Read(p []byte) (int, error) {
	defer runtime.KeepAlive(c) // a connection that is being read is not dropped
	return c.Conn.Read(p)
}

func (c *streamConn) Close() error {
	defer c.request.finish()
	return c.Conn.Close()
}
