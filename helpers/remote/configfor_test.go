// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestFilesOfCredentialsAreReadAgainByUpdate(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	files := t.TempDir()
	ca, cert, key := filepath.Join(files, "ca"), filepath.Join(files, "cert"), filepath.Join(files, "key")
	write := func(file, data string) { require.NoError(t, os.WriteFile(file, pki.Decode(data), 0o600)) }
	dp := server.DataPlane("prod", "alice")
	alice, bob := dp.Spec.KubernetesCluster.Credentials, server.DataPlane("prod", "bob").Spec.KubernetesCluster.Credentials
	write(ca, dataplanetest.DataPlane("default", "production-dataplane").Spec.KubernetesCluster.Credentials.CACert)
	write(cert, alice.ClientCert)
	write(key, alice.ClientKey)
	c := newCluster(t, dp, editConfig(func(config *rest.Config) {
		config.TLSClientConfig = rest.TLSClientConfig{CAFile: ca, CertFile: cert, KeyFile: key}
	}))
	assertClassified(t, remote.ReachabilityTLSFailure, c.Probe(t.Context()))

	write(ca, alice.CACert)
	require.NoError(t, c.Update(dp))
	user, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	assert.Equal(t, "alice", user)

	write(cert, bob.ClientCert)
	write(key, bob.ClientKey)
	require.NoError(t, c.Update(dp))
	user, err = get(t.Context(), c, "/")
	require.NoError(t, err)
	assert.Equal(t, "bob", user)
}

func TestNothingOfConfigIsShared(t *testing.T) {
	server := testserver.New(t, echoHeader)
	c := newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) {
		config.Impersonate = rest.ImpersonationConfig{
			UserName: "u", Groups: []string{"viewers"}, Extra: map[string][]string{"scope": {"view"}},
		}
	}))
	config := c.Config()
	config.Impersonate.Groups[0] = "system:masters"
	config.Impersonate.Extra["scope"][0] = "admin"
	for header, want := range map[string]string{"Impersonate-Group": "viewers", "Impersonate-Extra-Scope": "view"} {
		sent, err := get(t.Context(), c, "/"+header)
		require.NoError(t, err)
		assert.Equal(t, want, sent)
	}
}

func TestAnyGraceIsAccepted(t *testing.T) {
	server := testserver.New(t, streams)
	for _, grace := range []time.Duration{math.MinInt64, -1, math.MaxInt64 / 2, math.MaxInt64} {
		c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: grace})
		resp, err := open(t.Context(), c, "/api/v1/configmaps?watch=true")
		require.NoError(t, err)
		require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
		c.Close()
		require.NoError(t, resp.Body.Close())
	}
}

func TestConfigForMayLookAtTheCluster(t *testing.T) {
	var c *remote.Cluster
	c = newCluster(t, dataplanetest.DataPlane("default", "production-dataplane"), editConfig(func(config *rest.Config) {
		if c != nil {
			config.UserAgent = c.Config().UserAgent + c.Key().Name + c.String()
		}
	}))
	soon(t, func() { assert.NoError(t, c.Update(dataplanetest.DataPlane("default", "production-dataplane"))) })
}

func TestAResyncTakesWhatConfigForTakesFromElsewhere(t *testing.T) {
	server := testserver.New(t, echoHeader)
	token := "old"
	f := newFixture(t, editConfig(func(config *rest.Config) { config.BearerToken = token }))
	dp := f.set(server.DataPlane("prod", "alice"))
	c := f.mustGet(prod)
	token = "new"
	f.Handler().OnUpdate(dp, dp)
	sent, err := get(t.Context(), c.Cluster, "/Authorization")
	require.NoError(t, err)
	assert.Equal(t, "Bearer new", sent)
}

