// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func assertClassified(t testing.TB, want remote.Reachability, err error) {
	t.Helper()
	assert.Equal(t, want, remote.Classify(err), "%v", err)
}

func TestProbe(t *testing.T) {
	for name, test := range map[string]struct {
		readyz, healthz int
		body            string
		want            remote.Reachability
	}{
		"ready":                       {readyz: 200, healthz: 500, want: remote.ReachabilityReachable},
		"forbidden":                   {readyz: 403, want: remote.ReachabilityReachable},
		"unauthorized":                {readyz: 401, want: remote.ReachabilityUnauthorized},
		"not ready":                   {readyz: 500, want: remote.ReachabilityNotReady},
		"old server, healthy":         {readyz: 404, healthz: 200, want: remote.ReachabilityReachable},
		"old server, not healthy":     {readyz: 404, healthz: 500, want: remote.ReachabilityNotReady},
		"no API server":               {readyz: 404, healthz: 404, want: remote.ReachabilityNotReady},
		"overloaded":                  {readyz: 503, want: remote.ReachabilityNotReady},
		"something in between denies": {readyz: 407, want: remote.ReachabilityNotReady},
		"something in between greets": {readyz: 200, body: "welcome", want: remote.ReachabilityNotReady},
		"old server, greeting":        {readyz: 404, healthz: 200, body: "welcome", want: remote.ReachabilityNotReady},
	} {
		t.Run(name, func(t *testing.T) {
			body := test.body
			switch {
			case body != "":
			case test.readyz == http.StatusOK, test.healthz == http.StatusOK:
				body = "ok"
			default:
				body = "[-]etcd failed: reason withheld"
			}
			server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/prefix/readyz":
					w.WriteHeader(test.readyz)
				case "/prefix/healthz":
					w.WriteHeader(test.healthz)
				default:
					w.WriteHeader(http.StatusTeapot)
				}
				_, _ = io.WriteString(w, body)
			})
			dp := server.DataPlane("prod", "alice")
			dp.Spec.KubernetesCluster.Credentials.APIServerURL += "/prefix/"
			err := newCluster(t, dp, remote.Options{}).Probe(t.Context())
			assertClassified(t, test.want, err)
			if test.want == remote.ReachabilityNotReady {
				assert.ErrorContains(t, err, body)
				assert.ErrorContains(t, err, "data plane default/prod")
			}
		})
	}
}

// listen accepts connections and gives each to serve, or to nobody.
func listen(t *testing.T, serve func(net.Conn)) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	if serve == nil { // the kernel accepts
		return listener
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener
}

func TestProbeTellsWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	server := testserver.New(t, testserver.WhoAmI)
	dead := testserver.New(t, testserver.WhoAmI)
	dead.Close()
	deadProxy := &url.URL{Scheme: "http", Host: strings.TrimPrefix(dead.URL(), "https://")}
	mute := listen(t, nil)
	reset := listen(t, func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	})
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	plain.Config.ErrorLog = log.New(io.Discard, "", 0)
	clients, key := pki.New(), pki.ECDSAKey()
	strict := newStrictServer(t, clients)
	strictCA := pki.Encode(pki.Certificates(strict.Certificate()))
	serverName := func(name string) remote.Options {
		return editConfig(func(config *rest.Config) { config.ServerName = name })
	}
	for name, test := range map[string]struct {
		server, ca string
		options    remote.Options
		cert       *x509.Certificate
		want, or   remote.Reachability
		says       string
	}{
		"wrong CA": {
			ca: pki.Encode(pki.Certificates(pki.New().Cert)), want: remote.ReachabilityTLSFailure, says: "unknown authority",
		},
		"refused": {server: dead.URL(), want: remote.ReachabilityRefused},
		"no such name": {
			server: "https://no-such-host.invalid", want: remote.ReachabilityDNSFailure, or: remote.ReachabilityTimeout,
		},
		"no TLS at all": {server: strings.Replace(plain.URL, "http:", "https:", 1), want: remote.ReachabilityTLSFailure},
		"no handshake": {
			server: "https://" + mute.Addr().String(), options: remote.Options{}.WithTimes(0, time.Second), want: remote.ReachabilityTimeout,
		},
		"reset": {server: "https://" + reset.Addr().String(), want: remote.ReachabilityRefused},
		"another name": {
			options: serverName("other.example.org"), want: remote.ReachabilityTLSFailure, says: "other.example.org",
		},
		"name as told": {options: serverName("kubernetes.default.svc"), want: remote.ReachabilityReachable},
		"policy": {
			options: remote.Options{DialControl: denyAddress}, want: remote.ReachabilityUnknown, says: "address is not allowed",
		},
		"proxy is gone": {
			options: editConfig(func(config *rest.Config) { config.Proxy = http.ProxyURL(deadProxy) }), want: remote.ReachabilityRefused,
		},
		"client expired": {
			server: strict.URL, ca: strictCA, cert: clients.Issue("alice", key, pki.Expired),
			want: remote.ReachabilityCertificateExpired, says: "client certificate expired at",
		},
		// In TLS 1.3, the server says so after the handshake, if it comes to that.
		"refused by TLS": {
			server: strict.URL, ca: strictCA, cert: pki.New().Issue("alice", key),
			want: remote.ReachabilityTLSFailure, or: remote.ReachabilityRefused,
		},
		"unknown to server":  {cert: pki.New().Issue("alice", key), want: remote.ReachabilityUnauthorized},
		"all is well":        {want: remote.ReachabilityReachable},
		"no address to dial": {server: "https://255.255.255.255", want: remote.ReachabilityRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dp := server.DataPlane("prod", "alice")
			creds := &dp.Spec.KubernetesCluster.Credentials
			if test.cert != nil {
				creds.ClientCert, creds.ClientKey = pki.Encode(pki.Certificates(test.cert)), pki.Encode(pki.PKCS8(key))
			}
			if test.server != "" {
				creds.APIServerURL = test.server
			}
			if test.ca != "" {
				creds.CACert = test.ca
			}
			err := newCluster(t, dp, test.options).Probe(t.Context())
			if test.or == "" || remote.Classify(err) != test.or {
				assertClassified(t, test.want, err)
			}
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
			}
			if err != nil {
				assert.NotContains(t, err.Error(), creds.ClientKey[:40])
			}
		})
	}
}

// newStrictServer starts a server whose TLS refuses clients, which that of API servers doesn't.
func newStrictServer(t *testing.T, clients *pki.Authority) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(testserver.WhoAmI))
	pool := x509.NewCertPool()
	pool.AddCert(clients.Cert)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestProbeTellsThatTheServersCertificateHasExpired(t *testing.T) {
	a, key := pki.New(), pki.ECDSAKey()
	server := testserver.New(t, testserver.WhoAmI, func(s *httptest.Server) {
		certificate := a.Issue("alice", key, pki.Expired, func(c *x509.Certificate) {
			c.ExtKeyUsage, c.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []net.IP{net.IPv4(127, 0, 0, 1)}
		})
		s.TLS.GetConfigForClient = nil
		s.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}
	})
	dp := server.DataPlane("prod", "alice")
	dp.Spec.KubernetesCluster.Credentials.CACert = pki.Encode(pki.Certificates(a.Cert))
	assertClassified(t, remote.ReachabilityCertificateExpired, newCluster(t, dp, remote.Options{}).Probe(t.Context()))
}

// A server that no longer accepts a certificate: the connection that is open goes on, and
// a rotated certificate is accepted, through the same Cluster.
func TestARevokedCertificateIsReplaced(t *testing.T) {
	var revoked atomic.Value
	revoked.Store("")
	server := testserver.New(t, testserver.WhoAmI, func(s *httptest.Server) {
		s.TLS.VerifyPeerCertificate = func(certificates [][]byte, _ [][]*x509.Certificate) error {
			certificate, err := x509.ParseCertificate(certificates[0])
			if err == nil && certificate.Subject.CommonName == revoked.Load() {
				err = errors.New("revoked")
			}
			return err
		}
	})
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, remote.Options{})
	require.NoError(t, c.Probe(t.Context()))
	revoked.Store("alice")
	require.NoError(t, c.Probe(t.Context()), "over the connection that is open")
	server.CutConnections()
	var err error
	require.Eventually(t, func() bool { err = c.Probe(t.Context()); return err != nil }, 10*time.Second, time.Millisecond)
	assert.Contains(t, []remote.Reachability{remote.ReachabilityTLSFailure, remote.ReachabilityRefused}, remote.Classify(err), "%v", err)
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	require.NoError(t, c.Probe(t.Context()))
}

