// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func unauthorized(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, "sign in to the service")
}

// afterNewCluster makes ConfigFor fail from its second call on.
func afterNewCluster(err error, edit func(*rest.Config)) remote.Options {
	options := editConfig(edit)
	configFor, calls := options.ConfigFor, 0
	options.ConfigFor = func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		if calls++; calls > 1 {
			return nil, err
		}
		return configFor(dp)
	}
	return options.WithAsking(never, never)
}

func TestReadsThatAreRefusedTogetherAskOnce(t *testing.T) {
	const reads = 10
	api, arrived, release := &accepts{}, make(chan struct{}, reads), make(chan struct{})
	api.token.Store("new")
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer old" {
			arrived <- struct{}{}
			<-release
		}
		api.serve(w, r)
	})
	secret := &tokens{token: "old"}
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		if secret.count() > 0 {
			time.Sleep(50 * time.Millisecond) // the other reads are refused within this
		}
		return secret.configFor(dp)
	}}.WithAsking(never, never))
	secret.set("new", nil)
	results := make(chan error, reads)
	for range reads {
		go func() {
			_, err := get(t.Context(), c, "/")
			results <- err
		}()
	}
	for range reads {
		testserver.Receive(t, arrived)
	}
	close(release)
	for range reads {
		require.NoError(t, testserver.Receive(t, results))
	}
	assert.Equal(t, 2, secret.count())
}

func TestEachRefusalHasTheErrorOfConfigFor(t *testing.T) {
	server := testserver.New(t, unauthorized)
	c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(errors.New("no such Secret"), func(*rest.Config) {}))
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	for range 2 { // which ask ConfigFor once
		_, err = client.CoreV1().Pods("x").Get(t.Context(), "a", metav1.GetOptions{})
		require.True(t, apierrors.IsUnauthorized(err), "%v", err)
		require.EqualError(t, err, "data plane default/prod: Unauthorized; asked for other credentials: no such Secret")
		err = c.Probe(t.Context())
		assertClassified(t, remote.ReachabilityUnauthorized, err)
		require.EqualError(t, err, "data plane default/prod: the API server does not accept the credentials; asked for other credentials: no such Secret")
	}
}

func TestTheErrorOfConfigForHidesNoReason(t *testing.T) {
	noSecret := errors.New("no such Secret")
	t.Run("an expired certificate", func(t *testing.T) {
		server := testserver.New(t, testserver.WhoAmI)
		dp := server.DataPlane("prod", "alice")
		key := pki.ECDSAKey()
		creds := &dp.Spec.KubernetesCluster.Credentials
		creds.ClientCert = pki.Encode(pki.Certificates(pki.New().Issue("alice", key, pki.Expired)))
		creds.ClientKey = pki.Encode(pki.PKCS8(key))
		c := newCluster(t, dp, afterNewCluster(noSecret, func(*rest.Config) {}))
		client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
		require.NoError(t, err)
		_, err = client.CoreV1().Pods("x").Get(t.Context(), "a", metav1.GetOptions{})
		assertClassified(t, remote.ReachabilityCertificateExpired, err)
		assert.ErrorContains(t, err, "client certificate expired at ")
		assert.ErrorContains(t, err, ": Unauthorized; asked for other credentials: no such Secret")
	})
	t.Run("a server of another authority", func(t *testing.T) {
		server := testserver.New(t, testserver.WhoAmI)
		c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(noSecret, func(config *rest.Config) {
			config.CAData = pki.Certificates(pki.New().Cert)
		}))
		_, err := get(t.Context(), c, "/")
		assertClassified(t, remote.ReachabilityTLSFailure, err)
		assert.ErrorContains(t, err, "no such Secret")
	})
	t.Run("an alert of the server", func(t *testing.T) {
		server := testserver.New(t, testserver.WhoAmI, func(s *httptest.Server) { s.TLS.MaxVersion = tls.VersionTLS11 })
		c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(noSecret, func(*rest.Config) {}))
		_, err := get(t.Context(), c, "/")
		assertClassified(t, remote.ReachabilityTLSFailure, err)
		assert.ErrorContains(t, err, "no such Secret")
	})
}

func TestA401OfAProxiedServiceStaysAsItIs(t *testing.T) {
	server := testserver.New(t, unauthorized)
	c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(errors.New("no such Secret"), func(*rest.Config) {}))
	body, err := get(t.Context(), c, "/api/v1/namespaces/x/services/web/proxy/")
	require.ErrorContains(t, err, "401")
	assert.Equal(t, "sign in to the service", body)
}

func TestAHeadThatIsRefusedHasNoBody(t *testing.T) {
	server := testserver.New(t, unauthorized)
	c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(errors.New("no such Secret"), func(*rest.Config) {}))
	body, err := send(c, http.MethodHead, "/", nil)
	require.NoError(t, err)
	assert.Empty(t, body)
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

func TestAnExecThatIsCutIsNotSentAgain(t *testing.T) {
	var sent atomic.Int32
	server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) {
		sent.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if assert.NoError(t, err) {
			_ = conn.Close()
		}
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
	secret := &tokens{token: "old"}
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{ConfigFor: secret.configFor}.WithAsking(never, time.Nanosecond))
	secret.set("new", nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL()+"/api/v1/namespaces/x/pods/y/exec", nil)
	require.NoError(t, err)
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	_, err = c.HTTPClient().Do(req)
	require.Error(t, err)
	assert.EqualValues(t, 1, sent.Load())
}

// A wrapper holds the request while the credentials are replaced.
func TestARequestInAWrapperIsNotSentWithOldCredentials(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+" ")
		_, _ = io.Copy(w, r.Body)
	})
	token, inside, release := "old", make(chan struct{}, 1), make(chan struct{})
	options := editConfig(func(config *rest.Config) {
		config.BearerToken = token
		if token == "old" {
			config.CertData, config.KeyData = nil, nil // a key doesn't sign after it was replaced
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					inside <- struct{}{}
					<-release
					return next.RoundTrip(r)
				})
			})
		}
	})
	options.Grace = time.Minute
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, options)
	results := make(chan result, 1)
	go func() {
		body, err := send(c, http.MethodPost, "/", strings.NewReader("once"))
		results <- result{body, err}
	}()
	testserver.Receive(t, inside)
	token = "new"
	require.NoError(t, c.Update(dp))
	close(release)
	got := testserver.Receive(t, results)
	require.NoError(t, got.err)
	assert.Equal(t, "Bearer new once", got.body)
}
