// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"crypto/tls"
	"errors"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestEachRefusalHasTheErrorOfConfigFor(t *testing.T) {
	server := testserver.New(t, unauthorized)
	c := newCluster(t, server.DataPlane("prod", "alice"), afterNewCluster(errors.New("no such Secret"), func(*rest.Config) {}))
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	for range 2 { // together, they ask ConfigFor once
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

// The error belongs to credentials that were replaced since.
func TestAnErrorOfConfigForIsForgottenWithItsCredentials(t *testing.T) {
	server := testserver.New(t, unauthorized)
	secret := &tokens{token: "one"}
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, remote.Options{ConfigFor: secret.configFor}.WithAsking(never, never))
	secret.set("", errors.New("no such Secret"))
	body, err := get(t.Context(), c, "/")
	require.ErrorContains(t, err, "401")
	require.Contains(t, body, "no such Secret")
	secret.set("two", nil)
	require.NoError(t, c.Update(dp))
	body, err = get(t.Context(), c, "/")
	require.ErrorContains(t, err, "401")
	assert.NotContains(t, body, "no such Secret")
}

func TestARequestThatFindsAnotherServerReportsIt(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	var path string
	var fails error
	var key []byte
	var reports atomic.Int32
	c := newCluster(t, dp, remote.Options{
		ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			config, err := helpers.RESTConfigFor(dp)
			if err == nil {
				config.Host += path
				if key != nil {
					config.KeyData = key
				}
			}
			return config, errors.Join(err, fails)
		},
		OnServerChanged: func(key types.NamespacedName) {
			assert.Equal(t, types.NamespacedName{Namespace: dp.Namespace, Name: "prod"}, key)
			reports.Add(1)
		},
	}.WithAsking(time.Nanosecond, time.Nanosecond))
	_, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	require.Zero(t, reports.Load())

	path = "/moved"
	user, err := get(t.Context(), c, "/")
	require.NoError(t, err, "the connection stays as it is")
	require.Equal(t, "alice", user)
	require.EqualValues(t, 1, reports.Load())

	require.ErrorIs(t, c.Update(dp), remote.ErrServerChanged)
	require.EqualValues(t, 1, reports.Load())
	fails = errors.New("no such Secret")
	for range 2 {
		_, err = get(t.Context(), c, "/")
		require.ErrorIs(t, err, remote.ErrServerChanged, "another server isn't forgotten")
	}
	path, fails, key = "", nil, []byte("no key")
	_, err = get(t.Context(), c, "/")
	require.ErrorContains(t, err, "TLSClientConfig", "the former server is back")
	key = nil
	_, err = get(t.Context(), c, "/")
	require.NoError(t, err)
}

func TestAnUpdateForgetsWhatARequestWasTold(t *testing.T) {
	server := testserver.New(t, unauthorized)
	dp := server.DataPlane("prod", "alice")
	secret := errors.New("no such Secret")
	var fails error
	c := newCluster(t, dp, remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		config, err := helpers.RESTConfigFor(dp)
		return config, errors.Join(err, fails)
	}}.WithAsking(never, time.Hour))
	fails = secret
	body, err := get(t.Context(), c, "/")
	require.ErrorContains(t, err, "401")
	require.Contains(t, body, "no such Secret")
	fails = nil
	require.NoError(t, c.Update(dp))
	body, err = get(t.Context(), c, "/")
	require.ErrorContains(t, err, "401")
	require.NotContains(t, body, "no such Secret")
}

// Nothing else calls Update again where informers have no resync.
func TestRequestsMendAnUpdateThatFailed(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	alice, bob := server.DataPlane("prod", "alice"), server.DataPlane("prod", "bob")
	noSecret := errors.New("no such Secret")
	fail := func(t *testing.T, afterRefusal time.Duration) (*remote.Cluster, *tokens, *atomic.Int32) {
		t.Helper()
		secret, rotations := &tokens{token: "old"}, &atomic.Int32{}
		c := newCluster(t, alice, remote.Options{
			ConfigFor: secret.configFor, OnRotate: func(types.NamespacedName) { rotations.Add(1) },
		}.WithAsking(never, afterRefusal))
		secret.set("", noSecret)
		require.ErrorIs(t, c.Update(bob), noSecret)
		_, err := get(t.Context(), c, "/")
		require.ErrorIs(t, err, noSecret)
		return c, secret, rotations
	}
	t.Run("with the newest DataPlane", func(t *testing.T) {
		c, secret, rotations := fail(t, time.Nanosecond)
		secret.set("new", nil)
		user, err := get(t.Context(), c, "/")
		require.NoError(t, err)
		assert.Equal(t, "bob", user)
		assert.Equal(t, "new", c.Config().BearerToken)
		assert.Equal(t, int32(1), rotations.Load())
	})
	t.Run("or say why they can't", func(t *testing.T) {
		c, secret, _ := fail(t, time.Nanosecond)
		other := errors.New("the Secret has no token")
		secret.set("", other)
		_, err := get(t.Context(), c, "/")
		require.ErrorIs(t, err, other)
		require.NotErrorIs(t, err, noSecret)
	})
	t.Run("not all the time", func(t *testing.T) {
		c, secret, _ := fail(t, never)
		secret.set("new", nil)
		asked := secret.count()
		_, err := get(t.Context(), c, "/")
		require.ErrorIs(t, err, noSecret)
		assert.Equal(t, asked, secret.count())
	})
	t.Run("but not with another object", func(t *testing.T) {
		c, secret, _ := fail(t, time.Nanosecond)
		secret.set("new", nil)
		replaced := bob.DeepCopy()
		replaced.UID = "another"
		require.ErrorIs(t, c.Update(replaced), helpers.ErrReplaced)
		for range 2 {
			_, err := get(t.Context(), c, "/")
			require.ErrorIs(t, err, helpers.ErrReplaced)
		}
	})
	t.Run("nor after Close", func(t *testing.T) {
		c, secret, _ := fail(t, time.Nanosecond)
		c.Close()
		secret.set("new", nil)
		asked := secret.count()
		_, err := get(t.Context(), c, "/")
		require.ErrorIs(t, err, remote.ErrClosed)
		assert.Equal(t, asked, secret.count())
	})
}
