// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreoscheme "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

const informerNamespace = "informed"

// startCache starts a cache that ends with ctx, and holds its objects until then.
type startCache func(ctx context.Context, config *rest.Config) (hasSynced func() bool, err error)

func informerRows(objects int) []row {
	return []row{{
		Name:    "informer",
		Title:   fmt.Sprintf("an informer of %d DataPlanes from start to synced, as client-go starts it: with a watch that begins with all objects", objects),
		Metrics: []metric{{Name: "time", Unit: "s"}, {Name: "cpu", Unit: "s"}, {Name: "received", Unit: "B"}, {Name: "peak heap", Unit: "B"}, {Name: "settled heap", Unit: "B"}},
		plane:   true, rounds: 5,
		prepare: fillWithDataPlanes(informerNamespace, objects),
		Subjects: []subject{
			{Name: "sdk", How: "informer of the factory", measure: measureSync(startSDK(nil))},
			{Name: "controller-runtime", How: "cache.New with typed objects", measure: measureSync(startControllerRuntime)},
			{Name: "sdk, DropSecrets", How: "as sdk, for a program that doesn't connect", measure: measureSync(startSDK(informer.DropSecrets))},
		},
	}}
}

func startSDK(transform cache.TransformFunc) startCache {
	return func(ctx context.Context, config *rest.Config) (func() bool, error) {
		factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(openchoreoclient.NewForConfigOrDie(config), 0,
			openchoreoinformers.WithNamespace(informerNamespace), openchoreoinformers.WithTransform(transform))
		informer := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
		factory.Start(ctx.Done())
		return informer.HasSynced, nil
	}
}

func startControllerRuntime(ctx context.Context, config *rest.Config) (func() bool, error) {
	c, err := ctrlcache.New(config, ctrlcache.Options{Scheme: openchoreoscheme.Scheme, DefaultNamespaces: map[string]ctrlcache.Config{informerNamespace: {}}})
	if err != nil {
		return nil, err
	}
	informer, err := c.GetInformer(ctx, &openchoreov1alpha1.DataPlane{}, ctrlcache.BlockUntilSynced(false))
	if err != nil {
		return nil, err
	}
	go func() { _ = c.Start(ctx) }() // a cache with an error never syncs
	return informer.HasSynced, nil
}

func measureSync(start startCache) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		var m meter
		config := in.Server.config()
		config.Dial = m.dial
		before, cpu, started := liveHeap(), cpuTime(), time.Now()
		hasSynced, err := start(ctx, config)
		if err != nil {
			return nil, err
		}
		// cache.WaitForCacheSync checks every 100 ms only.
		var peak float64
		if err := until(ctx, time.Millisecond, func() bool {
			peak = max(peak, heapSize())
			return hasSynced()
		}); err != nil {
			return nil, err
		}
		v := values{"time": time.Since(started).Seconds(), "cpu": cpuTime() - cpu, "received": float64(m.received.Load())}
		v["peak heap"], v["settled heap"] = peak-before, liveHeap()-before
		return v, nil
	}
}

const (
	rotateNamespace = "rotate"
	rotateObjects   = 100
	rotateAtOnce    = 8
)

// rotateRows rotate the credentials of many connected data planes at once. hack/integration tests
// that no event is lost and no request fails.
func rotateRows() []row {
	return []row{{
		Name: "rotate-informers",
		Title: fmt.Sprintf("%d data planes with an informer of %d ConfigMaps each get new credentials at once: "+
			"time until all watch with them, and the median time of a first request with them", users, rotateObjects),
		Metrics: []metric{{Name: "time", Unit: "s"}, {Name: "first request", Unit: "s"}, {Name: "cpu", Unit: "s"}, {Name: "received", Unit: "B"}, {Name: "lists"}},
		plane:   true, slow: true, rounds: 3,
		prepare: prepareRotation,
		Subjects: []subject{
			{Name: "sdk", How: "remote.Cluster.Update; informers continue, and resume their watches at random within seconds", measure: rotateAll(useSDK)},
			{Name: "client-go", How: "stop the informer, kubernetes.NewForConfig, and start another informer", measure: rotateAll(useClientGo)},
		},
	}}
}

// prepareRotation makes two certificates for each user, and the ConfigMaps.
func prepareRotation(ctx context.Context, f *fixture, in *input) error {
	var errs [3]error
	in.DataPlanes, errs[0] = addUsers(f, "system:masters")
	in.Rotated, errs[1] = addUsers(f, "system:masters")
	errs[2] = f.fillWithConfigMaps(ctx, rotateNamespace, rotateObjects, func() string { return strings.Repeat("0123456789abcdef", 64) })
	return errors.Join(errs[:]...)
}

// rotatedPlane is a data plane with an informer.
type rotatedPlane struct {
	meter     *meter // of all data planes; its requests are the lists
	use       useFunc
	client    kubernetes.Interface
	hasSynced func() bool
	watches   atomic.Pointer[openchoreov1alpha1.DataPlane] // the DataPlane of the last watch's credentials
}

