// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

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

func TestErrorsOfProbeAreClassified(t *testing.T) {
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
		"expected name": {options: serverName("kubernetes.default.svc"), want: remote.ReachabilityReachable},
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
		// A server of TLS 1.3 sends its alert after the handshake; the connection may be reset
		// first.
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

// newStrictServer starts a server whose TLS refuses clients. API servers answer them with a 401.
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

func TestProbeReportsAnExpiredServerCertificate(t *testing.T) {
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

// When a server no longer accepts a certificate, the open connection continues, and the same
// Cluster connects with a rotated certificate.
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

// resolve gives every name these addresses until the test ends.
func resolve(t *testing.T, addresses ...string) {
	t.Helper()
	usual := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = usual })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			length := make([]byte, 2)
			if _, err := io.ReadFull(server, length); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(length))
			if _, err := io.ReadFull(server, query); err != nil {
				return
			}
			end := 12 // of the question: the name, its type and its class
			for query[end] != 0 {
				end += 1 + int(query[end])
			}
			end += 5
			answer := append([]byte{0, 0, query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
			if query[end-3] == 1 { // IPv4
				answer[9] = byte(len(addresses))
				for _, address := range addresses {
					answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
					answer = append(answer, netip.MustParseAddr(address).AsSlice()...)
				}
			}
			binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
			_, _ = server.Write(answer)
		}()
		return client, nil
	}}
}

func TestProbeReachesTheThirdAddressOfAName(t *testing.T) {
	resolve(t, "127.0.0.2", "127.0.0.3", "127.0.0.1")
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.APIServerURL = strings.Replace(creds.APIServerURL, "127.0.0.1", "api.example.org", 1)
	options := editConfig(func(config *rest.Config) { config.ServerName = "kubernetes.default.svc" })
	options.DialControl = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		if strings.HasPrefix(address, "127.0.0.1:") {
			return nil
		}
		<-ctx.Done() // as long as an address that doesn't answer would take
		return ctx.Err()
	}
	require.NoError(t, newCluster(t, dp, options).Probe(t.Context()))
}

func TestProbeTakesAnyDialTimeout(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	for _, limit := range []time.Duration{-1, time.Minute, math.MaxInt64} {
		require.NoError(t, newCluster(t, server.DataPlane("prod", "alice"), remote.Options{DialTimeout: limit}).Probe(t.Context()))
	}
}

func TestOnlyAProbeIsTriedAgainWhenItsReusedConnectionIsCut(t *testing.T) {
	for name, request := range map[string]struct {
		do   func(*remote.Cluster) error
		want remote.Reachability
		sent int32 // after the first request
	}{
		"Probe": {
			do: func(c *remote.Cluster) error { return c.Probe(t.Context()) }, want: remote.ReachabilityReachable, sent: 2,
		},
		"another request": {
			do: func(c *remote.Cluster) error { _, err := get(t.Context(), c, "/"); return err }, want: remote.ReachabilityRefused, sent: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var server *testserver.Server
			var sent atomic.Int32
			server = testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
				if sent.Add(1) == 2 {
					go server.CutConnections()
					<-r.Context().Done()
				}
				testserver.WhoAmI(w, r)
			})
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
			require.NoError(t, c.Probe(t.Context()))
			assertClassified(t, request.want, request.do(c))
			assert.Equal(t, 1+request.sent, sent.Load())
		})
	}
}

func TestAProbeWhoseNewConnectionIsCutIsNotTriedAgain(t *testing.T) {
	var accepted atomic.Int32
	cutting := listen(t, func(conn net.Conn) {
		accepted.Add(1)
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	})
	dp := dataplanetest.DataPlane("default", "prod")
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + cutting.Addr().String()
	assertClassified(t, remote.ReachabilityRefused, newCluster(t, dp, remote.Options{}).Probe(t.Context()))
	assert.EqualValues(t, 1, accepted.Load())
}

func TestProbeShowsTheMessageOfAStatusOnly(t *testing.T) {
	server := testserver.New(t, dataplanetest.Status(http.StatusServiceUnavailable).ServeHTTP)
	err := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{}).Probe(t.Context())
	assertClassified(t, remote.ReachabilityNotReady, err)
	assert.ErrorContains(t, err, "the API server answers 503: ")
	assert.NotContains(t, err.Error(), "{")
}
