// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func notYetValid(template *x509.Certificate) {
	template.NotBefore, template.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
}

// The API server answers an ordinary 401 to all of them.
func TestACertificateThatIsNotValidNowIsToldFromOneThatIsNotAccepted(t *testing.T) {
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

func TestErrorsAreOneLineThatNamesTheDataPlaneFirstAndOnce(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	bad := dataplanetest.DataPlane("default", "prod")
	bad.Spec.KubernetesCluster.Credentials.ClientCert, bad.Spec.KubernetesCluster.Credentials.ClientKey = "?", ""
	f := newFixture(t, remote.Options{})
	f.set(bad)
	_, newErr := remote.NewCluster(bad, remote.Options{})
	_, cacheErr := f.Get(prod)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	updateErr := c.Update(bad)
	refusedErr := c.Probe(t.Context())
	require.NoError(t, c.Update(server.DataPlane("prod", "alice")))
	server.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "[+]ping ok\n[-]etcd failed: reason withheld\n")
	}))
	notReadyErr := c.Probe(t.Context())
	server.SetHandler(dataplanetest.Hang())
	stalled, err := remote.NewCluster(server.DataPlane("prod", "alice"), remote.Options{StallTimeout: 100 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(stalled.Close)
	stalledErr := stalled.Probe(t.Context())
	c.Close()
	for name, err := range map[string]error{
		"NewCluster": newErr, "Get": cacheErr, "Update": updateErr, "Probe of bad credentials": refusedErr,
		"Probe, not ready": notReadyErr, "Probe, stalled": stalledErr, "Probe, closed": c.Probe(t.Context()),
	} {
		const dataPlane = "data plane default/prod: "
		require.Error(t, err, name)
		assert.True(t, strings.HasPrefix(err.Error(), dataPlane), "%s: %v", name, err)
		assert.Equal(t, 1, strings.Count(err.Error(), dataPlane), "%s: %v", name, err)
		assert.NotContains(t, err.Error(), "\n", name)
	}
	assert.ErrorContains(t, newErr, "clientCert: ")
	assert.ErrorContains(t, newErr, "; spec.kubernetesCluster.credentials.clientKey: ")
	assert.ErrorContains(t, notReadyErr, "the API server answers 500: [+]ping ok; [-]etcd failed: reason withheld")
}

func TestProbeShowsTheMessageOfAStatusOnly(t *testing.T) {
	server := testserver.New(t, dataplanetest.Status(http.StatusServiceUnavailable).ServeHTTP)
	err := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{}).Probe(t.Context())
	assertClassified(t, remote.ReachabilityNotReady, err)
	assert.ErrorContains(t, err, "the API server answers 503: ")
	assert.NotContains(t, err.Error(), "{")
}
