// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package testpki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Server is what a DataPlane points to: a server on loopback that asks for client
// certificates, and knows what connections are open.
type Server struct {
	*httptest.Server
	t       testing.TB
	Clients *Authority

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	total int
}

// NewServer starts a server, which ends with the test. Edits come before it starts.
func NewServer(t testing.TB, handler http.HandlerFunc, edits ...func(*httptest.Server)) *Server {
	t.Helper()
	s := &Server{t: t, Clients: New(t), conns: map[net.Conn]struct{}{}}
	pool := x509.NewCertPool()
	pool.AddCert(s.Clients.Cert)
	s.Server = httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{s.Clients.serverCertificate()},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12,
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.conns[conn] = struct{}{}
			s.total++
		case http.StateClosed, http.StateHijacked:
			delete(s.conns, conn)
		}
	}
	for _, edit := range edits {
		edit(s.Server)
	}
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// serverCertificate returns one for loopback and example.com, as httptest has. Its handshakes
// are faster, since its key is not RSA.
func (a *Authority) serverCertificate() tls.Certificate {
	key := ECDSAKey(a.t)
	cert := a.Issue(key, func(template *x509.Certificate) {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.DNSNames = []string{"example.com"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// DataPlane returns one with the certificate of a user of the server.
func (s *Server) DataPlane(name, user string) *v1alpha1.DataPlane {
	s.t.Helper()
	key := ECDSAKey(s.t)
	return s.DataPlaneWith(name, s.Clients.Issue(key, CommonName(user)), key)
}

// DataPlaneWith returns one with a certificate and its key.
func (s *Server) DataPlaneWith(name string, cert *x509.Certificate, key crypto.Signer) *v1alpha1.DataPlane {
	s.t.Helper()
	dp := &v1alpha1.DataPlane{}
	dp.ObjectMeta = metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-1", Generation: 1}
	dp.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{
		APIServerURL: s.URL,
		CACert:       Encode(Certificates(s.Certificate())),
		ClientCert:   Encode(Certificates(cert)),
		ClientKey:    Encode(PKCS8(s.t, key)),
	}
	return dp
}

// Open counts the connections that are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Accepted counts the connections that there ever were.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// RequireNoConnections waits until none is open.
func (s *Server) RequireNoConnections() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.Open() == 0 }, 10*time.Second, time.Millisecond, "connections are left open")
}

// CommonName sets the user name of a client certificate.
func CommonName(name string) func(*x509.Certificate) {
	return func(template *x509.Certificate) { template.Subject = pkix.Name{CommonName: name} }
}

// WhoAmI answers with the name in the client certificate.
func WhoAmI(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].Subject.CommonName))
}

// RequireGoroutines waits until there are no more goroutines than before. What ends
// asynchronously in net/http gets the time that it takes.
func RequireGoroutines(t testing.TB, before int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before { // not by Eventually, which starts one itself
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			require.FailNow(t, "goroutines are left", "%s", stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Receive returns what comes from a channel, and fails when nothing does.
func Receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nothing came within 10 s")
		panic("unreachable")
	}
}
