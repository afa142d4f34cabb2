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

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testpki"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func assertClassified(t testing.TB, want remote.Reachability, err error) {
	t.Helper()
	assert.Equal(t, want, remote.Classify(err), "%v", err)
}

func TestProbe(t *testing.T) {
	for name, test := range map[string]struct {
		readyz, healthz int
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
	} {
		t.Run(name, func(t *testing.T) {
			server := testpki.NewServer(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/prefix/readyz":
					w.WriteHeader(test.readyz)
				case "/prefix/healthz":
					w.WriteHeader(test.healthz)
				default:
					w.WriteHeader(http.StatusTeapot)
				}
				_, _ = io.WriteString(w, "[-]etcd failed: reason withheld")
			})
			dp := server.DataPlane("prod", "alice")
			dp.Spec.KubernetesCluster.Credentials.APIServerURL += "/prefix/"
			err := newCluster(t, dp, remote.Options{}).Probe(t.Context())
			assertClassified(t, test.want, err)
			if test.want == remote.ReachabilityNotReady {
				assert.ErrorContains(t, err, "etcd failed")
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
	server := testpki.NewServer(t, testpki.WhoAmI)
	dead := testpki.NewServer(t, testpki.WhoAmI)
	dead.Close()
	deadURL, err := url.Parse(dead.URL)
	require.NoError(t, err)
	mute := listen(t, nil)
	reset := listen(t, func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	})
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	plain.Config.ErrorLog = log.New(io.Discard, "", 0)
	key := testpki.ECDSAKey(t)
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
			ca: testpki.Encode(testpki.Certificates(testpki.New(t).Cert)), want: remote.ReachabilityTLSFailure, says: "unknown authority",
		},
		"refused": {server: dead.URL, want: remote.ReachabilityRefused},
		"no such name": {
			server: "https://no-such-host.invalid", want: remote.ReachabilityDNSFailure, or: remote.ReachabilityTimeout,
		},
		"no TLS at all": {server: strings.Replace(plain.URL, "http:", "https:", 1), want: remote.ReachabilityTLSFailure},
		"no handshake":  {server: "https://" + mute.Addr().String(), want: remote.ReachabilityTimeout},
		"reset":         {server: "https://" + reset.Addr().String(), want: remote.ReachabilityRefused},
		"another name": {
			options: serverName("other.example.org"), want: remote.ReachabilityTLSFailure, says: "other.example.org",
		},
		"name as told": {options: serverName("example.com"), want: remote.ReachabilityReachable},
		"policy": {
			options: remote.Options{DialControl: denyAddress}, want: remote.ReachabilityUnknown, says: "address is not allowed",
		},
		"proxy is gone": {
			options: editConfig(func(config *rest.Config) { config.Proxy = http.ProxyURL(deadURL) }), want: remote.ReachabilityRefused,
		},
		"client expired": {
			cert: server.Clients.Issue(key, testpki.Expired), want: remote.ReachabilityCertificateExpired, says: "client certificate expired at",
		},
		// In TLS 1.3, the server says so after the handshake, if it comes to that.
		"unknown to server": {
			cert: testpki.New(t).Issue(key), want: remote.ReachabilityTLSFailure, or: remote.ReachabilityRefused,
		},
		"all is well": {want: remote.ReachabilityReachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert := test.cert
			if cert == nil {
				cert = server.Clients.Issue(key)
			}
			dp := server.DataPlaneWith("prod", cert, key)
			creds := &dp.Spec.KubernetesCluster.Credentials
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

func TestProbeTellsThatTheServersCertificateHasExpired(t *testing.T) {
	a, key := testpki.New(t), testpki.ECDSAKey(t)
	server := testpki.NewServer(t, testpki.WhoAmI, func(s *httptest.Server) {
		certificate := a.Issue(key, testpki.Expired, func(c *x509.Certificate) {
			c.ExtKeyUsage, c.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []net.IP{net.IPv4(127, 0, 0, 1)}
		})
		s.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}
	})
	dp := server.DataPlane("prod", "alice")
	dp.Spec.KubernetesCluster.Credentials.CACert = testpki.Encode(testpki.Certificates(a.Cert))
	assertClassified(t, remote.ReachabilityCertificateExpired, newCluster(t, dp, remote.Options{}).Probe(t.Context()))
}

// A server that no longer accepts a certificate: the connection that is open goes on, and
// a rotated certificate is accepted, through the same Cluster.
func TestARevokedCertificateIsReplaced(t *testing.T) {
	var revoked atomic.Value
	revoked.Store("")
	server := testpki.NewServer(t, testpki.WhoAmI, func(s *httptest.Server) {
		s.TLS.VerifyPeerCertificate = func(_ [][]byte, chains [][]*x509.Certificate) error {
			if chains[0][0].Subject.CommonName == revoked.Load() {
				return errors.New("revoked")
			}
			return nil
		}
	})
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, remote.Options{})
	require.NoError(t, c.Probe(t.Context()))
	revoked.Store("alice")
	require.NoError(t, c.Probe(t.Context()), "over the connection that is open")
	server.CloseClientConnections()
	var err error
	require.Eventually(t, func() bool { err = c.Probe(t.Context()); return err != nil }, 10*time.Second, time.Millisecond)
	assert.Contains(t, []remote.Reachability{remote.ReachabilityTLSFailure, remote.ReachabilityRefused}, remote.Classify(err), "%v", err)
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	require.NoError(t, c.Probe(t.Context()))
}

func TestTheCallersContextStaysTheCallers(t *testing.T) {
	arrived := make(chan struct{})
	server := testpki.NewServer(t, func(_ http.ResponseWriter, r *http.Request) {
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
		},
		remote.ReachabilityDNSFailure: {&net.DNSError{IsTimeout: true}},
		remote.ReachabilityTLSFailure: {
			x509.HostnameError{}, x509.UnknownAuthorityError{}, x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign},
		},
		remote.ReachabilityUnknown: {context.Canceled, errors.New("else"), remote.ErrRotated},
	} {
		for _, err := range errs {
			assertClassified(t, want, err)
			if err != nil {
				assertClassified(t, want, fmt.Errorf("wrapped: %w", &url.Error{Op: "Get", Err: err}))
			}
		}
	}
}
