// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestNewClusterRefusesCredentialsThatCannotBeUsed(t *testing.T) {
	plain := dataplanetest.DataPlane("default", "production-dataplane")
	plain.Spec.KubernetesCluster.Credentials.APIServerURL = "http://host"
	for name, test := range map[string]struct {
		dp   *v1alpha1.DataPlane
		want error
	}{
		"no credentials": {&v1alpha1.DataPlane{}, helpers.ErrNoCredentials},
		"http":           {plain, helpers.ErrInvalidCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := remote.NewCluster(test.dp, remote.Options{})
			require.ErrorIs(t, err, test.want)
		})
	}
	_, err := remote.NewCluster(nil, remote.Options{})
	require.EqualError(t, err, "nil data plane")
	c := newCluster(t, dataplanetest.DataPlane("default", "production-dataplane"), remote.Options{})
	require.EqualError(t, c.Update(nil), "data plane default/production-dataplane: nil data plane")
	other := dataplanetest.DataPlane("default", "production-dataplane")
	other.Name = "other"
	require.EqualError(t, c.Update(other), "data plane default/production-dataplane: got data plane default/other")
}

func TestAClusterStartsNothingBeforeItIsUsed(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	before, unchanged := runtime.NumGoroutine(), dp.DeepCopy()
	clusters := make([]*remote.Cluster, 100)
	for i := range clusters {
		clusters[i] = newCluster(t, dp, remote.Options{})
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	assert.Zero(t, server.Accepted())
	for _, c := range clusters {
		c.Close()
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	assert.Equal(t, unchanged, dp)
}

func TestEveryKindOfClientSharesTheConnection(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/version":
			_, _ = io.WriteString(w, `{"gitVersion":"v1.36.3"}`)
		case strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList"):
			_, _ = io.WriteString(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[]}`)
		default:
			_, _ = io.WriteString(w, `{"kind":"ConfigMapList","apiVersion":"v1","items":[]}`)
		}
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	configMaps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

	typed, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	_, err = typed.CoreV1().ConfigMaps("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	untyped, err := dynamic.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	_, err = untyped.Resource(configMaps).Namespace("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	meta, err := metadata.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	_, err = meta.Resource(configMaps).Namespace("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	disco, err := discovery.NewDiscoveryClientForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	version, err := disco.ServerVersion()
	require.NoError(t, err)
	assert.Equal(t, "v1.36.3", version.GitVersion)

	assert.Equal(t, 1, server.Accepted())
	c.Close()
	server.RequireNoConnections()
}

func TestConfigIsCompleteAndTheCallers(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	config := c.Config()
	assert.Equal(t, rest.DefaultKubernetesUserAgent(), config.UserAgent)
	assert.Zero(t, config.Timeout)
	tlsConfig, err := rest.TLSConfigFor(config) // as SPDY and WebSocket clients do
	require.NoError(t, err)
	require.NotNil(t, tlsConfig.GetClientCertificate)

	clear(config.KeyData)
	clear(config.CertData)
	clear(config.CAData)
	config.Host = "https://elsewhere"
	c.HTTPClient().Timeout = time.Nanosecond
	c.HTTPClient().Transport = nil
	user, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	assert.Equal(t, "alice", user)
	assert.NotEqual(t, config.KeyData, c.Config().KeyData)
}

func TestConfigHoldsTheNewestCredentials(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	token := "first"
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{
		ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			config, err := helpers.RESTConfigFor(dp)
			if err == nil {
				config.BearerToken, config.Impersonate.UserName = token, "carol"
			}
			return config, err
		},
	})
	bob := server.DataPlane("prod", "bob")
	token = "second"
	require.NoError(t, c.Update(bob))
	config := c.Config()
	assert.Equal(t, bob.Spec.KubernetesCluster.Credentials.ClientKey, pki.Encode(config.KeyData))
	assert.Equal(t, "second", config.BearerToken)
	assert.Equal(t, "carol", config.Impersonate.UserName)

	require.Error(t, c.Update(nil))
	withoutCredentials := func() {
		config := c.Config()
		assert.Equal(t, server.URL(), config.Host)
		assert.Empty(t, config.KeyData)
		assert.Empty(t, config.CertData)
		assert.Empty(t, config.BearerToken)
	}
	withoutCredentials()
	require.NoError(t, c.Update(bob))
	assert.NotEmpty(t, c.Config().KeyData)
	c.Close()
	withoutCredentials()
}

func TestClustersOfTheSameCredentialsShareNoConnection(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("a", "alice")
	a, b := newCluster(t, dp, remote.Options{}), newCluster(t, dp, remote.Options{})
	for _, c := range []*remote.Cluster{a, b} {
		_, err := get(t.Context(), c, "/")
		require.NoError(t, err)
	}
	assert.Equal(t, 2, server.Open())
	a.Close()
	require.Eventually(t, func() bool { return server.Open() == 1 }, 10*time.Second, time.Millisecond)
	_, err := get(t.Context(), b, "/")
	require.NoError(t, err)
	assert.Equal(t, 2, server.Accepted(), "b has kept its connection")
}

func TestCloseIdleConnectionsForReachesTheTransport(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	client := c.HTTPClient()
	for _, user := range []string{"alice", "bob"} { // also after a rotation
		require.NoError(t, c.Update(server.DataPlane("prod", user)))
		_, err := get(t.Context(), c, "/")
		require.NoError(t, err, "it is not Close")
		// Again and again, since a stream stays busy for a moment after its end.
		require.Eventually(t, func() bool {
			utilnet.CloseIdleConnectionsFor(client.Transport)
			return server.Open() == 0
		}, 10*time.Second, 10*time.Millisecond)
	}
	c.Close()
	utilnet.CloseIdleConnectionsFor(client.Transport)
}

func TestHTTP2CanBeTurnedOff(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	dp := server.DataPlane("prod", "alice")
	proto, err := get(t.Context(), newCluster(t, dp, remote.Options{}), "/")
	require.NoError(t, err)
	assert.Equal(t, "HTTP/2.0", proto)
	t.Setenv("DISABLE_HTTP2", "1") // as of every Kubernetes client
	proto, err = get(t.Context(), newCluster(t, dp, remote.Options{}), "/")
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1", proto)
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

// Everything at once, so that the race detector sees it.
func TestUpdateWhileManyRequestsRun(t *testing.T) {
	server := testserver.New(t, streams)
	first := server.DataPlane("prod", "user-0")
	c := newCluster(t, first, remote.Options{Grace: 20 * time.Second})
	planes := []*v1alpha1.DataPlane{first, server.DataPlane("prod", "user-1"), server.DataPlane("prod", "user-2")}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var requests, updates sync.WaitGroup
	for range 10 {
		requests.Add(1)
		go func() {
			defer requests.Done()
			for i := 0; i < 50 || ctx.Err() == nil; i++ {
				_, err := get(context.Background(), c, "/")
				if !assert.NoError(t, err) {
					return
				}
			}
		}()
	}
	for i := range 4 {
		updates.Add(1)
		go func() {
			defer updates.Done()
			for n := range 10 {
				assert.NoError(t, c.Update(planes[(i+n)%len(planes)]))
				assert.NotEmpty(t, c.Config().KeyData)
				resp, err := open(ctx, c, "/api/v1/configmaps?watch=true")
				if assert.NoError(t, err) {
					_, _ = io.CopyN(io.Discard, resp.Body, 7)
					_ = resp.Body.Close()
				}
			}
		}()
	}
	updates.Wait()
	stop()
	requests.Wait()
	c.Close()
	server.RequireNoConnections()
}
