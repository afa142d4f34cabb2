// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestAnUpgradeThatNobodyAskedForFails(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api/v1/pods", "/api/v1/pods?watch=true", "/api/v1/namespaces/x/pods/y/exec"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			closed := make(chan error, 1)
			server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, buffered, err := w.(http.Hijacker).Hijack()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				_, err = buffered.ReadByte()
				closed <- err
			}, func(s *httptest.Server) { s.EnableHTTP2 = false })
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
			result := make(chan error, 1)
			go func() {
				_, err := get(t.Context(), c, path)
				result <- err
			}()
			err := testserver.Receive(t, result)
			require.ErrorContains(t, err, "data plane default/prod: the server switches protocols without being asked")
			assertClassified(t, remote.ReachabilityNotReady, err)
			require.Error(t, testserver.Receive(t, closed), "the connection is closed")
		})
	}
}

func TestRedirectsAreRefused(t *testing.T) {
	elsewhere := testserver.New(t, testserver.WhoAmI)
	for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		for _, target := range []string{elsewhere.URL(), strings.Replace(elsewhere.URL(), "https:", "http:", 1)} {
			server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, target+"/login?token=hunter2", code)
			})
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
			client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
			require.NoError(t, err)
			configMaps := client.CoreV1().ConfigMaps("x")
			for _, request := range []func(ctx context.Context) error{
				c.Probe,
				func(ctx context.Context) error {
					_, err := configMaps.Create(ctx, &corev1.ConfigMap{}, metav1.CreateOptions{})
					return err
				},
				func(ctx context.Context) error {
					_, err := configMaps.Watch(ctx, metav1.ListOptions{})
					return err
				},
				func(ctx context.Context) error {
					_, err := client.CoreV1().Pods("x").GetLogs("y", &corev1.PodLogOptions{Follow: true}).Stream(ctx)
					return err
				},
			} {
				err := request(t.Context())
				assertClassified(t, remote.ReachabilityRedirected, err)
				assert.NotContains(t, err.Error(), "hunter2", "what the server wants shown is not")
			}
		}
	}
	assert.Zero(t, elsewhere.Accepted())
}

func TestAProxiedServiceMayRedirectItsClient(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/login", http.StatusFound)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	resp, err := open(t.Context(), c, "/api/v1/namespaces/x/services/y/proxy/")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusFound, resp.StatusCode)
	assert.True(t, strings.HasSuffix(resp.Header.Get("Location"), "/login"))
}

// page answers with a page of a captive portal or a firewall.
func page(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><body>Please sign in</body></html>")
	}
}

func TestAPageIsNoAnswerOfAnAPIServer(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusBadGateway} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			server := testserver.New(t, page(status))
			dp := server.DataPlane("prod", "alice")
			c := newCluster(t, dp, remote.Options{})
			client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
			require.NoError(t, err)
			pods := client.CoreV1().Pods("default")
			_, getErr := pods.Get(t.Context(), "a", metav1.GetOptions{})
			_, listErr := pods.List(t.Context(), metav1.ListOptions{})
			_, watchErr := pods.Watch(t.Context(), metav1.ListOptions{})
			_, versionErr := client.Discovery().ServerVersion()
			for request, err := range map[string]error{
				"probe": c.Probe(t.Context()), "get": getErr, "list": listErr, "watch": watchErr, "version": versionErr,
				"delete": pods.Delete(t.Context(), "a", metav1.DeleteOptions{}),
			} {
				require.Error(t, err, request)
				assertClassified(t, remote.ReachabilityNotReady, err)
				assert.ErrorContains(t, err, fmt.Sprintf("the server answers %d with a page of HTML", status), request)
				assert.NotContains(t, err.Error(), "DOCTYPE", request)
			}

			if status == http.StatusOK {
				return
			}
			config, err := helpers.RESTConfigFor(dp)
			require.NoError(t, err)
			client, err = kubernetes.NewForConfig(config)
			require.NoError(t, err)
			_, err = client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
			assertClassified(t, remote.ReachabilityNotReady, err)
		})
	}
}

func TestPagesThatComeThroughAnAPIServerPass(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/debug/pprof/" {
			w.Header().Set("Audit-Id", "b8a8c9b1-6c1c-4b5b-8a55-2f2a4d2f3f5e")
		}
		page(http.StatusOK)(w, r)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	for name, path := range map[string]string{
		"of a proxied service": "/api/v1/namespaces/x/services/web/proxy/",
		"of the server's own":  "/debug/pprof/",
	} {
		t.Run(name, func(t *testing.T) {
			body, err := get(t.Context(), c, path)
			require.NoError(t, err)
			assert.Contains(t, body, "Please sign in")
		})
	}
}

func notYetValid(template *x509.Certificate) {
	template.NotBefore, template.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
}

