// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// Whatever a request meets, Probe says the same, so that it is never nil where others fail.
func TestReachabilityThroughTheGateway(t *testing.T) {
	prod := dataplanetest.ClusterDataPlane("prod").AsDataPlane()
	server := dataplanetest.NewServer(nil)
	t.Cleanup(server.Close)
	config, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "prod", server.As("agent")))
	require.NoError(t, err)
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
			gateway.Connect("prod", dataplanetest.Agent(config))
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
			if test.want != remote.ReachabilityReachable { // where the server has no namespace
				assert.False(t, apierrors.IsNotFound(err))
				_, err = client.Discovery().ServerVersion()
				assert.Equal(t, test.want, remote.Classify(err), "%v", err)
			}

			err = cluster.Probe(t.Context())
			if test.want == remote.ReachabilityForbidden {
				assert.NoError(t, err, "Probe takes it for an answer")
				return
			}
			assert.Equal(t, test.want, remote.Classify(err), "%v", err)
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

func TestInformersThroughTheGatewayOfASlowAPIServer(t *testing.T) {
	t.Parallel()
	prod := dataplanetest.ClusterDataPlane("prod").AsDataPlane()
	t.Run("on a Cluster", func(t *testing.T) {
		t.Parallel()
		testSlowAPIServer(t, func(gateway *rest.Config) (*rest.Config, *http.Client) {
			cluster, err := remote.NewCluster(prod, remote.Options{ConfigFor: helpers.ConfigFor(gateway)})
			require.NoError(t, err)
			t.Cleanup(cluster.Close)
			return cluster.Config(), cluster.HTTPClient()
		})
	})
	t.Run("on a rest.Config", func(t *testing.T) {
		t.Parallel()
		testSlowAPIServer(t, func(gateway *rest.Config) (*rest.Config, *http.Client) {
			config, err := helpers.GatewayConfigFor(prod, gateway)
			require.NoError(t, err)
			client, err := rest.HTTPClientFor(config)
			require.NoError(t, err)
			return config, client
		})
	})
}

// An API server may take longer than a watch lasts to list, and to begin a watch.
func testSlowAPIServer(t *testing.T, connect func(gateway *rest.Config) (*rest.Config, *http.Client)) {
	t.Helper()
	const objects = 20_000
	var list bytes.Buffer
	list.WriteString(`{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[`)
	for i := range objects {
		fmt.Fprintf(&list, `{"metadata":{"name":"a%d","namespace":"x","resourceVersion":"1"}},`, i)
	}
	list.WriteString(`{"metadata":{"name":"last","namespace":"x","resourceVersion":"1"}}]}`)
	var lists, watches atomic.Int32
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			lists.Add(1)
			pause(r, 6*time.Second)
			_, _ = w.Write(list.Bytes())
			return
		}
		// The event comes late in the second watch.
		if watches.Add(1) == 2 {
			pause(r, 4*time.Second)
			_, _ = io.WriteString(w, `{"type":"MODIFIED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"last","namespace":"x","resourceVersion":"2"}}}`)
			return
		}
		pause(r, 2*time.Second)
	}))
	config, httpClient := connect(gateway.Config())
	config.ContentType = "application/json"
	client, err := kubernetes.NewForConfigAndClient(config, httpClient)
	require.NoError(t, err)
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().ConfigMaps().Informer()
	t.Cleanup(factory.Shutdown)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	factory.Start(stop)
	require.Eventually(t, informer.HasSynced, time.Minute, 10*time.Millisecond)
	assert.Len(t, informer.GetStore().ListKeys(), objects+1)
	require.Eventually(t, func() bool {
		last, _, err := informer.GetStore().GetByKey("x/last")
		return err == nil && last.(*corev1.ConfigMap).ResourceVersion == "2"
	}, time.Minute, 10*time.Millisecond)
	assert.Equal(t, int32(1), lists.Load())
}

