// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// behindGateway returns a gateway with an agent in front of the shared API server, and a
// cluster data plane of that agent.
func behindGateway(t *testing.T) (*dataplanetest.Gateway, *openchoreov1alpha1.DataPlane) {
	t.Helper()
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	config := shared.Config()
	config.QPS = -1
	gateway.Connect("shared", dataplanetest.Agent(config))
	dp := (&openchoreov1alpha1.ClusterDataPlane{
		ObjectMeta: metav1.ObjectMeta{Name: "prod"},
		Spec:       openchoreov1alpha1.ClusterDataPlaneSpec{PlaneID: "shared"},
	}).AsDataPlane()
	return gateway, dp
}

// lists counts the lists of ConfigMaps in what a gateway was asked.
func lists(gateway *dataplanetest.Gateway) (count int) {
	for _, request := range gateway.Requests() {
		path, query, _ := strings.Cut(request.URI, "?")
		if request.Method == http.MethodGet && strings.HasSuffix(path, "/configmaps") && !strings.Contains(query, "watch=1") {
			count++
		}
	}
	return count
}

func TestInformersThroughTheGatewayResumeWithoutAList(t *testing.T) {
	t.Parallel()
	for name, informerFor := range map[string]func(*testing.T, *rest.Config, *remote.Cluster, string) cache.SharedIndexInformer{
		"a typed informer of a rest.Config": func(t *testing.T, config *rest.Config, _ *remote.Cluster, namespace string) cache.SharedIndexInformer {
			client, err := kubernetes.NewForConfig(config)
			require.NoError(t, err)
			return kubeinformers.NewSharedInformerFactoryWithOptions(client, 0, kubeinformers.WithNamespace(namespace)).Core().V1().ConfigMaps().Informer()
		},
		"a typed informer of a remote.Cluster": func(t *testing.T, _ *rest.Config, cluster *remote.Cluster, namespace string) cache.SharedIndexInformer {
			client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
			require.NoError(t, err)
			return kubeinformers.NewSharedInformerFactoryWithOptions(client, 0, kubeinformers.WithNamespace(namespace)).Core().V1().ConfigMaps().Informer()
		},
		"a dynamic informer of a remote.Cluster": func(t *testing.T, _ *rest.Config, cluster *remote.Cluster, namespace string) cache.SharedIndexInformer {
			client, err := dynamic.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
			require.NoError(t, err)
			return dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, namespace, nil).
				ForResource(corev1.SchemeGroupVersion.WithResource("configmaps")).Informer()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway, dp := behindGateway(t)
			config, err := helpers.GatewayConfigFor(dp, gateway.Config())
			require.NoError(t, err)
			cluster, err := remote.NewCluster(dp, remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
			require.NoError(t, err)
			t.Cleanup(cluster.Close)
			s := shared.space(t)
			informer := informerFor(t, config, cluster, s.namespace)
			testChangesAreSeen(t, s, gateway, informer)
		})
	}
}

// testChangesAreSeen makes changes for longer than a watch lasts.
func testChangesAreSeen(t *testing.T, s *space, gateway *dataplanetest.Gateway, informer cache.SharedIndexInformer) {
	configMaps := s.kubernetes.CoreV1().ConfigMaps(s.namespace)
	for i := range 20 {
		_, err := configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("before-%d", i)}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	var running sync.WaitGroup
	stop := make(chan struct{})
	running.Add(1)
	go func() { defer running.Done(); informer.Run(stop) }()
	defer running.Wait()
	defer close(stop)
	require.Eventually(t, informer.HasSynced, eventually, tick)
	require.Len(t, informer.GetStore().List(), 20)
	require.Equal(t, 1, lists(gateway))

	for round := range 3 {
		name := fmt.Sprintf("during-%d", round)
		created, err := configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
		requireVersion(t, informer, s.namespace+"/"+name, created.ResourceVersion)
		created.Data = map[string]string{"changed": "yes"}
		changed, err := configMaps.Update(t.Context(), created, metav1.UpdateOptions{})
		require.NoError(t, err)
		requireVersion(t, informer, s.namespace+"/"+name, changed.ResourceVersion)
		require.NoError(t, configMaps.Delete(t.Context(), name, metav1.DeleteOptions{}))
		requireVersion(t, informer, s.namespace+"/"+name, "")
	}
	assert.Equal(t, 1, lists(gateway), "watches are resumed")
}

