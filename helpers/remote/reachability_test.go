// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

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
			winsock("connectex", 10060), winsock("wsarecv", 10060),
		},
		remote.ReachabilityClosed:     {remote.ErrClosed},
		remote.ReachabilityRedirected: {&apierrors.StatusError{ErrStatus: metav1.Status{Code: 302}}},
		remote.ReachabilityRefused: {
			errors.New("http2: server sent GOAWAY and closed the connection"),
			errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer"),
			syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ENETDOWN, syscall.ENETRESET, io.ErrUnexpectedEOF,
			&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH},
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)},
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)},
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EINVAL)},
			winsock("wsarecv", 10052), winsock("wsarecv", 10053), // reset by the network, aborted
			winsock("wsarecv", 10054), winsock("wsasend", 10054), // reset
			syscall.Errno(10050), syscall.Errno(10051), // network down, unreachable
			syscall.Errno(10061), syscall.Errno(10065), // refused, host unreachable
			winsock("connectex", 10013), // no access, as syscall.EACCES
		},
		remote.ReachabilityDNSFailure: {&net.DNSError{IsTimeout: true}},
		remote.ReachabilityTLSFailure: {
			x509.HostnameError{}, x509.UnknownAuthorityError{}, x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign},
		},
		remote.ReachabilityUnknown: {
			context.Canceled, errors.New("else"), remote.ErrRotated,
			&os.PathError{Op: "open", Path: "token", Err: syscall.EACCES},
			&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)},
			winsock("socket", 10024), // too many open sockets
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

// winsock returns an error of a system call on Windows.
func winsock(call string, number syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError(call, number)}
}

func TestTLSErrorsOfThisSideAreTLSFailures(t *testing.T) {
	authority, key := pki.New(), pki.ECDSAKey()
	garbled := tls.Certificate{Certificate: [][]byte{[]byte("no certificate")}, PrivateKey: key}
	good := tls.Certificate{PrivateKey: key, Certificate: [][]byte{authority.Issue("server", key, func(c *x509.Certificate) {
		c.ExtKeyUsage, c.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}).Raw}}
	for name, test := range map[string]struct {
		serve func(net.Conn)
		says  string
	}{
		"bad record MAC": {func(conn net.Conn) {
			if tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{good}}).Handshake() == nil {
				_, _ = conn.Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
			}
			_, _ = io.Copy(io.Discard, conn)
		}, "bad record MAC"},
		"certificate that can't be parsed": {func(conn net.Conn) {
			_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{garbled}}).Handshake()
		}, "failed to parse certificate"},
		"protocol version": {func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1<<10))
			hello := append([]byte{22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 2}, make([]byte, 33)...) // of TLS 1.1
			_, _ = conn.Write(append(hello, 0xc0, 0x2f, 0))
			_, _ = io.Copy(io.Discard, conn)
		}, "unsupported protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			listener := listen(t, func(conn net.Conn) {
				defer conn.Close()
				test.serve(conn)
			})
			dp := dataplanetest.DataPlane("default", "prod")
			creds := &dp.Spec.KubernetesCluster.Credentials
			creds.APIServerURL = "https://" + listener.Addr().String()
			creds.CACert = pki.Encode(pki.Certificates(authority.Cert))
			err := newCluster(t, dp, remote.Options{}).Probe(t.Context())
			require.ErrorContains(t, err, test.says)
			assertClassified(t, remote.ReachabilityTLSFailure, err)
		})
	}
}

func TestCredentialsOfConfigForThatCannotBeUsedAreInvalidCredentials(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for name, edit := range map[string]func(*rest.Config){
		"no PEM":            func(config *rest.Config) { config.CertData = []byte("no PEM") },
		"no key":            func(config *rest.Config) { config.KeyData = nil }, // to client-go, the user is anonymous
		"no certificate":    func(config *rest.Config) { config.CertData = nil },
		"no file":           func(config *rest.Config) { config.CAData, config.CAFile = nil, missing },
		"no file of tokens": func(config *rest.Config) { config.BearerTokenFile = missing },
		"two users":         func(config *rest.Config) { config.Username, config.BearerToken = "a", "b" },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod"), editConfig(edit))
			assertClassified(t, remote.ReachabilityInvalidCredentials, err)
		})
	}
}

// The result is the same for NewCluster and for Update.
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

