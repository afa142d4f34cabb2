// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"
)

// session is what a Cluster has for one set of credentials: connections of its own, and
// the requests on them. It is retired when the credentials are rotated or the Cluster is
// closed, and ends with the last of its requests.
type session struct {
	cluster   *Cluster
	config    *rest.Config
	basePath  string // of the API server's URL
	transport *http.Transport
	wrapped   http.RoundTripper // the transport in what config wraps around it
	conns     *connrotation.Dialer

	ctx    context.Context // of connections that are being made
	cancel context.CancelFunc

	// signing is held while the client's key signs a handshake, and written by retire.
	signing sync.RWMutex

	mu       sync.Mutex
	requests map[*request]struct{}
	reason   error // why no request is taken; nil while they are. Written with signing held too.
	rotated  bool  // that is because there are other credentials
	deadline *time.Timer
	ended    bool
}

func (c *Cluster) newSession(config *rest.Config) (*session, error) {
	s := &session{cluster: c, config: config, requests: map[*request]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("server URL: %w", err)
	}
	s.basePath = strings.TrimRight(server.Path, "/")
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("TLS configuration: %w", err)
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
	if s.wrapped, err = rest.HTTPWrappersForConfig(config, s.transport); err != nil {
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

// minWatch is how long a watch lasts at least: reflectors take an end within the first
// second for a fault, and list again.
const minWatch = 1500 * time.Millisecond

// retire takes no more requests, and ends those under way: unary ones at the end of the
// grace. When the credentials were rotated, watches end within the grace, as if the server
// had ended them, and other lasting requests at its end; otherwise they end now.
func (s *session) retire(reason error, rotated bool) {
	grace := s.cluster.options.CloseGrace
	s.signing.Lock()
	s.mu.Lock()
	s.reason, s.rotated = reason, rotated
	if s.deadline == nil {
		s.deadline = time.AfterFunc(grace, s.end)
	}
	idle := len(s.requests) == 0 || grace == 0
	var now []*request
	for r := range s.requests {
		switch {
		case r.kind == unary:
		case !rotated, r.kind == watch && !r.answered.Load():
			now = append(now, r)
		case r.kind == watch:
			s.endWatch(r)
		}
	}
	s.mu.Unlock()
	s.signing.Unlock()
	for _, r := range now {
		r.stop()
	}
	if idle {
		s.end()
	}
}

// endWatch ends a watch within the grace, at random, so that not all are resumed at once.
// The caller holds the lock.
func (s *session) endWatch(r *request) {
	grace := s.cluster.options.CloseGrace
	wait := rand.N(grace*3/4 + 1) //nolint:gosec // spreads load, hides nothing
	time.AfterFunc(max(wait, minWatch-time.Since(r.began)), r.stop)
}

// end ends all requests that are left, and closes the connections.
func (s *session) end() {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended = true
	s.deadline.Stop()
	left := slices.Collect(maps.Keys(s.requests))
	s.mu.Unlock()
	for _, r := range left {
		r.stop()
	}
	s.cancel()
	s.transport.CloseIdleConnections()
	s.conns.CloseAll()
	s.cluster.mu.Lock()
	delete(s.cluster.sessions, s)
	s.cluster.mu.Unlock()
	s.cluster.left.Done()
}

// enter takes in a request, unless the session is retired.
func (s *session) enter(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil {
		s.requests[r] = struct{}{}
	}
	return s.reason == nil
}

// leave takes note that a request has ended.
func (s *session) leave(r *request) {
	s.mu.Lock()
	delete(s.requests, r)
	last := s.reason != nil && len(s.requests) == 0
	s.mu.Unlock()
	if last {
		s.end()
	}
}
