// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// Informers see each change when a watch ends, after up to 5 s.
func TestInformersThroughTheGatewayResumeWithoutAList(t *testing.T) {
	behindGateway(t, func(t *testing.T, s *space, dp *openchoreov1alpha1.DataPlane) {
		for i := range 20 {
			s.createConfigMap(t, fmt.Sprintf("before-%d", i))
		}
		views := s.views(t, dp)
		s.requireSeen(t, views)

		object := s.createConfigMap(t, "during")
		s.requireSeen(t, views)
		object.Data = map[string]string{"changed": "yes"}
		_, err := s.kubernetes.CoreV1().ConfigMaps(s.namespace).Update(t.Context(), object, metav1.UpdateOptions{})
		require.NoError(t, err)
		s.requireSeen(t, views)
		s.deleteConfigMap(t, "during")
		s.requireSeen(t, views)
		for name, v := range views {
			assert.Equal(t, int32(1), v.lists.Load(), "%s: watches are resumed", name)
		}
	})
}

// The agent needs several times the size of an answer.
func TestInformersThroughTheGatewayListInPages(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	const objects = 501 // one more than a page of client-go's
	s := v1Plane(t).space(t)
	dp := s.createCluster(t).AsDataPlane()
	workqueue.ParallelizeUntil(t.Context(), 20, objects, func(i int) { s.createConfigMap(t, fmt.Sprint("object-", i)) })
	views := s.views(t, dp)
	s.requireSeen(t, views)
	for name, v := range views {
		assert.Equal(t, int32(2), v.lists.Load(), "%s: pages", name)
		v.gateway.Disconnect(v.planeID)
	}
	before := map[*view]int{}
	for name, v := range views { // a watch that had begun ends without an error
		before[v] = v.requests()
		require.Eventually(t, func() bool { return v.requests() > before[v] }, eventually, tick, "%s", name)
	}
	s.createConfigMap(t, "created")
	s.deleteConfigMap(t, "object-0")
	for _, v := range views {
		v.gateway.Connect(v.planeID, v.agent)
	}
	s.requireSeen(t, views)
	for name, v := range views {
		assert.Equal(t, int32(2), v.lists.Load(), "%s: no other list", name)
	}
}

// While no agent or API server is reached, and after a refused connection, a reflector tries its watch
// again. It lists again if a watch was cut or not answered in time.
func TestInformersAreCompleteAfterAnOutage(t *testing.T) {
	skipIfShort(t)
	for name, test := range map[string]struct {
		begin, end func(*view)
		want       remote.Reachability
		reaches    bool // a request reaches the gateway
		lists      []int32
	}{
		"the agent is away": {
			begin: func(v *view) { v.gateway.Disconnect(v.planeID) },
			end:   func(v *view) { v.gateway.Connect(v.planeID, v.agent) },
			want:  remote.ReachabilityNoAgent, reaches: true, lists: []int32{1},
		},
		"the agent ends with its requests": {
			begin: func(v *view) {
				v.gateway.SetTimeout(time.Second)
				v.gateway.Connect(v.planeID, dataplanetest.Hang())
			},
			end: func(v *view) {
				v.gateway.SetTimeout(30 * time.Second)
				v.gateway.Connect(v.planeID, v.agent)
			},
			want: remote.ReachabilityTimeout, reaches: true, lists: []int32{2},
		},
		"the API server is away": {
			begin: func(v *view) {
				v.gateway.Connect(v.planeID, dataplanetest.Agent(&rest.Config{Host: "http://127.0.0.1:1"}))
			},
			end:  func(v *view) { v.gateway.Connect(v.planeID, v.agent) },
			want: remote.ReachabilityNotReady, reaches: true, lists: []int32{1},
		},
		"the gateway restarts": {
			begin: func(v *view) { v.gateway.Stop() },
			end:   func(v *view) { v.gateway.Start() },
			want:  remote.ReachabilityRefused, lists: []int32{1, 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			behindGateway(t, func(t *testing.T, s *space, dp *openchoreov1alpha1.DataPlane) {
				s.createConfigMap(t, "stays")
				s.createConfigMap(t, "deleted")
				views := s.views(t, dp)
				s.requireSeen(t, views)
				requireProbes(t, views, remote.ReachabilityReachable)

				before := map[*view]int{}
				for _, v := range views {
					test.begin(v)
					before[v] = v.requests()
				}
				requireProbes(t, views, test.want)
				for name, v := range views { // a watch that had begun ends without an error
					require.Eventually(t, func() bool { return !test.reaches || v.requests() > before[v] }, eventually, tick, "%s", name)
				}
				s.createConfigMap(t, "created")
				s.deleteConfigMap(t, "deleted")
				for _, v := range views {
					test.end(v)
				}
				requireProbes(t, views, remote.ReachabilityReachable)
				s.requireSeen(t, views)
				for name, v := range views {
					assert.Contains(t, test.lists, v.lists.Load(), "%s", name)
				}
			})
		})
	}
}

