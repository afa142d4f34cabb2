// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

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
	meter     *meter        // of all data planes
	lists     *atomic.Int64 // of all data planes
	use       useFunc
	client    kubernetes.Interface
	hasSynced func() bool
	watches   atomic.Pointer[openchoreov1alpha1.DataPlane] // the DataPlane of the last watch's credentials
}

// useFunc connects with the credentials of a DataPlane and starts an informer. A second call changes to
// other credentials.
type useFunc func(dp *openchoreov1alpha1.DataPlane) error

// newUseFunc returns the useFunc of p. Informers end with ctx.
type newUseFunc func(ctx context.Context, p *rotatedPlane) useFunc

func rotateAll(newUse newUseFunc) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*rotateLimit)
		defer cancel()
		var meter meter
		var lists atomic.Int64
		planes := make([]*rotatedPlane, users)
		for i := range planes {
			planes[i] = &rotatedPlane{meter: &meter, lists: &lists}
			planes[i].use = newUse(ctx, planes[i])
		}
		if _, err := useAll(ctx, planes, in.DataPlanes); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		time.Sleep(2 * time.Second) // a rotation ends no watch younger than 1.5 s

		cpu, received, listed, started := cpuTime(), meter.received.Load(), lists.Load(), time.Now()
		first, err := useAll(ctx, planes, in.Rotated)
		if err != nil {
			return nil, fmt.Errorf("rotate: %w", err)
		}
		return values{
			"time": time.Since(started).Seconds(), "first request": median(first), "cpu": cpuTime() - cpu,
			"received": float64(meter.received.Load() - received), "lists": float64(lists.Load() - listed),
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
	return first, wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, rotateLimit, true, func(context.Context) (bool, error) {
		for i, p := range planes {
			if p.watches.Load() != credentials[i] || !p.hasSynced() {
				return false, nil
			}
		}
		return true, nil
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
					p.lists.Add(1)
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