// requireVersion waits until an informer has an object in a version, or has no such object.
func requireVersion(t *testing.T, informer cache.SharedIndexInformer, key, version string) {
	t.Helper()
	require.Eventually(t, func() bool {
		object, exists, err := informer.GetStore().GetByKey(key)
		if err != nil || !exists {
			return version == ""
		}
		switch object := object.(type) {
		case *corev1.ConfigMap:
			return object.ResourceVersion == version
		case *unstructured.Unstructured:
			return object.GetResourceVersion() == version
		}
		return false
	}, eventually, tick)
}

// informerThrough runs an informer of ConfigMaps on a Cluster until the test ends.
func informerThrough(t *testing.T, cluster *remote.Cluster, namespace string) cache.SharedIndexInformer {
	t.Helper()
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	require.NoError(t, err)
	informer := kubeinformers.NewSharedInformerFactoryWithOptions(client, 0, kubeinformers.WithNamespace(namespace)).Core().V1().ConfigMaps().Informer()
	var running sync.WaitGroup
	stop := make(chan struct{})
	running.Add(1)
	go func() { defer running.Done(); informer.Run(stop) }()
	t.Cleanup(running.Wait)
	t.Cleanup(func() { close(stop) })
	require.Eventually(t, informer.HasSynced, eventually, tick)
	return informer
}

func (s *space) createConfigMap(t *testing.T, name string) *corev1.ConfigMap {
	t.Helper()
	created, err := s.kubernetes.CoreV1().ConfigMaps(s.namespace).Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return created
}

// While an agent is away, a watch ends with an error, after which a reflector lists.
func TestInformersAreCompleteAfterAnAgentWasAway(t *testing.T) {
	t.Parallel()
	gateway, dp := behindGateway(t)
	cluster, err := remote.NewCluster(dp, remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	s := shared.space(t)
	deleted := s.createConfigMap(t, "deleted")
	informer := informerThrough(t, cluster, s.namespace)
	require.NoError(t, cluster.Probe(t.Context()))

	gateway.Disconnect("shared")
	assert.Equal(t, remote.ReachabilityNoAgent, remote.Classify(cluster.Probe(t.Context())))
	created := s.createConfigMap(t, "created")
	require.NoError(t, s.kubernetes.CoreV1().ConfigMaps(s.namespace).Delete(t.Context(), deleted.Name, metav1.DeleteOptions{}))
	before := len(gateway.Requests())
	require.Eventually(t, func() bool { return len(gateway.Requests()) > before }, eventually, tick, "the informer tries")

	config := shared.Config()
	gateway.Connect("shared", dataplanetest.Agent(config))
	require.NoError(t, cluster.Probe(t.Context()))
	requireVersion(t, informer, s.namespace+"/created", created.ResourceVersion)
	requireVersion(t, informer, s.namespace+"/deleted", "")
}

// cert-manager renews the client certificate of the gateway while no DataPlane changes.
func TestRenewedGatewayCertificateEndsNothing(t *testing.T) {
	t.Parallel()
	gateway, dp := behindGateway(t)
	files := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(files, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	config := gateway.Config()
	cluster, err := remote.NewCluster(dp, remote.Options{
		ConfigFor: helpers.ConfigFor(&rest.Config{Host: config.Host, TLSClientConfig: rest.TLSClientConfig{
			CAFile: write("ca.crt", config.CAData), CertFile: write("tls.crt", config.CertData), KeyFile: write("tls.key", config.KeyData),
		}}),
	})
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	s := shared.space(t)
	informer := informerThrough(t, cluster, s.namespace)
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	require.NoError(t, err)
	unary := func() {
		_, err := client.CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
		require.NoError(t, err)
	}
	unary()

	gateway.RotateClients()
	renewed := gateway.Config()
	write("tls.crt", renewed.CertData)
	write("tls.key", renewed.KeyData)
	gateway.CutConnections()
	for i := range 20 {
		unary()
		if i%10 == 0 {
			created := s.createConfigMap(t, fmt.Sprintf("after-%d", i))
			requireVersion(t, informer, s.namespace+"/"+created.Name, created.ResourceVersion)
		}
	}
	assert.Equal(t, 1, lists(gateway), "a watch that was cut is resumed")
}
