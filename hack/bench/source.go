// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// source is how a program gets the clients of data planes. It stands for an informer of
// DataPlanes too: set and remove change its cache and call its handler.
type source struct {
	get     func(key types.NamespacedName) (kubernetes.Interface, error)
	planes  cache.Indexer
	handler cache.ResourceEventHandler
}

// newSource makes the two parts of a source that subjects differ in.
type newSource func(lister openchoreolisters.DataPlaneLister) (
	get func(key types.NamespacedName) (kubernetes.Interface, error), handler cache.ResourceEventHandler)

func (n newSource) start() *source {
	s := &source{planes: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})}
	s.get, s.handler = n(openchoreolisters.NewDataPlaneLister(s.planes))
	return s
}

func (s *source) set(dp *openchoreov1alpha1.DataPlane) error {
	old, exists, err := s.planes.Get(dp)
	if err == nil {
		err = s.planes.Update(dp)
	}
	switch {
	case err != nil:
	case exists:
		s.handler.OnUpdate(old, dp)
	default:
		s.handler.OnAdd(dp, false)
	}
	return err
}

func (s *source) remove(dp *openchoreov1alpha1.DataPlane) error {
	if err := s.planes.Delete(dp); err != nil {
		return err
	}
	last := *dp
	last.ResourceVersion += "0" // to an API server, a deletion is a change
	s.handler.OnDelete(&last)
	return nil
}

func keyOf(dp *openchoreov1alpha1.DataPlane) types.NamespacedName {
	return types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}
}

// sdkSource keeps clients in a remote.Cache.
func sdkSource(lister openchoreolisters.DataPlaneLister) (func(types.NamespacedName) (kubernetes.Interface, error), cache.ResourceEventHandler) {
	clients := remote.NewCache(remote.FromLister(lister), newClusterClient, remote.Options{ConfigFor: verifiedConfig})
	return clients.Get, clients.Handler()
}

func newClusterClient(c *remote.Cluster) (kubernetes.Interface, error) {
	return kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
}

// verifiedConfig has no limit on requests per second, like decodedConfig.
func verifiedConfig(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	config, err := helpers.RESTConfigFor(dp)
	if err == nil {
		config.QPS = -1
	}
	return config, err
}

// mapSource keeps clients in a map, and builds another when the DataPlane has changed. It
// can't close connections: client-go shares and keeps them.
func mapSource(lister openchoreolisters.DataPlaneLister) (func(types.NamespacedName) (kubernetes.Interface, error), cache.ResourceEventHandler) {
	type entry struct {
		client          kubernetes.Interface
		uid             types.UID
		resourceVersion string
	}
	var mu sync.Mutex
	clients := map[types.NamespacedName]entry{}
	get := func(key types.NamespacedName) (kubernetes.Interface, error) {
		dp, err := lister.DataPlanes(key.Namespace).Get(key.Name)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if e, ok := clients[key]; ok && e.uid == dp.UID && e.resourceVersion == dp.ResourceVersion {
			return e.client, nil
		}
		client, err := newBareClient(dp)
		if err != nil {
			return nil, err
		}
		clients[key] = entry{client, dp.UID, dp.ResourceVersion}
		return client, nil
	}
	return get, cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if dp, ok := obj.(*openchoreov1alpha1.DataPlane); ok {
			mu.Lock()
			defer mu.Unlock()
			delete(clients, keyOf(dp))
		}
	}}
}

// bareSource makes a client for each call. client-go shares the connections of equal
// configurations.
func bareSource(lister openchoreolisters.DataPlaneLister) (func(types.NamespacedName) (kubernetes.Interface, error), cache.ResourceEventHandler) {
	return func(key types.NamespacedName) (kubernetes.Interface, error) {
		dp, err := lister.DataPlanes(key.Namespace).Get(key.Name)
		if err != nil {
			return nil, err
		}
		return newBareClient(dp)
	}, cache.ResourceEventHandlerFuncs{}
}

func newBareClient(dp *openchoreov1alpha1.DataPlane) (kubernetes.Interface, error) {
	config, err := decodedConfig(dp)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func decodedConfig(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	creds := dp.Spec.KubernetesCluster.Credentials
	config := &rest.Config{Host: creds.APIServerURL, QPS: -1}
	var errs [3]error
	config.CAData, errs[0] = base64.StdEncoding.DecodeString(creds.CACert)
	config.CertData, errs[1] = base64.StdEncoding.DecodeString(creds.ClientCert)
	config.KeyData, errs[2] = base64.StdEncoding.DecodeString(creds.ClientKey)
	return config, errors.Join(errs[:]...)
}
