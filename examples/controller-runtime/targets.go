// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// newTargets returns a cache of clients for the clusters of data planes. While a client is open,
// changed is called when the config map in its cluster has changed; it may be nil.
func newTargets(get func(types.NamespacedName) (*openchoreov1alpha1.DataPlane, error), gateway *rest.Config,
	scheme *runtime.Scheme, changed func(types.NamespacedName),
) *remote.Cache[client.Client] {
	if gateway.Host == "" {
		gateway = nil // a data plane of OpenChoreo v1 is then an error
	}
	// It knows the one kind. A dynamic RESTMapper would ask the cluster, without the caller's context.
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	connect := helpers.ConfigFor(gateway)
	configFor := func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
		config, err := connect(dp)
		if err == nil {
			config.UserAgent = name
		}
		return config, err
	}
	build := func(cluster *remote.Cluster) (client.Client, error) {
		if changed != nil {
			if err := watch(cluster, scheme, mapper, func() { changed(cluster.Key()) }); err != nil {
				return nil, err
			}
		}
		return client.New(cluster.Config(), client.Options{HTTPClient: cluster.HTTPClient(), Scheme: scheme, Mapper: mapper})
	}
	return remote.NewCache(get, build, remote.Options{ConfigFor: configFor})
}

// watch calls changed when the config map in a cluster has changed, until the connection is closed. It
// continues through rotations, and works through the cluster gateway.
//
// Cache.Get waits for watch, so watch makes no request itself.
func watch(cluster *remote.Cluster, scheme *runtime.Scheme, mapper meta.RESTMapper, changed func()) error {
	configMaps, err := cache.New(cluster.Config(), cache.Options{
		HTTPClient: cluster.HTTPClient(),
		Scheme:     scheme,
		Mapper:     mapper,
		ByObject: map[client.Object]cache.ByObject{&corev1.ConfigMap{}: {
			Namespaces: map[string]cache.Config{targetNamespace: {}},
			Field:      fields.OneTermEqualSelector("metadata.name", configMapName(cluster.Key())),
		}},
	})
	if err != nil {
		return err
	}
	ctx := wait.ContextForChannel(cluster.Done())
	configMap, err := configMaps.GetInformer(ctx, &corev1.ConfigMap{})
	if err != nil {
		return err
	}
	if _, err := configMap.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		UpdateFunc: func(any, any) { changed() },
		DeleteFunc: func(any) { changed() },
	}); err != nil {
		return err
	}
	go func() { _ = configMaps.Start(ctx) }() // until the connection is closed
	return nil
}
