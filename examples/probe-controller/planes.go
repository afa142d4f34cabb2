// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// planes are the DataPlanes and ClusterDataPlanes in the caches of informers.
type planes struct {
	openchoreoinformers.SharedInformerFactory
	informers []cache.SharedIndexInformer
	// get reads a data plane. The namespace of a ClusterDataPlane is empty.
	get func(types.NamespacedName) (*openchoreov1alpha1.DataPlane, error)
}

// newPlanes makes informers of the kinds that the API server serves now. It lists once, so that a
// missing right is an error: an informer would retry for ever.
func newPlanes(ctx context.Context, client openchoreoclient.Interface, namespace string) (*planes, error) {
	// The probes need the secrets of DataPlanes; nothing needs their managed fields.
	p := &planes{SharedInformerFactory: openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0,
		openchoreoinformers.WithNamespace(namespace), openchoreoinformers.WithTransform(informer.StripManagedFields))}
	kinds, one := p.OpenChoreo().V1alpha1(), metav1.ListOptions{Limit: 1}
	var dataPlanes openchoreolisters.DataPlaneLister
	var clusterDataPlanes openchoreolisters.ClusterDataPlaneLister
	if _, err := client.OpenChoreoV1alpha1().DataPlanes(namespace).List(ctx, one); err == nil {
		dataPlanes, p.informers = kinds.DataPlanes().Lister(), append(p.informers, kinds.DataPlanes().Informer())
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	if namespace == "" {
		if _, err := client.OpenChoreoV1alpha1().ClusterDataPlanes().List(ctx, one); err == nil {
			clusterDataPlanes, p.informers = kinds.ClusterDataPlanes().Lister(), append(p.informers, kinds.ClusterDataPlanes().Informer())
		} else if !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	if len(p.informers) == 0 {
		return nil, errors.New("the API server serves no DataPlanes or ClusterDataPlanes")
	}
	p.get = remote.FromListers(dataPlanes, clusterDataPlanes)
	return p, nil
}

// synced reports whether all caches are filled.
func (p *planes) synced() bool {
	for _, i := range p.informers {
		if !i.HasSynced() {
			return false
		}
	}
	return true
}

// addHandlers adds a new handler to each informer.
func (p *planes) addHandlers(newHandler func() cache.ResourceEventHandler) error {
	for _, i := range p.informers {
		if _, err := i.AddEventHandler(newHandler()); err != nil {
			return err
		}
	}
	return nil
}

// list returns all data planes.
func (p *planes) list() (all []*openchoreov1alpha1.DataPlane) {
	for _, i := range p.informers {
		for _, object := range i.GetStore().List() {
			all = append(all, object.(interface {
				AsDataPlane() *openchoreov1alpha1.DataPlane
			}).AsDataPlane())
		}
	}
	return all
}
