// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// behindGateway runs a test for each kind of data plane, stored on an API server with its CRD. The
// same API server serves as the data plane.
func behindGateway(t *testing.T, test func(*testing.T, *space, *openchoreov1alpha1.DataPlane)) {
	t.Parallel()
	for name, store := range map[string]func(*testing.T) (*space, *openchoreov1alpha1.DataPlane){
		"a DataPlane of v0.3": func(t *testing.T) (*space, *openchoreov1alpha1.DataPlane) {
			s := shared.space(t)
			return s, s.create(t, behaviours.NewDataPlane("prod"))
		},
		"a DataPlane of v1": func(t *testing.T) (*space, *openchoreov1alpha1.DataPlane) {
			s := v1Plane(t).space(t)
			return s, s.create(t, dataplanetest.DataPlane(s.namespace, "prod", dataplanetest.V1, withAgents))
		},
		"a ClusterDataPlane": func(t *testing.T) (*space, *openchoreov1alpha1.DataPlane) {
			s := v1Plane(t).space(t)
			return s, s.createCluster(t).AsDataPlane()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dp := store(t)
			test(t, s, dp)
		})
	}
}

func withAgents(dp *openchoreov1alpha1.DataPlane) { dp.Spec.PlaneID = "agents" }

// createCluster creates a ClusterDataPlane with the name of the namespace.
func (s *space) createCluster(t *testing.T) *openchoreov1alpha1.ClusterDataPlane {
	t.Helper()
	created, err := s.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes().Create(t.Context(),
		dataplanetest.ClusterDataPlane(s.namespace, withAgents), metav1.CreateOptions{})
	require.NoError(t, err)
	return created
}

// view is a copy of a namespace's ConfigMaps in an informer or a cache. It has a separate gateway,
// whose agent counts lists.
type view struct {
	gateway  *dataplanetest.Gateway
	planeID  string
	agent    http.Handler
	lists    atomic.Int32
	cluster  *remote.Cluster // nil for a bare rest.Config
	config   *rest.Config
	client   *http.Client
	versions func() map[string]string // by name
}

// newView returns a view whose gateway is connected to the API server. The caller sets the other
// fields.
func (s *space) newView(t *testing.T, dp *openchoreov1alpha1.DataPlane) *view {
	t.Helper()
	config := s.Config()
	config.QPS = -1
	agent := dataplanetest.Agent(config)
	v := &view{gateway: dataplanetest.NewGateway(), planeID: dp.Spec.PlaneID}
	t.Cleanup(v.gateway.Close)
	if v.planeID == "" {
		v.planeID = dp.Name
	}
	v.agent = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/configmaps") && r.Method == http.MethodGet && !r.URL.Query().Has("watch") {
			v.lists.Add(1)
		}
		agent.ServeHTTP(w, r)
	})
	v.gateway.Connect(v.planeID, v.agent)
	return v
}

// requests returns how many lists and watches have reached the gateway.
func (v *view) requests() (count int) {
	for _, request := range v.gateway.Requests() {
		if strings.Contains(request.URI, "/configmaps?") {
			count++
		}
	}
	return count
}

// connect makes a Cluster. A DataPlane of OpenChoreo v0.3 has credentials, which ConfigFor would use
// instead of the gateway.
func (v *view) connect(t *testing.T, dp *openchoreov1alpha1.DataPlane, gateway *rest.Config) {
	t.Helper()
	configFor := helpers.ConfigFor(gateway)
	if dp.Spec.ClusterAgent == nil {
		configFor = func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
			return helpers.GatewayConfigFor(dp, gateway)
		}
	}
	var err error
	v.cluster, err = remote.NewCluster(dp, remote.Options{ConfigFor: configFor})
	require.NoError(t, err)
	t.Cleanup(v.cluster.Close)
	v.config, v.client = v.cluster.Config(), v.cluster.HTTPClient()
}

