// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// From an API server, these answers would be successes.
func TestAnswersOfTheGatewayAreNoSuccesses(t *testing.T) {
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.V1)
	c := newCluster(t, dp, remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
	for _, path := range []string{
		"/api/v1/namespaces/apps/services/web/proxy/", "/api/v1/namespaces/apps/pods/web/log?follow=true", "/api/v1/namespaces/kube-system/secrets",
	} {
		_, err := get(t.Context(), c, path)
		require.Error(t, err)
		assert.Zero(t, c.Status().LastSuccess, path)
	}
	assert.Equal(t, remote.ReachabilityNoAgent, func() remote.Reachability {
		_, _ = get(t.Context(), c, "/api/v1/namespaces/apps/services/web/proxy/")
		return c.Status().Reachability
	}())
}

// Else a Pod could hide the state of its data plane, or make it look dead.
func TestAProxiedServiceCannotAnswerForTheGateway(t *testing.T) {
	pod := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cluster-Gateway-Answered", "the cluster gateway has no agent that may act for this data plane")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	gateway, server := dataplanetest.NewGateway(), testserver.New(t, pod.ServeHTTP)
	t.Cleanup(gateway.Close)
	gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Audit-Id", "1") // from the API server
		pod(w, r)
	}))
	for name, c := range map[string]*remote.Cluster{
		"direct": newCluster(t, server.DataPlane("prod", "alice"), remote.Options{}),
		"gateway": newCluster(t, dataplanetest.DataPlane("default", "prod", dataplanetest.V1),
			remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())}),
	} {
		_, _ = get(t.Context(), c, "/api/v1/namespaces/apps/services/web/proxy/")
		assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability, name)
	}
}

// The gateway takes bodies of up to 10 MB.
func TestARequestThatTheGatewayRefusesChangesNoStatus(t *testing.T) {
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect("prod", dataplanetest.NewObjects())
	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.V1)
	c := newCluster(t, dp, remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
	require.NoError(t, c.Probe(t.Context()))
	before := c.Status()
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps("apps").Create(t.Context(), &corev1.ConfigMap{
		Data: map[string]string{"a": strings.Repeat("a", 11<<20)},
	}, metav1.CreateOptions{})
	require.ErrorContains(t, err, "the cluster gateway answers 413")
	assertClassified(t, remote.ReachabilityNotReady, err)
	assert.Equal(t, before, c.Status())
}

func TestARequestAfterItsDeadlineSaysNothing(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	_, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err = get(late, c, "/")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability)
}

func TestARefusalOfOldCredentialsSaysNothingOfNewOnes(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			close(arrived)
			<-release
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		testserver.WhoAmI(w, r)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	refused := make(chan error)
	go func() {
		_, err := send(c, http.MethodPost, "/api/v1/pods", strings.NewReader("{}"))
		refused <- err
	}()
	<-arrived
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	user, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	require.Contains(t, user, "bob")
	close(release)
	require.NoError(t, <-refused, "there is an answer")
	assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability, "%+v", c.Status())
}

func TestARequestThatFindsNewCredentialsShowsTheirOutcome(t *testing.T) {
	api, secret := &accepts{}, &tokens{token: "old"}
	api.token.Store("new")
	server := testserver.New(t, api.serve)
	dp := server.DataPlane("prod", "alice")
	for name, fail := range map[string]func(*remote.Cluster){
		"after a refusal": func(*remote.Cluster) {},
		"after an Update that failed": func(c *remote.Cluster) {
			secret.set("", errors.New("no such Secret"))
			require.Error(t, c.Update(dp))
		},
	} {
		t.Run(name, func(t *testing.T) {
			secret.set("old", nil)
			c := newCluster(t, dp, remote.Options{ConfigFor: secret.configFor}.WithAsking(never, time.Nanosecond))
			fail(c)
			secret.set("new", nil)
			_, err := get(t.Context(), c, "/")
			require.NoError(t, err)
			assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability, "%+v", c.Status())
		})
	}
}

func TestAProbeAfterItsDeadlineSaysNothing(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	require.NoError(t, c.Probe(t.Context()))
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	require.ErrorIs(t, c.Probe(late), context.DeadlineExceeded)
	assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability)
}

func TestAProbeWithOldCredentialsSaysNothingOfNewOnes(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.PeerCertificates[0].Subject.CommonName == "alice" {
			close(arrived)
			<-release
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		testserver.WhoAmI(w, r)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	refused := make(chan error)
	go func() { refused <- c.Probe(t.Context()) }()
	<-arrived
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	require.NoError(t, c.Probe(t.Context()))
	close(release)
	assertClassified(t, remote.ReachabilityNotReady, <-refused)
	assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability, "%+v", c.Status())
}

// Only a Probe takes this answer for an error.
func TestAProbeThatFindsNewCredentialsShowsItsError(t *testing.T) {
	secret := &tokens{token: "old"}
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer old" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.NotFound(w, r)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{ConfigFor: secret.configFor}.WithAsking(never, time.Nanosecond))
	secret.set("new", nil)
	assertClassified(t, remote.ReachabilityNotReady, c.Probe(t.Context()))
	assert.Equal(t, remote.ReachabilityNotReady, c.Status().Reachability, "%+v", c.Status())
}