func TestGatewaysThatCannotBeUsedAreInvalidCredentials(t *testing.T) {
	dp := dataplanetest.ClusterDataPlane("prod").AsDataPlane()
	for name, gateway := range map[string]*rest.Config{
		"no gateway": nil, "no host": {}, "http": {Host: "http://gateway"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := remote.NewCluster(dp, remote.Options{ConfigFor: helpers.ConfigFor(gateway)})
			require.ErrorContains(t, err, "gateway")
			assertClassified(t, remote.ReachabilityInvalidCredentials, err)
		})
	}
}

func TestDiscoveryThatFailsInPartIsClassifiedByItsWorstGroup(t *testing.T) {
	for name, test := range map[string]struct {
		groups map[string]int
		want   remote.Reachability
	}{
		"one not ready":                {map[string]int{"a": 200, "b": 503}, remote.ReachabilityNotReady},
		"one forbidden":                {map[string]int{"a": 200, "b": 403}, remote.ReachabilityForbidden},
		"one not ready, one forbidden": {map[string]int{"a": 403, "b": 503, "c": 403}, remote.ReachabilityNotReady},
		"one without an answer":        {map[string]int{"a": 403, "b": 503, "c": 0}, remote.ReachabilityRefused},
	} {
		t.Run(name, func(t *testing.T) {
			server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.URL.Path == "/api" {
					_, _ = io.WriteString(w, `{"kind":"APIVersions","apiVersion":"v1"}`)
					return
				}
				list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
				for group, status := range test.groups {
					version := metav1.GroupVersionForDiscovery{GroupVersion: group + "/v1", Version: "v1"}
					list.Groups = append(list.Groups, metav1.APIGroup{
						Name: group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
					})
					switch {
					case r.URL.Path != "/apis/"+group+"/v1":
					case status == 0:
						panic(http.ErrAbortHandler)
					case status == http.StatusOK:
						_, _ = io.WriteString(w, `{"kind":"APIResourceList","apiVersion":"v1"}`)
						return
					default:
						dataplanetest.Status(status).ServeHTTP(w, r)
						return
					}
				}
				assert.NoError(t, json.NewEncoder(w).Encode(list))
			})
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
			client, err := discovery.NewDiscoveryClientForConfigAndClient(c.Config(), c.HTTPClient())
			require.NoError(t, err)
			_, _, err = client.ServerGroupsAndResources()
			require.ErrorIs(t, err, &discovery.ErrGroupDiscoveryFailed{})
			assertClassified(t, test.want, err)
		})
	}
}

// A Reachability without a rank would be Unknown in discovery that failed in part.
func TestEachReachabilityHasARank(t *testing.T) {
	source, err := os.ReadFile("reachability.go")
	require.NoError(t, err)
	var declared []remote.Reachability
	for _, constant := range regexp.MustCompile(`(?m)^\tReachability\w+ +Reachability = "(\w+)"$`).FindAllSubmatch(source, -1) {
		declared = append(declared, remote.Reachability(constant[1]))
	}
	require.Contains(t, declared, remote.ReachabilityUnknown)
	assert.ElementsMatch(t, declared, remote.WorstFirst)
}

