// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	gatewayNamespace = "gateway"
	gatewayObjects   = 1000
	gatewayChanges   = 20
	gatewayTime      = time.Minute // over which the changes are spread
)

// connectFunc connects to the data plane, until ctx ends.
type connectFunc func(ctx context.Context, server, gateway *rest.Config) (kubernetes.Interface, error)

// follower starts to call seen for each object and each change that it receives, until ctx ends.
type follower func(ctx context.Context, client kubernetes.Interface, seen func(*corev1.ConfigMap))

func gatewayRows() []row {
	return []row{{
		Name: "gateway-watch",
		Title: fmt.Sprintf("%d of %d objects of 2 kB of random text change within a minute, behind the cluster gateway; requests, received and cpu are counted until all changes are seen",
			gatewayChanges, gatewayObjects),
		Metrics: []metric{{Name: "mean", Unit: "s"}, {Name: "worst", Unit: "s"}, {Name: "requests"}, {Name: "received", Unit: "B"}, {Name: "cpu", Unit: "s"}},
		plane:   true, slow: true, rounds: 2,
		prepare: prepareGateway,
		drive:   changeObjects,
		Subjects: []subject{
			{Name: "sdk", How: "an informer on a remote.Cluster, by helpers.ConfigFor", measure: measureGateway(connectCluster, followByInformer)},
			{Name: "list every 10 s", How: "through the same gateway, without watches", measure: measureGateway(connectGateway, followByLists(10*time.Second))},
			{Name: "list every minute", How: "through the same gateway, without watches", measure: measureGateway(connectGateway, followByLists(time.Minute))},
			{Name: "floor", How: "an informer that watches the API server itself", measure: measureGateway(connectDirectly, followByInformer)},
		},
	}}
}

// prepareGateway puts a gateway and an agent, which run in this process, before the API server.
func prepareGateway(ctx context.Context, f *fixture, in *input) error {
	if err := f.fillWithConfigMaps(ctx, gatewayNamespace, gatewayObjects, material); err != nil {
		return err
	}
	agent := f.plane.Config()
	agent.QPS = -1
	gateway := dataplanetest.NewGateway()
	context.AfterFunc(ctx, gateway.Close)
	gateway.Connect("prod", dataplanetest.Agent(agent))
	in.Gateway = newServer(gateway.Config())
	return nil
}

func changeObjects(ctx context.Context, f *fixture) ([]time.Time, error) {
	ended := time.Now().Add(gatewayTime)
	sent, err := spread(gatewayTime, gatewayChanges, func(i int) error {
		patch := fmt.Appendf(nil, `{"data":{"changed":"%d"}}`, time.Now().UnixNano())
		_, err := f.kubernetes.CoreV1().ConfigMaps(gatewayNamespace).Patch(ctx, objectName(i), types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	time.Sleep(time.Until(ended))
	return sent, err
}

func measureGateway(connect connectFunc, follow follower) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		var meter meter
		var requests atomic.Int64
		metered := func(s *server) *rest.Config {
			config := s.config()
			config.Dial = meter.dial
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(req *http.Request) (*http.Response, error) { requests.Add(1); return next.RoundTrip(req) })
			})
			return config
		}
		client, err := connect(ctx, metered(in.Server), metered(in.Gateway))
		if err != nil {
			return nil, err
		}
		var mu sync.Mutex
		versions, changed := map[string]string{}, map[string]time.Time{}
		known, haveKnown := context.WithCancel(ctx)
		allChanged, haveAllChanged := context.WithCancel(ctx)
		defer haveAllChanged()
		defer haveKnown()
		follow(ctx, client, func(object *corev1.ConfigMap) {
			mu.Lock()
			defer mu.Unlock()
			if before, again := versions[object.Name]; again && object.ResourceVersion != before {
				changed[object.Name] = time.Now()
			}
			versions[object.Name] = object.ResourceVersion
			if len(versions) == gatewayObjects {
				haveKnown()
			}
			if len(changed) == gatewayChanges {
				haveAllChanged()
			}
		})
		<-known.Done()
		cpu, received, asked := cpuTime(), meter.received.Load(), requests.Load()
		sent, err := in.drive()
		if err != nil {
			return nil, err
		}
		<-allChanged.Done()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v := values{
			"cpu": cpuTime() - cpu, "received": float64(meter.received.Load() - received), "requests": float64(requests.Load() - asked),
		}
		for i, sent := range sent {
			seconds := changed[objectName(i)].Sub(sent).Seconds()
			v["mean"] += seconds / gatewayChanges
			v["worst"] = max(v["worst"], seconds)
		}
		return v, nil
	}
}

func connectCluster(ctx context.Context, _, gateway *rest.Config) (kubernetes.Interface, error) {
	cluster, err := remote.NewCluster(dataplanetest.ClusterDataPlane("prod").AsDataPlane(), remote.Options{ConfigFor: helpers.ConfigFor(gateway)})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, cluster.Abort)
	return newClusterClient(cluster)
}

func connectGateway(_ context.Context, _, gateway *rest.Config) (kubernetes.Interface, error) {
	config, err := helpers.GatewayConfigFor(dataplanetest.ClusterDataPlane("prod").AsDataPlane(), gateway)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func connectDirectly(_ context.Context, server, _ *rest.Config) (kubernetes.Interface, error) {
	return kubernetes.NewForConfig(server)
}

func followByInformer(ctx context.Context, client kubernetes.Interface, seen func(*corev1.ConfigMap)) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(gatewayNamespace))
	_, _ = factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{ // can't fail before the start
		AddFunc:    func(obj any) { seen(obj.(*corev1.ConfigMap)) },
		UpdateFunc: func(_, obj any) { seen(obj.(*corev1.ConfigMap)) },
	})
	factory.Start(ctx.Done())
}

func followByLists(interval time.Duration) follower {
	return func(ctx context.Context, client kubernetes.Interface, seen func(*corev1.ConfigMap)) {
		go wait.NonSlidingUntilWithContext(ctx, func(ctx context.Context) {
			objects, err := client.CoreV1().ConfigMaps(gatewayNamespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
			if err != nil {
				return // the next list has the changes
			}
			for i := range objects.Items {
				seen(&objects.Items[i])
			}
		}, interval)
	}
}