func TestTheCallersContextStaysTheCallers(t *testing.T) {
	arrived := make(chan struct{})
	server := testserver.New(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := get(ctx, c, "/")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, remote.ErrClosed)
	assertClassified(t, remote.ReachabilityUnknown, err)
}

// Whether a Cluster is refused, or one that exists gets a DataPlane that can't be used, the
// answer is the same.
func TestInvalidCredentialsAreClassified(t *testing.T) {
	for name, spoil := range map[string]func(*v1alpha1.APIServerCredentials){
		"no credentials":  func(c *v1alpha1.APIServerCredentials) { *c = v1alpha1.APIServerCredentials{} },
		"no API server":   func(c *v1alpha1.APIServerCredentials) { c.APIServerURL = "" },
		"http":            func(c *v1alpha1.APIServerCredentials) { c.APIServerURL = "http://127.0.0.1" },
		"no CA":           func(c *v1alpha1.APIServerCredentials) { c.CACert = "" },
		"no PEM":          func(c *v1alpha1.APIServerCredentials) { c.CACert = "Y2E=" },
		"another's key":   func(c *v1alpha1.APIServerCredentials) { c.ClientKey = pki.Encode(pki.PKCS8(pki.ECDSAKey())) },
		"secrets dropped": func(c *v1alpha1.APIServerCredentials) { c.ClientKey = v1alpha1.Redacted },
	} {
		t.Run(name, func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "prod")
			c := newCluster(t, dp, remote.Options{})
			spoil(&dp.Spec.KubernetesCluster.Credentials)
			_, err := remote.NewCluster(dp, remote.Options{})
			assertClassified(t, remote.ReachabilityInvalidCredentials, err)
			assertClassified(t, remote.ReachabilityInvalidCredentials, c.Update(dp))
			assertClassified(t, remote.ReachabilityInvalidCredentials, c.Probe(t.Context()))
			_, err = get(t.Context(), c, "/")
			assertClassified(t, remote.ReachabilityInvalidCredentials, err)
		})
	}
}

func TestClassify(t *testing.T) {
	resource := schema.GroupResource{Resource: "configmaps"}
	for want, errs := range map[remote.Reachability][]error{
		remote.ReachabilityReachable: {
			nil, apierrors.NewNotFound(resource, "x"), apierrors.NewConflict(resource, "x", nil),
			apierrors.NewTooManyRequests("slow down", 1), apierrors.NewBadRequest("bad"),
		},
		remote.ReachabilityUnauthorized: {apierrors.NewUnauthorized("who")},
		remote.ReachabilityForbidden:    {apierrors.NewForbidden(resource, "x", nil)},
		remote.ReachabilityNotReady: {
			apierrors.NewServiceUnavailable("starting"), apierrors.NewInternalError(errors.New("oops")),
		},
		remote.ReachabilityTimeout: {
			context.DeadlineExceeded, apierrors.NewTimeoutError("slow", 1), os.ErrDeadlineExceeded,
		},
		remote.ReachabilityClosed:     {remote.ErrClosed},
		remote.ReachabilityRedirected: {&apierrors.StatusError{ErrStatus: metav1.Status{Code: 302}}},
		remote.ReachabilityRefused: {
			errors.New("http2: server sent GOAWAY and closed the connection"),
			errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer"),
			syscall.ECONNREFUSED, syscall.ECONNRESET, io.ErrUnexpectedEOF, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH},
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)},
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)},
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EINVAL)},
		},
		remote.ReachabilityDNSFailure: {&net.DNSError{IsTimeout: true}},
		remote.ReachabilityTLSFailure: {
			x509.HostnameError{}, x509.UnknownAuthorityError{}, x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign},
		},
		remote.ReachabilityUnknown: {
			context.Canceled, errors.New("else"), remote.ErrRotated,
			&os.PathError{Op: "open", Path: "token", Err: syscall.EACCES},
			&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)},
		},
	} {
		for _, err := range errs {
			assertClassified(t, want, err)
			if err != nil {
				assertClassified(t, want, fmt.Errorf("wrapped: %w", &url.Error{Op: "Get", Err: err}))
			}
		}
	}
}