// Probe and other requests are classified alike, so that Probe is never nil where others fail.
func TestReachabilityThroughTheGateway(t *testing.T) {
	prod := dataplanetest.ClusterDataPlane("prod").AsDataPlane()
	server := dataplanetest.NewServer(nil)
	t.Cleanup(server.Close)
	const oneRequest = "the cluster gateway answers 429" // an error of one request, except of a Probe
	for name, test := range map[string]struct {
		prepare func(*dataplanetest.Gateway)
		edit    func(*rest.Config)
		want    remote.Reachability
		says    string
	}{
		"an agent":    {want: remote.ReachabilityReachable},
		"no agent":    {prepare: func(g *dataplanetest.Gateway) { g.Disconnect("prod") }, want: remote.ReachabilityNoAgent, says: "no agents found"},
		"a wrong one": {prepare: func(g *dataplanetest.Gateway) { g.Refuse(prod) }, want: remote.ReachabilityNoAgent, says: "not authorized"},
		"an agent that hangs": {
			prepare: func(g *dataplanetest.Gateway) {
				g.SetTimeout(time.Millisecond)
				g.Connect("prod", dataplanetest.Hang())
			},
			want: remote.ReachabilityTimeout, says: "did not answer in time",
		},
		"an API server that is gone": {
			prepare: func(g *dataplanetest.Gateway) {
				g.Connect("prod", dataplanetest.Agent(&rest.Config{Host: "http://127.0.0.1:1"}))
			},
			want: remote.ReachabilityNotReady, says: "can't reach its API server",
		},
		"a gateway that refuses every request": {
			edit: func(c *rest.Config) {
				c.Wrap(func(http.RoundTripper) http.RoundTripper {
					return roundTripper(func(*http.Request) (*http.Response, error) {
						return &http.Response{StatusCode: http.StatusTooManyRequests}, nil
					})
				})
			},
			want: remote.ReachabilityNotReady, says: oneRequest,
		},
		"a wrong port": {edit: func(c *rest.Config) { c.Host += "/elsewhere" }, want: remote.ReachabilityNotReady, says: "8444"},
		"an API server that forbids": {
			prepare: func(g *dataplanetest.Gateway) { g.Connect("prod", dataplanetest.Status(http.StatusForbidden)) },
			want:    remote.ReachabilityForbidden,
		},
		"an API server that is not ready": {
			prepare: func(g *dataplanetest.Gateway) { g.Connect("prod", dataplanetest.Status(http.StatusServiceUnavailable)) },
			want:    remote.ReachabilityNotReady, says: "the API server answers 503",
		},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := dataplanetest.NewGateway()
			defer gateway.Close()
			gateway.Connect("prod", dataplanetest.Agent(server.Config("agent")))
			if test.prepare != nil {
				test.prepare(gateway)
			}
			through := gateway.Config()
			if test.edit != nil {
				test.edit(through)
			}
			cluster, err := remote.NewCluster(prod, remote.Options{ConfigFor: helpers.ConfigFor(through)})
			require.NoError(t, err)
			defer cluster.Close()

			client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
			require.NoError(t, err)
			_, err = client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
			assert.Equal(t, test.want, remote.Classify(err), "%v", err)
			byGateway := test.says != "" && !strings.HasPrefix(test.says, "the API server")
			if byGateway && test.says != oneRequest {
				assert.Contains(t, cluster.Status().LastError, test.says)
			}
			if test.want != remote.ReachabilityReachable { // the server has no namespaces
				assert.False(t, apierrors.IsNotFound(err))
				pods := client.CoreV1().Pods("default")
				for request, send := range map[string]func() error{
					"version": func() error { _, err := client.Discovery().ServerVersion(); return err },
					"groups":  func() error { _, err := client.Discovery().ServerGroups(); return err },
					"kinds":   func() error { _, err := client.Discovery().ServerResourcesForGroupVersion("apps/v1"); return err },
					"log": func() error {
						_, err := pods.GetLogs("app", &corev1.PodLogOptions{}).DoRaw(t.Context())
						return err
					},
					"log as a stream": func() error {
						_, err := pods.GetLogs("app", &corev1.PodLogOptions{}).Stream(t.Context())
						return err
					},
				} {
					err := send()
					assert.Equal(t, test.want, remote.Classify(err), "%s: %v", request, err)
					if byGateway && test.says != oneRequest && test.want != remote.ReachabilityTimeout { // client-go hides the text of 429 and 504
						assert.ErrorContains(t, err, test.says, request)
					}
				}
			}

			err = cluster.Probe(t.Context())
			if test.want == remote.ReachabilityForbidden {
				assert.NoError(t, err, "Forbidden is an answer to Probe")
				return
			}
			assert.Equal(t, test.want, remote.Classify(err), "%v", err)
			assert.Equal(t, test.want, cluster.Status().Reachability)
			if test.says == "" {
				return
			}
			assert.ErrorContains(t, err, "data plane prod: ")
			assert.ErrorContains(t, err, test.says)
			if test.want != remote.ReachabilityNotReady || test.edit != nil {
				assert.NotContains(t, err.Error(), "the API server answers", "the gateway did")
			}
		})
	}
}

// A request that finds its connection cut fails all others on it.
func TestRequestsOnOneCutConnectionAreRefused(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		testserver.WhoAmI(w, r)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range 12 {
		running.Add(1)
		go func() {
			defer running.Done()
			for ctx.Err() == nil {
				var err error
				switch i % 3 {
				case 0:
					err = c.Probe(t.Context())
				case 1:
					_, err = get(t.Context(), c, "/api/v1/pods")
				case 2:
					_, err = send(c, http.MethodPost, "/api/v1/pods", strings.NewReader(strings.Repeat("x", 200_000)))
				}
				if err != nil {
					assertClassified(t, remote.ReachabilityRefused, err)
				}
			}
		}()
	}
	for range 40 {
		time.Sleep(50 * time.Millisecond)
		server.CutConnections()
	}
	stop()
	running.Wait()
}
