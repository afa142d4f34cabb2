// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/dynamic/dynamiclister"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// cacheOptions are what the caches of all peers can do.
type cacheOptions struct {
	namespace string              // all if empty
	updated   func(metav1.Object) // is called for every event that changes an object
	transform cache.TransformFunc // nil for none
	shard     string              // a selector for a shard on the server; empty for all
	noCopies  bool                // controller-runtime's UnsafeDisableDeepCopy
}

// reader is what a cache answers. Each returns how many objects there are.
type reader struct {
	get       func(namespace, name string) error
	list      func(namespace string) (int, error)
	listGold  func() (int, error)
	len       func() int
	hasSynced func() bool
}

type startCache func(ctx context.Context, config *rest.Config, o cacheOptions) (*reader, error)

var gold = labels.SelectorFromSet(labels.Set{goldLabel: "true"})

var dataPlanes = openchoreov1alpha1.SchemeGroupVersion.WithResource("dataplanes")

func (o *cacheOptions) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, obj any) {
		if object, ok := obj.(metav1.Object); ok {
			o.updated(object)
		}
	}}
}

func (o *cacheOptions) configure(informer interface {
	AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error)
},
) error {
	if o.updated == nil {
		return nil
	}
	_, err := informer.AddEventHandler(o.handler())
	return err
}

func startSDKCache(ctx context.Context, config *rest.Config, o cacheOptions) (*reader, error) {
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0,
		openchoreoinformers.WithNamespace(o.namespace),
		openchoreoinformers.WithTransform(o.transform),
		openchoreoinformers.WithTweakListOptions(func(options *metav1.ListOptions) { options.ShardSelector = o.shard }))
	all := factory.OpenChoreo().V1alpha1().DataPlanes()
	informer, lister := all.Informer(), all.Lister()
	if err := o.configure(informer); err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	return &reader{
		get: func(namespace, name string) error {
			_, err := lister.DataPlanes(namespace).Get(name)
			return err
		},
		list: func(namespace string) (int, error) {
			list, err := lister.DataPlanes(namespace).List(labels.Everything())
			return len(list), err
		},
		listGold: func() (int, error) {
			list, err := lister.List(gold)
			return len(list), err
		},
		len:       func() int { return len(informer.GetStore().ListKeys()) },
		hasSynced: informer.HasSynced,
	}, nil
}

// startControllerRuntimeCache is of the same types, which stand in for copies by hand.
func startControllerRuntimeCache(ctx context.Context, config *rest.Config, o cacheOptions) (*reader, error) {
	scheme := runtime.NewScheme()
	if err := openchoreov1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	options := ctrlcache.Options{Scheme: scheme, DefaultTransform: o.transform}
	if o.namespace != "" {
		options.DefaultNamespaces = map[string]ctrlcache.Config{o.namespace: {}}
	}
	if o.noCopies {
		options.DefaultUnsafeDisableDeepCopy = &o.noCopies
	}
	c, err := ctrlcache.New(config, options)
	if err != nil {
		return nil, err
	}
	informer, err := c.GetInformer(ctx, &openchoreov1alpha1.DataPlane{}, ctrlcache.BlockUntilSynced(false))
	if err != nil {
		return nil, err
	}
	if err := o.configure(informer); err != nil {
		return nil, err
	}
	go func() { _ = c.Start(ctx) }() // its errors show as a cache that never syncs
	list := func(opts ...ctrlclient.ListOption) (int, error) {
		var list openchoreov1alpha1.DataPlaneList
		err := c.List(ctx, &list, opts...)
		return len(list.Items), err
	}
	return &reader{
		get: func(namespace, name string) error {
			var dp openchoreov1alpha1.DataPlane
			return c.Get(ctx, ctrlclient.ObjectKey{Namespace: namespace, Name: name}, &dp)
		},
		list:     func(namespace string) (int, error) { return list(ctrlclient.InNamespace(namespace)) },
		listGold: func() (int, error) { return list(ctrlclient.MatchingLabelsSelector{Selector: gold}) },
		len: func() int {
			n, _ := list()
			return n
		},
		hasSynced: informer.HasSynced,
	}, nil
}

func startDynamicCache(ctx context.Context, config *rest.Config, o cacheOptions) (*reader, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, o.namespace, nil)
	informer := factory.ForResource(dataPlanes).Informer()
	if err := informer.SetTransform(o.transform); err != nil {
		return nil, err
	}
	if err := o.configure(informer); err != nil {
		return nil, err
	}
	lister := dynamiclister.New(informer.GetIndexer(), dataPlanes)
	factory.Start(ctx.Done())
	return &reader{
		get: func(namespace, name string) error {
			_, err := lister.Namespace(namespace).Get(name)
			return err
		},
		list: func(namespace string) (int, error) {
			list, err := lister.Namespace(namespace).List(labels.Everything())
			return len(list), err
		},
		listGold: func() (int, error) {
			list, err := lister.List(gold)
			return len(list), err
		},
		len:       func() int { return len(informer.GetStore().ListKeys()) },
		hasSynced: informer.HasSynced,
	}, nil
}

// waitForSync looks every millisecond, since cache.WaitForCacheSync looks every 100 ms only.
func (r *reader) waitForSync(ctx context.Context) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(10 * time.Minute)
	for !r.hasSynced() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline:
			return errors.New("the cache has not synced")
		case <-ticker.C:
		}
	}
	return nil
}

// bareClient is an HTTP client with the credentials of the user.
func bareClient(config *rest.Config) (*http.Client, error) { return rest.HTTPClientFor(config) }
