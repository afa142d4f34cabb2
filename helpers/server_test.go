// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// apiServer is what a DataPlane points to: a server on loopback that asks for client
// certificates, and knows what connections are open.
type apiServer struct {
	*httptest.Server
	t       testing.TB
	clients *authority

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	total int
}

func newAPIServer(t testing.TB, handler http.HandlerFunc, edits ...func(*httptest.Server)) *apiServer {
	t.Helper()
	s := &apiServer{t: t, clients: newAuthority(t), conns: map[net.Conn]struct{}{}}
	pool := x509.NewCertPool()
	pool.AddCert(s.clients.cert)
	s.Server = httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = discardLog
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

// dataPlane returns one with the certificate of a user of the server.
func (s *apiServer) dataPlane(name, user string) *v1alpha1.DataPlane {
	s.t.Helper()
	key := newECDSAKey(s.t)
	return s.dataPlaneWith(name, s.clients.issue(key, commonName(user)), key)
}

func (s *apiServer) dataPlaneWith(name string, cert *x509.Certificate, key crypto.Signer) *v1alpha1.DataPlane {
	s.t.Helper()
	dp := &v1alpha1.DataPlane{}
	dp.ObjectMeta = metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-1", Generation: 1}
	dp.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{
		APIServerURL: s.URL,
		CACert:       encode(pemCertificate(s.Certificate())),
		ClientCert:   encode(pemCertificate(cert)),
		ClientKey:    encode(pemPKCS8(s.t, key)),
	}
	return dp
}

func (s *apiServer) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *apiServer) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func (s *apiServer) requireNoConnections() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.open() == 0 }, 10*time.Second, time.Millisecond, "connections are left open")
}

func commonName(name string) func(*x509.Certificate) {
	return func(template *x509.Certificate) { template.Subject = pkix.Name{CommonName: name} }
}

// whoAmI answers with the name in the client certificate.
func whoAmI(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].Subject.CommonName))
}

func newRemote(t testing.TB, dp *v1alpha1.DataPlane, opts ...Option) *Remote {
	t.Helper()
	r, err := NewRemote(dp, opts...)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func get(t testing.TB, r *Remote, path string) (string, error) {
	t.Helper()
	_, body, err := r.get(t.Context(), path)
	return body, err
}

// requireGoroutines waits until there are no more goroutines than before. What ends
// asynchronously in net/http gets the time that it takes.
func requireGoroutines(t testing.TB, before int) {
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

func mustReceive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nothing came within 10 s")
		panic("unreachable")
	}
}

func assertClassified(t testing.TB, want Reachability, err error) {
	t.Helper()
	assert.Equal(t, want, Classify(err), "%v", err)
}
