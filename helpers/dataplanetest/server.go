// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// Server stands in for an API server: that of a data plane, by [Server.As], or of the management
// cluster, by [Server.Config]. It is a TLS server on loopback, for HTTP/1.1 and HTTP/2, that
// identifies users by their client certificates. Like an API server, it answers 401 to a request
// without a certificate that it accepts. Its methods may be called at any time, from any goroutine,
// except Close and Move from a handler: they wait for the handler's own request.
type Server struct {
	edits []func(*httptest.Server)
	open  sync.WaitGroup // counts the requests; serve adds one

	mu       sync.Mutex
	http     *httptest.Server
	upgraded map[*httptest.Server][]net.Conn // httptest doesn't close them
	closed   bool
	handler  http.Handler
	clients  *pki.Authority
	serving  *pki.Authority
	cert     tls.Certificate
	requests []Request
}

// Request is a request that a [Server] or a [Gateway] has received.
type Request struct {
	User   string // the common name of the client certificate; empty without an accepted one
	Method string
	URI    string // path and query
}

// NewServer starts a server with a handler; see [Server.SetHandler]. The caller must close it.
//
// Edits change the underlying server before it starts, and again when it moves. For example, with
// EnableHTTP2 set to false, requests are HTTP/1.1.
func NewServer(handler http.Handler, edits ...func(*httptest.Server)) *Server {
	s := &Server{edits: edits, clients: pki.New(), upgraded: map[*httptest.Server][]net.Conn{}}
	s.RotateServer()
	s.SetHandler(handler)
	s.http = s.start()
	return s
}

func (s *Server) start() *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = panicLog
	server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert, // serve checks it in each request, so that a rotation takes effect at once
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := server.TLS.Clone()
			s.mu.Lock()
			defer s.mu.Unlock()
			config.Certificates = []tls.Certificate{s.cert}
			return config, nil
		},
	}
	for _, edit := range s.edits {
		edit(server)
	}
	connState := server.Config.ConnState
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateHijacked {
			s.mu.Lock()
			s.upgraded[server] = append(s.upgraded[server], conn)
			s.mu.Unlock()
		}
		if connState != nil {
			connState(conn, state)
		}
	}
	server.StartTLS()
	return server
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.closed { // handlers of HTTP/2 can outlive the server
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	s.open.Add(1)
	defer s.open.Done()
	clients, handler := s.clients, s.handler
	s.mu.Unlock()
	user, ok := authenticate(r, clients)
	s.mu.Lock()
	s.requests = append(s.requests, Request{User: user, Method: r.Method, URI: r.RequestURI})
	s.mu.Unlock()
	if !ok {
		handler = Status(http.StatusUnauthorized)
	}
	handler.ServeHTTP(w, r)
}

func authenticate(r *http.Request, clients *pki.Authority) (user string, ok bool) {
	if len(r.TLS.PeerCertificates) == 0 {
		return "", false
	}
	roots := x509.NewCertPool()
	roots.AddCert(clients.Cert)
	cert := r.TLS.PeerCertificates[0]
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return "", false
	}
	return cert.Subject.CommonName, true
}

// Close ends the server and all requests to it. It returns when their handlers have returned.
func (s *Server) Close() {
	s.mu.Lock()
	server := s.http
	s.closed = true
	s.mu.Unlock()
	end(server)
	s.cutUpgraded(server)
	s.open.Wait()
}

// end closes a server and its connections, even in the middle of a request.
func end(server *httptest.Server) {
	// First wait until no connection is new, because Close waits for the requests of those.
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = server.Config.Shutdown(now)
	server.CloseClientConnections()
	server.Close()
}

func (s *Server) current() *httptest.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.http
}

// URL returns the server's address, such as https://127.0.0.1:40404.
func (s *Server) URL() string { return s.current().URL }

// As returns an edit, for [DataPlane] or an existing object, that sets the address of the
// server and a new client certificate for a user. Use it again to rotate the credentials: the
// server still accepts the first certificate.
func (s *Server) As(user string) func(*v1alpha1.DataPlane) {
	return func(dp *v1alpha1.DataPlane) {
		s.mu.Lock()
		defer s.mu.Unlock()
		dp.Spec.KubernetesCluster.Credentials = issue(s.clients, user, s.serving.Cert, s.http.URL)
	}
}

// Config returns a config for clients of the server, with its address, its CA, a new client
// certificate for a user, and no rate limit. The caller owns the result. If the server's handler is
// [Objects] of DataPlanes, the server stands in for the management cluster of a program that only
// reads. Programs that write need envtest, or a [Clientset].
//
// The server still accepts the certificates of earlier calls. After RotateClients, RotateServer or
// Move, call Config again.
func (s *Server) Config(user string) *rest.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &rest.Config{Host: s.http.URL, QPS: -1, TLSClientConfig: issueTLS(s.clients, user, s.serving.Cert)}
}

// SetHandler sets the handler of further requests with an accepted certificate: [Objects],
// [Status], [Hang], or any other. With nil, the server is healthy and has no objects: it answers 200
// to /readyz, /livez and /healthz, and 404 to everything else.
//
// In a handler, the user is r.TLS.PeerCertificates[0].Subject.CommonName.
func (s *Server) SetHandler(handler http.Handler) {
	if handler == nil {
		handler = http.HandlerFunc(healthy)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = handler
}

func isHealth(path string) bool {
	return slices.Contains([]string{"/readyz", "/livez", "/healthz"}, path)
}

func healthy(w http.ResponseWriter, r *http.Request) {
	if isHealth(r.URL.Path) {
		_, _ = io.WriteString(w, "ok")
		return
	}
	Status(http.StatusNotFound).ServeHTTP(w, r)
}

// RotateClients replaces the authority that signs client certificates. Requests with an earlier
// certificate are answered 401, even on open connections.
func (s *Server) RotateClients() {
	clients := pki.New()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = clients
}

// RotateServer replaces the server's certificate and the authority that signed it, so that new
// connections with an earlier DataPlane or Config fail. Open connections stay;
// [Server.CutConnections] closes them.
func (s *Server) RotateServer() {
	authority := pki.New()
	cert := servingCertificate(authority, "kubernetes.default.svc")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving, s.cert = authority, cert
}

// servingCertificate returns a certificate for loopback addresses and a name.
func servingCertificate(authority *pki.Authority, name string) tls.Certificate {
	key := pki.ECDSAKey()
	cert := authority.Issue(name, key, func(template *x509.Certificate) {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.DNSNames = []string{"localhost", name}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// CutConnections closes all connections, even in the middle of a request. The server accepts new
// connections.
func (s *Server) CutConnections() {
	server := s.current()
	server.CloseClientConnections()
	s.cutUpgraded(server)
}

func (s *Server) cutUpgraded(server *httptest.Server) {
	s.mu.Lock()
	conns := s.upgraded[server]
	delete(s.upgraded, server)
	s.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// Move moves the server to another address, which earlier DataPlanes and Configs don't have. It
// closes the connections to the old address, which refuses new ones. After Close, it does nothing.
func (s *Server) Move() {
	moved := s.start()
	s.mu.Lock()
	old := s.http
	if s.closed {
		old = moved
	} else {
		s.http = moved
	}
	s.mu.Unlock()
	end(old)
	s.cutUpgraded(old)
}

// Requests returns the requests that the server has received, in the order of their arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}
