// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// session is what a Cluster has for one set of credentials: connections, and the requests
// on them. It is retired when the credentials are replaced, or when the Cluster accepts no
// more requests, and ends with the last of its requests.
type session struct {
	cluster   *Cluster
	config    *rest.Config
	transport *http.Transport
	wrapped   http.RoundTripper // the transport inside what config wraps around it
	streams   *http.Transport   // what clients dial by that upgrade connections by themselves
	conns     *connrotation.Dialer

	ctx    context.Context // of connections that are being made
	cancel context.CancelFunc

	// signing is held while the client's key signs, and while reason is set.
	signing sync.RWMutex

	mu       sync.Mutex
	requests map[*request]struct{}
	reason   error // why the session is retired; nil while it isn't
	rotated  bool  // the reason is that there are other credentials
	timers   []*time.Timer
	ended    bool
}

func (c *Cluster) newSession(config *rest.Config) (*session, error) {
	s := &session{cluster: c, config: config, requests: map[*request]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, &reachabilityError{ReachabilityInvalidCredentials, fmt.Errorf("TLS configuration: %w", err)}
	}
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{
			Timeout: c.options.DialTimeout, KeepAlive: 30 * time.Second, ControlContext: c.options.DialControl,
		}).DialContext
	}
	s.conns = connrotation.NewDialer(dial)
	s.transport = c.options.newTransport(config, s.dial)
	s.transport.TLSClientConfig = s.guardKey(tlsConfig)
	utilnet.SetTransportDefaults(s.transport)
	s.streams = &http.Transport{DialContext: s.dialStream, TLSClientConfig: s.transport.TLSClientConfig}
	if s.wrapped, err = rest.HTTPWrappersForConfig(config, sender{s.transport}); err != nil {
		return nil, fmt.Errorf("HTTP transport: %w", err)
	}
	return s, nil
}

// dial makes a connection that ends with the session, also when it is made meanwhile.
func (s *session) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	conn, err := s.conns.DialContext(ctx, network, address)
	if err == nil && s.ctx.Err() != nil {
		_ = conn.Close()
		return nil, s.ctx.Err()
	}
	return conn, err
}

// dialStream makes a connection for a client that upgrades it by itself, as SPDY clients do. It
// is a lasting request until it is closed.
func (s *session) dialStream(ctx context.Context, network, address string) (net.Conn, error) {
	r := &request{session: s, lifetime: requestinfo.Stream}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	if !s.enter(r) {
		r.cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, s.reason
	}
	conn, err := s.dial(ctx, network, address)
	if err != nil {
		r.end()
		return nil, err
	}
	context.AfterFunc(r.ctx, func() { _ = conn.Close() })
	return &streamConn{conn, r}, nil
}

type streamConn struct {
	net.Conn
	request *request
}

func (c *streamConn) Close() error {
	defer c.request.end()
	return c.Conn.Close()
}

// guardKey lets the key in a TLS configuration sign only until the session is retired.
func (s *session) guardKey(config *tls.Config) *tls.Config {
	if config == nil || config.GetClientCertificate == nil {
		return config
	}
	get := config.GetClientCertificate
	config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		certificate, err := get(info)
		if err != nil {
			return nil, err
		}
		guarded := *certificate
		if signer, ok := certificate.PrivateKey.(crypto.Signer); ok {
			guarded.PrivateKey = &guardedKey{signer, s}
		}
		return &guarded, nil
	}
	return config
}

type guardedKey struct {
	crypto.Signer
	session *session
}

func (k *guardedKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.session.signing.RLock()
	defer k.session.signing.RUnlock()
	if k.session.reason != nil {
		return nil, k.session.reason
	}
	return k.Signer.Sign(random, digest, opts)
}

// retire refuses new requests. When the credentials were rotated, requests that were not
// sent go on with the next session, watches end as if the API server had ended them, after
// their initial events, and others may finish within the grace. Otherwise, only unary requests
// may.
func (s *session) retire(reason error, rotated bool) {
	s.signing.Lock()
	s.mu.Lock()
	s.reason, s.rotated = reason, rotated
	if s.timers == nil {
		options := s.cluster.options
		s.timers = []*time.Timer{
			time.AfterFunc(options.Grace, func() { s.stop(func(r *request) bool { return r.lifetime != requestinfo.Watch }) }),
			time.AfterFunc(options.initialEvents, func() { s.stop(func(r *request) bool { return r.initial }) }),
		}
	}
	idle := len(s.requests) == 0
	for r := range s.requests {
		// Through OpenChoreo's cluster gateway, watches have no headers before they end.
		if rotated && r.lifetime == requestinfo.Watch && !r.unsent && (!r.initial || !r.answered.Load()) {
			r.endWatchSoon()
		}
	}
	s.mu.Unlock()
	s.signing.Unlock()
	s.transport.CloseIdleConnections()
	s.stop(func(r *request) bool {
		if rotated {
			return r.unsent
		}
		return r.lifetime != requestinfo.Unary
	})
	if idle {
		s.end()
	}
}

// stop ends the requests that are chosen, whether or not their callers close the bodies.
func (s *session) stop(chosen func(*request) bool) {
	var stopped []*request
	s.mu.Lock()
	for r := range s.requests {
		if chosen(r) {
			r.cancel(r.cause())
			stopped = append(stopped, r)
		}
	}
	s.mu.Unlock()
	for _, r := range stopped {
		r.end()
	}
}

// end ends all requests that are left, and closes the connections.
func (s *session) end() {
	s.stop(func(*request) bool { return true })
	s.mu.Lock()
	ended := s.ended
	s.ended = true
	for _, timer := range s.timers {
		timer.Stop()
	}
	s.mu.Unlock()
	if ended {
		return
	}
	s.cancel()
	s.transport.CloseIdleConnections()
	s.conns.CloseAll()
	s.cluster.mu.Lock()
	delete(s.cluster.sessions, s)
	s.cluster.mu.Unlock()
	s.cluster.open.Done()
}

// enter accepts a request, unless the session is retired.
func (s *session) enter(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil {
		s.requests[r] = struct{}{}
	}
	return s.reason == nil
}

// leave removes a request that has ended.
func (s *session) leave(r *request) {
	s.mu.Lock()
	delete(s.requests, r)
	retired, last := s.reason != nil, len(s.requests) == 0
	s.mu.Unlock()
	switch {
	case retired && last:
		s.end()
	case retired:
		s.transport.CloseIdleConnections()
	}
}