// requireProbes requires the same Reachability of each Cluster.
func requireProbes(t *testing.T, views map[string]*view, want remote.Reachability) {
	t.Helper()
	for name, v := range views {
		if v.cluster != nil {
			err := v.cluster.Probe(t.Context())
			require.Equal(t, want, remote.Classify(err), "%s: %v", name, err)
		}
	}
}

// cert-manager renews the client certificate for the gateway, while no DataPlane changes. The
// gateway then cuts its connections, in the middle of watches and of a request that waits for its
// answer. (A cut in the middle of an answer's body is the caller's error, as without the SDK.)
func TestRenewedGatewayCertificateEndsNothing(t *testing.T) {
	behindGateway(t, func(t *testing.T, s *space, dp *openchoreov1alpha1.DataPlane) {
		s.createConfigMap(t, "before") // so that requireSeen waits for the lists
		v := s.newView(t, dp)
		asked := make(chan struct{})
		cut, finishCut := context.WithCancel(t.Context())
		defer finishCut()
		var held sync.Once
		v.gateway.Connect(v.planeID, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/namespaces/"+s.namespace {
				held.Do(func() {
					close(asked)
					<-cut.Done()
				})
			}
			v.agent.ServeHTTP(w, r)
		}))
		files := t.TempDir()
		write := func(name string, data []byte) string {
			path := filepath.Join(files, name)
			require.NoError(t, os.WriteFile(path, data, 0o600))
			return path
		}
		config := v.gateway.Config()
		v.connect(t, dp, &rest.Config{Host: config.Host, TLSClientConfig: rest.TLSClientConfig{
			CAFile: write("ca.crt", config.CAData), CertFile: write("tls.crt", config.CertData), KeyFile: write("tls.key", config.KeyData),
		}})
		views := map[string]*view{}
		for name, run := range caches {
			views[name] = &view{config: v.config, client: v.client}
			run(t, views[name], s.namespace)
		}
		s.requireSeen(t, views)
		client, err := kubernetes.NewForConfigAndClient(v.config, v.client)
		require.NoError(t, err)
		answered := make(chan error, 1)
		go func() {
			_, err := client.CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
			answered <- err
		}()
		select {
		case <-asked:
		case err := <-answered:
			require.Fail(t, "the agent was not asked", "%v", err)
		}

		v.gateway.RotateClients()
		renewed := v.gateway.Config()
		write("tls.crt", renewed.CertData)
		write("tls.key", renewed.KeyData)
		v.gateway.CutConnections()
		finishCut()
		s.createConfigMap(t, "after")
		s.requireSeen(t, views)
		require.NoError(t, <-answered)
		assert.Equal(t, len(caches), int(v.lists.Load()), "a watch that was cut is resumed")
	})
}

