// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"
	"log"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

func Example() {
	ctx := context.Background()
	starting, cancel := context.WithTimeout(ctx, 30*time.Second)
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig( // the cluster that kubectl uses
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		log.Fatal(err)
	}
	client := openchoreoclient.NewForConfigOrDie(config)
	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	openchoreo := factory.OpenChoreo().V1alpha1()

	// Only informers of installed kinds that this user may list: others would never sync.
	var dataPlanes listers.DataPlaneLister
	var clusterDataPlanes listers.ClusterDataPlaneLister
	var informers []cache.SharedIndexInformer
	_, err = client.OpenChoreoV1alpha1().DataPlanes("").List(starting, metav1.ListOptions{Limit: 1})
	if err == nil {
		dataPlanes, informers = openchoreo.DataPlanes().Lister(), append(informers, openchoreo.DataPlanes().Informer())
	}
	_, clusterErr := client.OpenChoreoV1alpha1().ClusterDataPlanes().List(starting, metav1.ListOptions{Limit: 1})
	if clusterErr == nil {
		clusterDataPlanes, informers = openchoreo.ClusterDataPlanes().Lister(), append(informers, openchoreo.ClusterDataPlanes().Informer())
	}
	for _, err := range []error{err, clusterErr} {
		if err != nil && (len(informers) == 0 || !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err)) {
			log.Fatal(err)
		}
	}

	// A client for each data plane, which follows rotations of its credentials.
	var gateway *rest.Config // nil for v0.3; for v1, the gateway's address and certificates: see docs/connecting.md
	clients := remote.NewCache(remote.FromListers(dataPlanes, clusterDataPlanes),
		func(cluster *remote.Cluster) (kubernetes.Interface, error) {
			return kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
		}, remote.Options{ConfigFor: helpers.ConfigFor(gateway)})
	for _, informer := range informers {
		if _, err := informer.AddEventHandler(clients.Handler()); err != nil {
			log.Fatal(err)
		}
	}
	factory.StartWithContext(ctx)
	if err := factory.WaitForCacheSyncWithContext(starting).AsError(); err != nil {
		log.Fatal(err)
	}
	cancel()

	for _, informer := range informers {
		for _, obj := range informer.GetStore().List() {
			dp := obj.(interface{ AsDataPlane() *v1alpha1.DataPlane }).AsDataPlane()
			fmt.Println(dp.Namespace, dp.Name, "ready:", helpers.IsReady(dp, helpers.Stock()))
			target, err := clients.Get(types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name})
			if err != nil {
				fmt.Println(err) // names the fields at fault, never their values
				continue
			}
			fmt.Println(target.Discovery().ServerVersion())
		}
	}
	clients.Close()
}
