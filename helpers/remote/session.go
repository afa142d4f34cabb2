// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"

	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

// target holds what the sessions of a Cluster share: server and options, which never change, and
// the outcomes of requests.
type target struct {
	key      types.NamespacedName
	server   *url.URL // canonical
	options  Options  // with defaults
	outcomes outcomes
}

func (t *target) wrap(err error) error { return &clusterError{t.key, err} }

// clusterError names the data plane in an error.
type clusterError struct {
	key types.NamespacedName
	err error
}

// Error returns one printable line that names the data plane first and only once, for conditions
// and logs: a joined error has several lines, an error inside may name the data plane too, and a
// server's text may hold control characters.
func (e *clusterError) Error() string {
	name := fmt.Sprintf("data plane %s: ", dataplane.Name(e.key.Namespace, e.key.Name))
	lines := strings.FieldsFunc(e.err.Error(), func(r rune) bool { return !unicode.IsPrint(r) })
	return name + strings.ReplaceAll(strings.Join(lines, "; "), name, "")
}

func (e *clusterError) Unwrap() error { return e.err }

// session has the connections for one set of credentials, and the requests on them. It is
// retired when the credentials are replaced, or when the Cluster accepts no more requests, and
// closes with the last of its requests.
type session struct {
	*target
	config    *rest.Config
	transport *http.Transport
	wrapped   http.RoundTripper // the wrappers of config around the gate around the transport
	conns     *connrotation.Dialer
	onClose   func(*session)

	ctx    context.Context // of connections that are being made
	cancel context.CancelFunc

	signing  sync.RWMutex // held while the client's key signs, and while reason is set
	mu       sync.Mutex
	requests map[*request]struct{}
	silence  silence
	reason   error // why the session is retired; nil while it isn't
	timers   []*time.Timer
	closed   bool
}

// newSession returns a session for an accepted configuration. The session calls onClose when it has
// closed.
func newSession(t *target, config *rest.Config, onClose func(*session)) (*session, error) {
	if _, err := proxyOf(config, t.server); errors.Is(err, errProxyScheme) {
		return nil, err // most requests would fail
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, &reachabilityError{ReachabilityInvalidCredentials, fmt.Errorf("rest.Config field TLSClientConfig: %w", err)}
	}
	if tlsConfig == nil { // clients that upgrade connections take this for a wish to verify nothing
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second, ControlContext: t.options.DialControl}).DialContext
	}
	s := &session{
		target: t, config: config, conns: connrotation.NewDialer(dial), onClose: onClose, requests: map[*request]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.transport = &http.Transport{
		Proxy:                  chooseProxy(config),
		OnProxyConnectResponse: s.checkProxyResponse,
		DialContext:            s.connect,
		TLSClientConfig:        s.guardKey(tlsConfig),
		DisableCompression:     config.DisableCompression,
		TLSHandshakeTimeout:    t.options.handshakeTimeout,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    25,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: t.options.pingAfter, PingTimeout: t.options.pingTimeout},
	}
	utilnet.SetTransportDefaults(s.transport)
	if s.wrapped, err = rest.HTTPWrappersForConfig(config, gate{s.transport}); err != nil {
		return nil, &reachabilityError{ReachabilityInvalidCredentials, fmt.Errorf("HTTP transport: %w", redact.Error(err))}
	}
	return s, nil
}

// dial makes a connection that ends with the session, even if the session closes before the
// connection is made.
func (s *session) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if limit := s.options.DialTimeout; limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	conn, err := s.conns.DialContext(ctx, network, address)
	if err == nil && s.ctx.Err() != nil {
		_ = conn.Close()
		return nil, s.ctx.Err()
	}
	return conn, err
}

// guardKey lets the key in a TLS configuration sign only until the session is retired.
func (s *session) guardKey(config *tls.Config) *tls.Config {
	if config.GetClientCertificate == nil {
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

// add accepts a request, unless the session is retired.
func (s *session) add(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil {
		s.requests[r] = struct{}{}
	}
	return s.reason == nil
}

// remove removes a request that is finished.
func (s *session) remove(r *request) {
	s.mu.Lock()
	delete(s.requests, r)
	retired := s.reason != nil
	s.mu.Unlock()
	if retired {
		s.closeUnused()
	}
}