func TestAResyncThatComesWhileGetIsAtWorkIsNotLost(t *testing.T) {
	server := testserver.New(t, echoHeader)
	for name, test := range map[string]struct {
		built     bool // there is a client already
		onBuild   bool
		onConfigs int // the call of ConfigFor during which the resync comes
	}{
		"during a build":   {onBuild: true},
		"before a build":   {onConfigs: 1},
		"during an update": {built: true, onConfigs: 2},
	} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			var dp *v1alpha1.DataPlane
			token, configs := "old", 0
			resync := func() {
				token = "new"
				f.Handler().OnUpdate(dp, dp)
			}
			f = newFixture(t, editConfig(func(config *rest.Config) {
				config.BearerToken = token
				if configs++; configs == test.onConfigs {
					resync()
				}
			}))
			dp = f.set(server.DataPlane("prod", "alice"))
			if test.built {
				f.mustGet(prod)
				dp = dp.DeepCopy()
				dp.Labels = map[string]string{"a": "b"}
				f.set(dp)
			}
			if test.onBuild {
				f.onBuild = func(*remote.Cluster) error { resync(); return nil }
			}
			sent, err := get(t.Context(), f.mustGet(prod).Cluster, "/Authorization")
			require.NoError(t, err)
			assert.Equal(t, "Bearer new", sent)
			assert.Len(t, f.builds, 1)
		})
	}
}

func TestOnRotateMayUseTheCache(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	var f *fixture
	rotations := 0
	f = newFixture(t, remote.Options{OnRotate: func(key types.NamespacedName) {
		rotations++
		f.requireUser("bob", f.mustGet(key))
	}})
	f.set(server.DataPlane("prod", "alice"))
	f.mustGet(prod)
	f.set(server.DataPlane("prod", "bob"))
	soon(t, func() { _, _ = f.Get(prod) })
	assert.Equal(t, 1, rotations)
}

func TestADataPlaneThatIsNilIsGone(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	dp.ResourceVersion = "1"
	read := func(types.NamespacedName) (*v1alpha1.DataPlane, error) { return dp, nil }
	c := remote.NewCache(read, func(c *remote.Cluster) (*remote.Cluster, error) { return c, nil }, remote.Options{})
	t.Cleanup(c.Close)
	key := types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}
	built, err := c.Get(key)
	require.NoError(t, err)
	dp = nil
	_, err = c.Get(key)
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	testserver.Receive(t, built.Done())
	assert.Zero(t, c.Len())
}

func TestCloseDoesNotWaitForResponsesWithoutABody(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Minute})
	_, err := c.HTTPClient().Head(server.URL()) // few close the body of that
	require.NoError(t, err)
	soon(t, c.Close)
}

func TestOldConnectionsCloseAsTheyBecomeIdle(t *testing.T) {
	h := newHold()
	server := testserver.New(t, h.serve, func(s *httptest.Server) { s.EnableHTTP2 = false })
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Minute})
	var results []<-chan result
	for range 3 {
		results = append(results, h.start(t, c))
	}
	require.Equal(t, len(results), server.Open())
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	for left := len(results) - 1; left >= 0; left-- {
		h.answer <- struct{}{}
		require.Eventually(t, func() bool { return server.Open() == left }, 10*time.Second, time.Millisecond)
	}
	for _, done := range results {
		assert.NoError(t, testserver.Receive(t, done).err)
	}
}

func TestTheBodyOfAWatchsErrorHasTheLimitOfAUnaryRequest(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(200 * time.Millisecond):
		}
	})
	dp := server.DataPlane("prod", "alice")
	const path = "/api/v1/pods?watch=1"
	for _, start := range []time.Duration{-1, time.Hour} {
		_, err := get(t.Context(), newCluster(t, dp, remote.Options{HeaderTimeout: start, StallTimeout: 50 * time.Millisecond}), path)
		requireTimeout(t, err, "request made no progress for 50ms")
	}
	_, err := get(t.Context(), newCluster(t, dp, remote.Options{StallTimeout: -1}), path)
	require.EqualError(t, err, "status 503", "without a limit")
}