// The resource versions of a cluster that was built anew begin again: an informer that resumes its watch
// would wait until they have grown.
func TestClusterThatIsBuiltAnewIsListed(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	s := v1Plane(t).space(t)
	next := &space{plane: ownPlane(t, crds.DataPlaneV1()), namespace: s.namespace}
	_, err := next.kubernetes.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	dp := s.createCluster(t)
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect(dp.Spec.PlaneID, dataplanetest.Agent(s.Config()))

	var informer atomic.Pointer[cache.SharedIndexInformer]
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(s.openchoreo, 0,
		openchoreoinformers.WithTweakListOptions(func(options *metav1.ListOptions) { options.FieldSelector = "metadata.name=" + dp.Name }))
	clusters := factory.OpenChoreo().V1alpha1().ClusterDataPlanes().Informer()
	f := fleet.New(func(ctx context.Context, cluster *remote.Cluster) error {
		client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
		if err != nil {
			return err
		}
		configMaps := kubeinformers.NewSharedInformerFactoryWithOptions(client, 0, kubeinformers.WithNamespace(s.namespace)).
			Core().V1().ConfigMaps().Informer()
		informer.Store(&configMaps)
		configMaps.RunWithContext(ctx)
		return nil
	}, fleet.Options{Remote: remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())}}, clusters)
	runUntilCleanup(t, func(ctx context.Context) {
		factory.StartWithContext(ctx)
		assert.NoError(t, f.Run(ctx))
		factory.Shutdown()
	})
	requireSeen := func(want *corev1.ConfigMap) {
		t.Helper()
		require.Eventually(t, func() bool {
			if informer.Load() == nil {
				return false
			}
			store := (*informer.Load()).GetStore()
			object, exists, _ := store.Get(want)
			return exists && len(store.ListKeys()) == 1 && object.(*corev1.ConfigMap).ResourceVersion == want.ResourceVersion
		}, eventually, tick, want.Name)
	}
	version := func(object *corev1.ConfigMap) int {
		version, err := strconv.Atoi(object.ResourceVersion)
		require.NoError(t, err)
		return version
	}
	former, created := s.createConfigMap(t, "former"), next.createConfigMap(t, "next")
	for version(former) <= version(created)+100 {
		former.Data = map[string]string{"version": former.ResourceVersion}
		former, err = s.kubernetes.CoreV1().ConfigMaps(s.namespace).Update(t.Context(), former, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	requireSeen(former)

	gateway.Disconnect(dp.Spec.PlaneID)
	gateway.Connect(dp.Spec.PlaneID, dataplanetest.Agent(next.Config()))
	dp.Spec.ClusterAgent.ClientCA.Value = string(pki.Certificates(pki.New().Cert))
	_, err = s.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes().Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	requireSeen(created)
}

// Whoever passes the management cluster's configuration in place of the gateway's must not believe that
// the data plane is reached.
func TestProbeOfAnAPIServerInPlaceOfTheGateway(t *testing.T) {
	t.Parallel()
	s := v1Plane(t).space(t)
	dp := s.createCluster(t).AsDataPlane()
	for name, groups := range map[string][]string{"nobody": nil, "admin": {"system:masters"}} {
		t.Run(name, func(t *testing.T) {
			user, err := s.AddUser("in-place-of-the-gateway-"+name, groups...)
			require.NoError(t, err)
			for _, path := range []string{"", "/base"} { // a path that a proxy would remove
				config := user.Config()
				config.Host += path
				cluster, err := remote.NewCluster(dp, remote.Options{ConfigFor: helpers.ConfigFor(config)})
				require.NoError(t, err)
				t.Cleanup(cluster.Close)
				err = cluster.Probe(t.Context())
				require.ErrorContains(t, err, "so it is not the cluster gateway", path)
				require.Equal(t, remote.ReachabilityNotReady, remote.Classify(err), path)
			}
		})
	}
}

// A program in a management cluster with tenants has a Cache for both kinds.
func TestCacheOfBothKindsThroughTheGateway(t *testing.T) {
	t.Parallel()
	s := v1Plane(t).space(t)
	namespaced := s.create(t, dataplanetest.DataPlane(s.namespace, "prod", dataplanetest.V1))
	cluster := s.createCluster(t)
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	agent := dataplanetest.Agent(s.Config())
	gateway.Connect("prod", agent)
	gateway.Connect("agents", agent)

	factory := openchoreoinformers.NewSharedInformerFactory(s.openchoreo, 0)
	dataPlanes, clusterDataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes(), factory.OpenChoreo().V1alpha1().ClusterDataPlanes()
	clusters := remote.NewCache(remote.FromListers(dataPlanes.Lister(), clusterDataPlanes.Lister()),
		func(c *remote.Cluster) (*remote.Cluster, error) { return c, nil },
		remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
	t.Cleanup(clusters.Close)
	for _, informer := range []cache.SharedIndexInformer{dataPlanes.Informer(), clusterDataPlanes.Informer()} {
		_, err := informer.AddEventHandler(clusters.Handler())
		require.NoError(t, err)
	}
	runUntilCleanup(t, func(ctx context.Context) {
		factory.StartWithContext(ctx)
		<-ctx.Done()
		factory.Shutdown()
	})
	require.Eventually(t, func() bool {
		return dataPlanes.Informer().HasSynced() && clusterDataPlanes.Informer().HasSynced()
	}, eventually, tick)

	// probe returns the answer and the path of the request.
	probe := func(c *remote.Cluster) (remote.Reachability, string) {
		reachability := remote.Classify(c.Probe(t.Context()))
		requests := gateway.Requests()
		return reachability, requests[len(requests)-1].URI
	}
	requireDone := func(c *remote.Cluster) {
		t.Helper()
		select {
		case <-c.Done():
		case <-time.After(eventually):
			require.Fail(t, "the connection has not ended")
		}
	}
	c, err := clusters.Get(types.NamespacedName{Namespace: namespaced.Namespace, Name: namespaced.Name})
	require.NoError(t, err)
	reachability, path := probe(c)
	assert.Equal(t, remote.ReachabilityReachable, reachability)
	assert.Equal(t, "/api/proxy/dataplane/prod/"+s.namespace+"/prod/k8s/readyz", path, "the plane ID is the name")

	key := types.NamespacedName{Name: cluster.Name}
	c, err = clusters.Get(key)
	require.NoError(t, err)
	reachability, path = probe(c)
	assert.Equal(t, remote.ReachabilityReachable, reachability)
	assert.Equal(t, "/api/proxy/dataplane/agents/_cluster/"+cluster.Name+"/k8s/readyz", path)

	// With another plane ID, it is another data plane.
	cluster.Spec.PlaneID = "others"
	client := s.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes()
	_, err = client.Update(t.Context(), cluster, metav1.UpdateOptions{})
	require.NoError(t, err)
	requireDone(c)
	c, err = clusters.Get(key)
	require.NoError(t, err)
	reachability, path = probe(c)
	assert.Equal(t, remote.ReachabilityNoAgent, reachability)
	assert.Equal(t, "/api/proxy/dataplane/others/_cluster/"+cluster.Name+"/k8s/readyz", path)

	require.NoError(t, client.Delete(t.Context(), cluster.Name, metav1.DeleteOptions{}))
	requireDone(c)
	_, err = clusters.Get(key)
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	assert.ErrorContains(t, err, "clusterdataplane")
}
