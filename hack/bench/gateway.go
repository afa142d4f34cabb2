// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	gatewayTime      = time.Minute // the changes are spread over it
)

// follower calls seen for each object that it gets to know of, until ctx ends. It returns
// when it knows all objects for the first time.
type follower func(ctx context.Context, in *input, edit func(*rest.Config), seen func(*corev1.ConfigMap)) error

func gatewayRows() []row {
	return []row{{
		name: "gateway-watch",
		title: fmt.Sprintf("%d of %d objects of a data plane behind the cluster gateway change within a minute; requests and bytes are of that minute",
			gatewayChanges, gatewayObjects),
		metrics: []metric{{Name: "mean", Unit: "s"}, {Name: "worst", Unit: "s"}, {Name: "requests"}, {Name: "received", Unit: "B"}, {Name: "cpu", Unit: "s"}},
		plane:   true, slow: true, rounds: 2,
		prepare: prepareGateway,
		drive:   changeObjects,
		subjects: []subject{
			{"sdk", "an informer on a remote.Cluster, by helpers.ConfigFor", measureGateway(followByInformer)},
			{"list every 10 s", "through the same gateway, without watches", measureGateway(followByLists(10 * time.Second))},
			{"list every minute", "through the same gateway, without watches", measureGateway(followByLists(time.Minute))},
			{"floor", "an informer that watches the API server itself", measureGateway(followDirectly)},
		},
	}}
}

// prepareGateway puts a gateway and an agent, which run in this process, before the API server.
func prepareGateway(ctx context.Context, f *fixture, in *input) error {
	if err := f.createNamespace(ctx, gatewayNamespace); err != nil {
		return err
	}
	if err := parallel(ctx, 16, gatewayObjects, func(ctx context.Context, i int) error {
		_, err := f.kubernetes.CoreV1().ConfigMaps(gatewayNamespace).Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: objectName(i)},
			Data:       map[string]string{"data": material()},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	agent := f.plane.Config()
	agent.QPS = -1
	gateway := dataplanetest.NewGateway()
	context.AfterFunc(ctx, gateway.Close)
	gateway.Connect("prod", dataplanetest.Agent(agent))
	config := gateway.Config()
	in.Gateway = &server{URL: config.Host, CA: config.CAData, Certificate: config.CertData, Key: config.KeyData}
	return nil
}

// changeObjects writes into each change when it was sent.
func changeObjects(ctx context.Context, f *fixture) error {
	started := time.Now()
	for i := range gatewayChanges {
		at := (float64(i) + rand.Float64()) / gatewayChanges
		time.Sleep(time.Until(started.Add(time.Duration(at * float64(gatewayTime)))))
		patch := fmt.Appendf(nil, `{"data":{"sent":"%d"}}`, time.Now().UnixNano())
		if _, err := f.kubernetes.CoreV1().ConfigMaps(gatewayNamespace).Patch(ctx, objectName(i), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	time.Sleep(time.Until(started.Add(gatewayTime)))
	return nil
}

func measureGateway(follow follower) measureFunc {
	return func(ctx context.Context, in *input, drive func() error) (values, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		var meter meter
		var requests atomic.Int64
		edit := func(config *rest.Config) {
			config.QPS, config.Dial = -1, meter.dial
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(req *http.Request) (*http.Response, error) { requests.Add(1); return next.RoundTrip(req) })
			})
		}
		begun := time.Now()
		var mu sync.Mutex
		took := map[string]float64{}
		all := make(chan struct{})
		if err := follow(ctx, in, edit, func(object *corev1.ConfigMap) {
			sent, err := strconv.ParseInt(object.Data["sent"], 10, 64)
			mu.Lock()
			defer mu.Unlock()
			if _, known := took[object.Name]; known || err != nil || time.Unix(0, sent).Before(begun) {
				return
			}
			took[object.Name] = time.Since(time.Unix(0, sent)).Seconds()
			if len(took) == gatewayChanges {
				close(all)
			}
		}); err != nil {
			return nil, err
		}
		cpu, received, asked := cpuTime(), meter.received.Load(), requests.Load()
		if err := drive(); err != nil {
			return nil, err
		}
		v := values{
			"cpu": cpuTime() - cpu, "received": float64(meter.received.Load() - received), "requests": float64(requests.Load() - asked),
		}
		select {
		case <-all:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		for _, seconds := range took {
			v["mean"] += seconds / gatewayChanges
			v["worst"] = max(v["worst"], seconds)
		}
		return v, nil
	}
}

func followByInformer(ctx context.Context, in *input, edit func(*rest.Config), seen func(*corev1.ConfigMap)) error {
	gateway := in.Gateway.config()
	edit(gateway)
	cluster, err := remote.NewCluster(dataplanetest.ClusterDataPlane("prod").AsDataPlane(), remote.Options{ConfigFor: helpers.ConfigFor(gateway)})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, cluster.Abort)
	client, err := newClusterClient(cluster)
	if err != nil {
		return err
	}
	return runInformer(ctx, client, seen)
}

func followDirectly(ctx context.Context, in *input, edit func(*rest.Config), seen func(*corev1.ConfigMap)) error {
	config := in.Server.config()
	edit(config)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return runInformer(ctx, client, seen)
}

func runInformer(ctx context.Context, client kubernetes.Interface, seen func(*corev1.ConfigMap)) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(gatewayNamespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { seen(obj.(*corev1.ConfigMap)) },
		UpdateFunc: func(_, obj any) { seen(obj.(*corev1.ConfigMap)) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return ctx.Err()
	}
	return nil
}

func followByLists(interval time.Duration) follower {
	return func(ctx context.Context, in *input, edit func(*rest.Config), seen func(*corev1.ConfigMap)) error {
		gateway := in.Gateway.config()
		edit(gateway)
		config, err := helpers.GatewayConfigFor(dataplanetest.ClusterDataPlane("prod").AsDataPlane(), gateway)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		list := func(ctx context.Context) error {
			objects, err := client.CoreV1().ConfigMaps(gatewayNamespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
			if err != nil {
				return err
			}
			for i := range objects.Items {
				seen(&objects.Items[i])
			}
			return nil
		}
		if err := list(ctx); err != nil {
			return err
		}
		go wait.UntilWithContext(ctx, func(ctx context.Context) {
			select {
			case <-time.After(interval):
				_ = list(ctx) // the next one finds what this one misses
			case <-ctx.Done():
			}
		}, 0)
		return nil
	}
}
