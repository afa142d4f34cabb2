// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

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

func TestAClusterAndItsErrorsShowNoSecret(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	dp := server.DataPlane("prod", "alice")
	const token = "hunter2"
	c := newCluster(t, dp, remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		config, err := helpers.RESTConfigFor(dp)
		if err == nil {
			config.BearerToken = token
		}
		return config, err
	}})
	unauthorized := c.Probe(t.Context())
	mixed := server.DataPlane("prod", "bob")
	mixed.Spec.KubernetesCluster.Credentials.ClientKey = dp.Spec.KubernetesCluster.Credentials.ClientKey
	mismatch := c.Update(mixed)
	_, refused := get(t.Context(), c, "/")
	key := dp.Spec.KubernetesCluster.Credentials.ClientKey
	for _, value := range []any{c, unauthorized, mismatch, refused} {
		require.NotNil(t, value)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			text := fmt.Sprintf(verb, value)
			assert.NotContains(t, text, token, verb)
			assert.NotContains(t, text, key[100:120], verb)
			assert.NotContains(t, text, string(pki.Decode(key))[60:100], verb)
			assert.NotContains(t, text, fmt.Sprintf("%#v", pki.Decode(key)[60:70])[8:60], verb)
		}
	}
	assert.Equal(t, "data plane default/prod at "+server.URL(), c.String())
}