// pause is the time that an API server takes.
func pause(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// cert-manager renews the client certificate in a mounted Secret, while no DataPlane changes.
func TestRenewedCertificateOfTheGatewayIsPickedUp(t *testing.T) {
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	files := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(files, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	config := gateway.Config()
	cluster, err := remote.NewCluster(dataplanetest.ClusterDataPlane("prod").AsDataPlane(), remote.Options{
		ConfigFor: helpers.ConfigFor(&rest.Config{Host: config.Host, TLSClientConfig: rest.TLSClientConfig{
			CAFile: write("ca.crt", config.CAData), CertFile: write("tls.crt", config.CertData), KeyFile: write("tls.key", config.KeyData),
		}}),
	}.WithAsking(time.Hour, time.Nanosecond))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	for range 10 {
		_, err := get(t.Context(), cluster, "/version")
		require.NoError(t, err)
		gateway.RotateClients()
		renewed := gateway.Config()
		write("tls.crt", renewed.CertData)
		write("tls.key", renewed.KeyData)
		gateway.CutConnections()
	}
}

func TestCacheOfBothKinds(t *testing.T) {
	server := dataplanetest.NewServer(nil)
	t.Cleanup(server.Close)
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	namespaced, cluster := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}),
		cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	get := remote.FromListers(listers.NewDataPlaneLister(namespaced), listers.NewClusterDataPlaneLister(cluster))
	clients := remote.NewCache(get, func(c *remote.Cluster) (*remote.Cluster, error) { return c, nil },
		remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
	t.Cleanup(clients.Close)
	old, v1 := types.NamespacedName{Namespace: "default", Name: "prod"}, types.NamespacedName{Name: "prod"}

	_, err := clients.Get(v1)
	assert.True(t, apierrors.IsNotFound(err))
	require.EqualError(t, err, `data plane prod: clusterdataplane.openchoreo.dev "prod" not found`)
	_, err = clients.Get(old)
	assert.True(t, apierrors.IsNotFound(err))

	require.NoError(t, namespaced.Add(dataplanetest.DataPlane("default", "prod", server.As("alice"), versioned("1"))))
	require.NoError(t, cluster.Add(dataplanetest.ClusterDataPlane("prod", func(c *openchoreov1alpha1.ClusterDataPlane) { c.ResourceVersion = "1" })))
	direct, err := clients.Get(old)
	require.NoError(t, err)
	assert.Equal(t, server.URL(), direct.Config().Host)
	through, err := clients.Get(v1)
	require.NoError(t, err)
	assert.Equal(t, v1, through.Key())
	assert.Contains(t, through.Config().Host, "/prod/_cluster/prod/k8s")
	assert.Contains(t, through.String(), "data plane prod at")
	again, err := clients.Get(v1)
	require.NoError(t, err)
	assert.Same(t, through, again)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = clients.Get(v1) }),
		testing.AllocsPerRun(100, func() { _, _ = clients.Get(old) }), "a hit converts nothing")

	// Another object of the name is another data plane.
	require.NoError(t, cluster.Update(dataplanetest.ClusterDataPlane("prod", func(c *openchoreov1alpha1.ClusterDataPlane) {
		c.ResourceVersion, c.UID = "2", "another"
	})))
	again, err = clients.Get(v1)
	require.NoError(t, err)
	assert.NotSame(t, through, again)
	<-through.Done()

	require.NoError(t, cluster.Delete(dataplanetest.ClusterDataPlane("prod")))
	clients.Handler().OnDelete(cache.DeletedFinalStateUnknown{Key: "prod", Obj: nil})
	<-again.Done()
	_, err = clients.Get(v1)
	assert.True(t, apierrors.IsNotFound(err))
}

func TestCacheOfOneKindHasNoOther(t *testing.T) {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	require.NoError(t, indexer.Add(dataplanetest.ClusterDataPlane("prod")))
	_, err := remote.FromListers(nil, listers.NewClusterDataPlaneLister(indexer))(types.NamespacedName{Namespace: "default", Name: "prod"})
	assert.True(t, apierrors.IsNotFound(err))
	var status apierrors.APIStatus
	require.ErrorAs(t, err, &status)
	assert.Equal(t, "dataplanes", status.Status().Details.Kind)
	_, err = remote.FromListers(listers.NewDataPlaneLister(indexer), nil)(types.NamespacedName{Name: "prod"})
	require.ErrorAs(t, err, &status)
	assert.Equal(t, "clusterdataplanes", status.Status().Details.Kind)
}

func versioned(version string) func(*openchoreov1alpha1.DataPlane) {
	return func(dp *openchoreov1alpha1.DataPlane) { dp.ResourceVersion = version }
}
