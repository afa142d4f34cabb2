// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	rotateNamespace = "rotate"
	rotateObjects   = 100
	rotateAtOnce    = 8
	rotateLimit     = 3 * time.Minute
)

// rotateRows rotate the credentials of many connected data planes at once. hack/integration tests
// that no event is lost and no request fails.
func rotateRows() []row {
	return []row{{
		name: "rotate-informers",
		title: fmt.Sprintf("%d data planes with an informer of %d ConfigMaps each get new credentials at once: "+
			"time until all watch with them, and the median time of a first request with them", users, rotateObjects),
		metrics: []metric{{Name: "time", Unit: "s"}, {Name: "first request", Unit: "s"}, {Name: "cpu", Unit: "s"}, {Name: "received", Unit: "B"}, {Name: "lists"}},
		plane:   true, slow: true, rounds: 3,
		prepare: prepareRotation,
		subjects: []subject{
			{"sdk", "remote.Cluster.Update; informers continue, and resume their watches at random within seconds", rotateAll(connectSDK)},
			{"client-go", "stop the informer, kubernetes.NewForConfig, and start another informer", rotateAll(connectClientGo)},
		},
	}}
}

// prepareRotation makes two certificates for each user, and the ConfigMaps.
func prepareRotation(ctx context.Context, f *fixture, in *input) error {
	var errs [3]error
	in.DataPlanes, errs[0] = addUsers(f, "system:masters")
	in.Rotated, errs[1] = addUsers(f, "system:masters")
	errs[2] = f.createConfigMaps(ctx, rotateNamespace, rotateObjects, func() string { return strings.Repeat("0123456789abcdef", 64) })
	return errors.Join(errs[:]...)
}

// rotatedPlane is a connected data plane with an informer.
type rotatedPlane struct {
	meter       *meter        // of all data planes
	lists       *atomic.Int64 // of all data planes
	first, next *openchoreov1alpha1.DataPlane
	client      atomic.Pointer[kubernetes.Clientset]
	synced      atomic.Pointer[cache.InformerSynced]
	watches     atomic.Pointer[openchoreov1alpha1.DataPlane] // the DataPlane of the last watch's credentials
}

// startFunc connects with the credentials of p.first and starts an informer. rotate changes to the
// credentials of p.next.
type startFunc func(ctx context.Context, p *rotatedPlane) (rotate func() error, err error)

func rotateAll(connect startFunc) measureFunc {
	return func(ctx context.Context, in *input, _ func() error) (values, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*rotateLimit)
		defer cancel()
		var meter meter
		var counted atomic.Int64
		planes := make([]*rotatedPlane, len(in.DataPlanes))
		rotate := make([]func() error, len(planes))
		if err := parallel(ctx, rotateAtOnce, len(planes), func(_ context.Context, i int) (err error) {
			planes[i] = &rotatedPlane{meter: &meter, lists: &counted, first: in.DataPlanes[i], next: in.Rotated[i]}
			rotate[i], err = connect(ctx, planes[i]) // until the measurement ends
			return err
		}); err != nil {
			return nil, err
		}
		if err := untilAll(ctx, planes, func(p *rotatedPlane) bool { return p.isUpToDate(p.first) }); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		time.Sleep(2 * time.Second) // a rotation ends no watch younger than 1.5 s

		cpu, received, lists, started := cpuTime(), meter.received.Load(), counted.Load(), time.Now()
		first := make([]float64, len(planes))
		err := parallel(ctx, rotateAtOnce, len(planes), func(ctx context.Context, i int) error {
			began := time.Now()
			if err := rotate[i](); err != nil {
				return err
			}
			_, err := planes[i].client.Load().CoreV1().ConfigMaps(rotateNamespace).Get(ctx, objectName(0), metav1.GetOptions{})
			first[i] = time.Since(began).Seconds()
			return err
		})
		if err == nil {
			err = untilAll(ctx, planes, func(p *rotatedPlane) bool { return p.isUpToDate(p.next) })
		}
		if err != nil {
			return nil, fmt.Errorf("rotate: %w", err)
		}
		return values{
			"time": time.Since(started).Seconds(), "first request": median(first), "cpu": cpuTime() - cpu,
			"received": float64(meter.received.Load() - received), "lists": float64(counted.Load() - lists),
		}, nil
	}
}

func untilAll(ctx context.Context, planes []*rotatedPlane, done func(p *rotatedPlane) bool) error {
	return wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, rotateLimit, true, func(context.Context) (bool, error) {
		return !slices.ContainsFunc(planes, func(p *rotatedPlane) bool { return !done(p) }), nil
	})
}

func (p *rotatedPlane) isUpToDate(dp *openchoreov1alpha1.DataPlane) bool {
	return p.watches.Load() == dp && (*p.synced.Load())()
}

func connectSDK(ctx context.Context, p *rotatedPlane) (rotate func() error, err error) {
	cluster, err := remote.NewCluster(p.first, remote.Options{ConfigFor: func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
		config, err := verifiedConfig(dp)
		if err != nil {
			return nil, err
		}
		return p.metered(dp, config), nil
	}})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, cluster.Close)
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		return nil, err
	}
	p.startInformer(ctx, client)
	return func() error { return cluster.Update(p.next) }, nil
}

func connectClientGo(ctx context.Context, p *rotatedPlane) (rotate func() error, err error) {
	start := func(dp *openchoreov1alpha1.DataPlane) (stop func(), err error) {
		config, err := decodedConfig(dp)
		if err != nil {
			return nil, err
		}
		client, err := kubernetes.NewForConfig(p.metered(dp, config))
		if err != nil {
			return nil, err
		}
		running, stop := context.WithCancel(ctx)
		p.startInformer(running, client)
		return stop, nil
	}
	stop, err := start(p.first)
	return func() error {
		stop()
		_, err := start(p.next)
		return err
	}, err
}

// startInformer starts an informer that ends with ctx.
func (p *rotatedPlane) startInformer(ctx context.Context, client *kubernetes.Clientset) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(rotateNamespace))
	synced := cache.InformerSynced(factory.Core().V1().ConfigMaps().Informer().HasSynced)
	p.client.Store(client)
	p.synced.Store(&synced)
	factory.Start(ctx.Done())
}

// metered makes a config count received bytes and lists, and record its watches.
func (p *rotatedPlane) metered(dp *openchoreov1alpha1.DataPlane, config *rest.Config) *rest.Config {
	config.Dial = p.meter.dial
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			query := req.URL.Query()
			watch := query.Get("watch") == "true"
			// A watch that begins with all objects counts as a list.
			if strings.HasSuffix(req.URL.Path, "/configmaps") && (!watch || query.Get("sendInitialEvents") == "true") {
				p.lists.Add(1)
			}
			resp, err := next.RoundTrip(req)
			if err == nil && watch && resp.StatusCode == http.StatusOK {
				p.watches.Store(dp)
			}
			return resp, err
		})
	}
	return config
}
