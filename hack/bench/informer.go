// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreoscheme "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
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
		if err := wait.PollUntilContextTimeout(ctx, time.Millisecond, 10*time.Minute, true, func(context.Context) (bool, error) {
			peak = max(peak, heapSize())
			return hasSynced(), nil
		}); err != nil {
			return nil, err
		}
		v := values{"time": time.Since(started).Seconds(), "cpu": cpuTime() - cpu, "received": float64(m.received.Load())}
		v["peak heap"], v["settled heap"] = peak-before, liveHeap()-before
		return v, nil
	}
}