// connectBare makes clients from a rest.Config, without a Cluster.
func (v *view) connectBare(t *testing.T, dp *openchoreov1alpha1.DataPlane, gateway *rest.Config) {
	t.Helper()
	var err error
	v.config, err = helpers.GatewayConfigFor(dp, gateway)
	require.NoError(t, err)
	v.client, err = rest.HTTPClientFor(v.config)
	require.NoError(t, err)
}

// caches run on a view until the test ends.
var caches = map[string]func(*testing.T, *view, string){
	"informer": func(t *testing.T, v *view, namespace string) {
		client, err := kubernetes.NewForConfigAndClient(v.config, v.client)
		require.NoError(t, err)
		v.inform(t, kubeinformers.NewSharedInformerFactoryWithOptions(client, 0, kubeinformers.WithNamespace(namespace)).
			Core().V1().ConfigMaps().Informer())
	},
	"dynamic informer": func(t *testing.T, v *view, namespace string) {
		client, err := dynamic.NewForConfigAndClient(v.config, v.client)
		require.NoError(t, err)
		v.inform(t, dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, namespace, nil).
			ForResource(corev1.SchemeGroupVersion.WithResource("configmaps")).Informer())
	},
	"controller-runtime's cache": func(t *testing.T, v *view, namespace string) {
		reader, err := ctrlcache.New(v.config, ctrlcache.Options{
			HTTPClient: v.client, DefaultNamespaces: map[string]ctrlcache.Config{namespace: {}},
		})
		require.NoError(t, err)
		runUntilCleanup(t, func(ctx context.Context) { assert.NoError(t, reader.Start(ctx)) })
		_, err = reader.GetInformer(t.Context(), &corev1.ConfigMap{})
		require.NoError(t, err)
		v.versions = func() map[string]string {
			var list corev1.ConfigMapList
			if err := reader.List(t.Context(), &list); err != nil {
				return nil
			}
			return versionsOf(list.Items)
		}
	},
}

func (v *view) inform(t *testing.T, informer cache.SharedIndexInformer) {
	t.Helper()
	runUntilCleanup(t, func(ctx context.Context) { informer.RunWithContext(ctx) })
	v.versions = func() map[string]string {
		versions := map[string]string{}
		for _, item := range informer.GetStore().List() {
			object, err := meta.Accessor(item)
			if err != nil {
				return nil
			}
			versions[object.GetName()] = object.GetResourceVersion()
		}
		return versions
	}
}

func runUntilCleanup(t *testing.T, run func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running wait.Group
	running.StartWithContext(ctx, run)
	t.Cleanup(func() { cancel(); running.Wait() })
}

func versionsOf(configMaps []corev1.ConfigMap) map[string]string {
	versions := map[string]string{}
	for i := range configMaps {
		versions[configMaps[i].Name] = configMaps[i].ResourceVersion
	}
	return versions
}

// views returns a view for each of the caches, on a Cluster and on a bare rest.Config.
func (s *space) views(t *testing.T, dp *openchoreov1alpha1.DataPlane) map[string]*view {
	t.Helper()
	views := map[string]*view{}
	for name, run := range caches {
		v := s.newView(t, dp)
		v.connect(t, dp, v.gateway.Config())
		run(t, v, s.namespace)
		views[name+" on a Cluster"] = v
		v = s.newView(t, dp)
		v.connectBare(t, dp, v.gateway.Config())
		run(t, v, s.namespace)
		views[name+" on a rest.Config"] = v
	}
	return views
}

// requireSeen waits until each view equals the API server's ConfigMaps.
func (s *space) requireSeen(t *testing.T, views map[string]*view) {
	t.Helper()
	list, err := s.kubernetes.CoreV1().ConfigMaps(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	want := versionsOf(list.Items)
	for name, v := range views {
		require.Eventually(t, func() bool { return maps.Equal(want, v.versions()) }, eventually, tick, "%s", name)
	}
}

func (s *space) createConfigMap(t *testing.T, name string) *corev1.ConfigMap {
	t.Helper()
	created, err := s.kubernetes.CoreV1().ConfigMaps(s.namespace).Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return created
}

func (s *space) deleteConfigMap(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, s.kubernetes.CoreV1().ConfigMaps(s.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
}