// The API server answers an ordinary 401 to all of them.
func TestARefusalSaysThatTheCertificateIsNotValidNow(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	clients, key := pki.New(), pki.ECDSAKey()
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		says  string
		date  func(*x509.Certificate) time.Time
	}{
		"expired": {
			[]*x509.Certificate{clients.Issue("alice", key, pki.Expired)},
			"client certificate expired at ",
			func(c *x509.Certificate) time.Time { return c.NotAfter },
		},
		"not valid yet": {
			[]*x509.Certificate{clients.Issue("alice", key, notYetValid)},
			"client certificate is not valid before ",
			func(c *x509.Certificate) time.Time { return c.NotBefore },
		},
		"expired intermediate": {
			[]*x509.Certificate{clients.Issue("alice", key), clients.Issue("intermediate", key, pki.Expired)},
			"intermediate of the client certificate expired at ",
			func(c *x509.Certificate) time.Time { return c.NotAfter },
		},
		"intermediate that is not valid yet": {
			[]*x509.Certificate{clients.Issue("alice", key), clients.Issue("intermediate", key, notYetValid)},
			"intermediate of the client certificate is not valid before ",
			func(c *x509.Certificate) time.Time { return c.NotBefore },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := server.DataPlane("prod", "alice")
			creds := &dp.Spec.KubernetesCluster.Credentials
			creds.ClientCert, creds.ClientKey = pki.Encode(pki.Certificates(test.chain...)), pki.Encode(pki.PKCS8(key))
			c := newCluster(t, dp, remote.Options{})
			want := "data plane default/prod: " + test.says +
				test.date(test.chain[len(test.chain)-1]).UTC().Format(time.RFC3339) + ": "
			err := c.Probe(t.Context())
			assertClassified(t, remote.ReachabilityCertificateExpired, err)
			assert.Equal(t, want+"the API server does not accept the credentials", err.Error())

			typed, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
			require.NoError(t, err)
			untyped, err := dynamic.NewForConfigAndClient(c.Config(), c.HTTPClient())
			require.NoError(t, err)
			_, getErr := typed.CoreV1().Pods("x").Get(t.Context(), "a", metav1.GetOptions{})
			_, watchErr := typed.CoreV1().Pods("x").Watch(t.Context(), metav1.ListOptions{})
			_, dynamicErr := untyped.Resource(v1alpha1.SchemeGroupVersion.WithResource("dataplanes")).List(t.Context(), metav1.ListOptions{})
			for _, err := range []error{getErr, watchErr, dynamicErr} {
				require.True(t, apierrors.IsUnauthorized(err), "%v", err)
				assert.Equal(t, want+"Unauthorized", err.Error())
				assertClassified(t, remote.ReachabilityCertificateExpired, err)
			}
			c.Close()
			server.RequireNoConnections()
		})
	}
}

func TestA401ThatIsNotAboutTheCertificateStaysAsItIs(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "sign in to the service")
	})
	clients, key := pki.New(), pki.ECDSAKey()
	expired := server.DataPlane("prod", "alice")
	creds := &expired.Spec.KubernetesCluster.Credentials
	for name, test := range map[string]struct {
		cert *x509.Certificate
		path string
	}{
		"of a good certificate": {nil, "/api/v1/pods"},
		"of a proxied service":  {clients.Issue("alice", key, pki.Expired), "/api/v1/namespaces/x/services/web/proxy/"},
	} {
		t.Run(name, func(t *testing.T) {
			dp := server.DataPlane("prod", "alice")
			if test.cert != nil {
				creds.ClientCert, creds.ClientKey = pki.Encode(pki.Certificates(test.cert)), pki.Encode(pki.PKCS8(key))
				dp = expired
			}
			resp, err := open(t.Context(), newCluster(t, dp, remote.Options{}), test.path)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.NotContains(t, string(body), "data plane")
		})
	}
}

func TestA401OfAProxiedServiceStaysAsItIs(t *testing.T) {
	server := testserver.New(t, unauthorized)
	c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(errors.New("no such Secret"), func(*rest.Config) {}))
	body, err := get(t.Context(), c, "/api/v1/namespaces/x/services/web/proxy/")
	require.ErrorContains(t, err, "401")
	assert.Equal(t, "sign in to the service", body)
}

func TestA401WithoutHeadersIsExplained(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(errors.New("no such Secret"), func(config *rest.Config) {
		config.Wrap(func(http.RoundTripper) http.RoundTripper {
			return roundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusUnauthorized}, nil
			})
		})
	}))
	body, err := get(t.Context(), c, "/")
	require.ErrorContains(t, err, "401")
	assert.Contains(t, body, "no such Secret")
}

func TestAHeadThatIsRefusedHasNoBody(t *testing.T) {
	server := testserver.New(t, unauthorized)
	c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(errors.New("no such Secret"), func(*rest.Config) {}))
	body, err := send(c, http.MethodHead, "/", nil)
	require.NoError(t, err)
	assert.Empty(t, body)
}

func TestRetryAfterIsCapped(t *testing.T) {
	var status atomic.Int32
	var retryAfter atomic.Value
	server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", retryAfter.Load().(string))
		w.WriteHeader(int(status.Load()))
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	for _, test := range []struct {
		status     int
		sent, want string
	}{
		{http.StatusServiceUnavailable, "3600", "32"},
		{http.StatusTooManyRequests, "33", "32"},
		{http.StatusInternalServerError, "3600", "32"}, // client-go waits for it too
		{http.StatusServiceUnavailable, "32", "32"},
		{http.StatusTooManyRequests, "1", "1"},
		{http.StatusServiceUnavailable, "", ""},
		{http.StatusServiceUnavailable, "Fri, 31 Dec 2100 23:59:59 GMT", "Fri, 31 Dec 2100 23:59:59 GMT"}, // client-go reads no dates
		{http.StatusAccepted, "3600", "3600"},
	} {
		status.Store(int32(test.status))
		retryAfter.Store(test.sent)
		resp, err := open(t.Context(), c, "/api/v1/pods")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, test.want, resp.Header.Get("Retry-After"), "%d with %q", test.status, test.sent)
	}
}