// useFunc connects with the credentials of a DataPlane and starts an informer. A second call changes to
// the credentials of another DataPlane. Both last until the measurement ends.
type useFunc func(dp *openchoreov1alpha1.DataPlane) error

func rotateAll(newUse func(ctx context.Context, p *rotatedPlane) useFunc) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		var meter meter
		planes := make([]*rotatedPlane, users)
		for i := range planes {
			planes[i] = &rotatedPlane{meter: &meter}
			planes[i].use = newUse(ctx, planes[i])
		}
		if _, err := useAll(ctx, planes, in.DataPlanes); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		time.Sleep(2 * time.Second) // a rotation ends no watch younger than 1.5 s

		cpu, received, lists, started := cpuTime(), meter.received.Load(), meter.requests.Load(), time.Now()
		first, err := useAll(ctx, planes, in.Rotated)
		if err != nil {
			return nil, fmt.Errorf("rotate: %w", err)
		}
		return values{
			"time": time.Since(started).Seconds(), "first request": median(first), "cpu": cpuTime() - cpu,
			"received": float64(meter.received.Load() - received), "lists": float64(meter.requests.Load() - lists),
		}, nil
	}
}

// useAll returns when all data planes watch with their credentials. Its result is the time that each took
// until the end of a first request.
func useAll(ctx context.Context, planes []*rotatedPlane, credentials []*openchoreov1alpha1.DataPlane) ([]float64, error) {
	first := make([]float64, len(planes))
	if err := parallel(ctx, rotateAtOnce, len(planes), func(ctx context.Context, i int) error {
		began := time.Now()
		if err := planes[i].use(credentials[i]); err != nil {
			return err
		}
		_, err := planes[i].client.CoreV1().ConfigMaps(rotateNamespace).Get(ctx, objectName(0), metav1.GetOptions{})
		first[i] = time.Since(began).Seconds()
		return err
	}); err != nil {
		return nil, err
	}
	return first, until(ctx, 10*time.Millisecond, func() bool {
		for i, p := range planes {
			if p.watches.Load() != credentials[i] || !p.hasSynced() {
				return false
			}
		}
		return true
	})
}

func useSDK(ctx context.Context, p *rotatedPlane) useFunc {
	var cluster *remote.Cluster
	return func(dp *openchoreov1alpha1.DataPlane) (err error) {
		if cluster != nil {
			return cluster.Update(dp)
		}
		if cluster, err = remote.NewCluster(dp, remote.Options{ConfigFor: p.metered(verifiedConfig)}); err != nil {
			return err
		}
		context.AfterFunc(ctx, cluster.Close)
		client, err := newClusterClient(cluster)
		if err == nil {
			p.startInformer(ctx, client)
		}
		return err
	}
}

func useClientGo(ctx context.Context, p *rotatedPlane) useFunc {
	stop := func() {}
	return func(dp *openchoreov1alpha1.DataPlane) error {
		stop()
		config, err := p.metered(decodedConfig)(dp)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		var running context.Context
		running, stop = context.WithCancel(ctx)
		p.startInformer(running, client)
		return nil
	}
}

// startInformer starts an informer that ends with ctx.
func (p *rotatedPlane) startInformer(ctx context.Context, client kubernetes.Interface) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(rotateNamespace))
	p.client, p.hasSynced = client, factory.Core().V1().ConfigMaps().Informer().HasSynced
	factory.Start(ctx.Done())
}

// metered makes configs count received bytes and lists, and record their watches.
func (p *rotatedPlane) metered(configFor configFunc) configFunc {
	return func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
		config, err := configFor(dp)
		if err != nil {
			return nil, err
		}
		config.Dial = p.meter.dial
		config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				query := req.URL.Query()
				watch := query.Get("watch") == "true"
				// A watch that begins with all objects counts as a list.
				if strings.HasSuffix(req.URL.Path, "/configmaps") && (!watch || query.Get("sendInitialEvents") == "true") {
					p.meter.requests.Add(1)
				}
				resp, err := next.RoundTrip(req)
				if err == nil && watch && resp.StatusCode == http.StatusOK {
					p.watches.Store(dp)
				}
				return resp, err
			})
		}
		return config, nil
	}
}

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
	gateway := dataplanetest.NewGateway()
	context.AfterFunc(ctx, gateway.Close)
	gateway.Connect("prod", dataplanetest.Agent(f.plane.Config()))
	in.Gateway = &server{Host: gateway.Config().Host, TLS: gateway.Config().TLSClientConfig}
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
		var meter meter
		metered := func(s *server) *rest.Config {
			config := s.config()
			config.Dial = meter.dial
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(req *http.Request) (*http.Response, error) { meter.requests.Add(1); return next.RoundTrip(req) })
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
		cpu, received, asked := cpuTime(), meter.received.Load(), meter.requests.Load()
		sent, err := in.drive()
		if err != nil {
			return nil, err
		}
		<-allChanged.Done()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v := values{
			"cpu": cpuTime() - cpu, "received": float64(meter.received.Load() - received), "requests": float64(meter.requests.Load() - asked),
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
