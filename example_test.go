// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"
	"log"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func Example() {
	ctx := context.Background()
	// The cluster that kubectl uses.
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		log.Fatal(err)
	}
	factory := openchoreoinformers.NewSharedInformerFactory(openchoreoclient.NewForConfigOrDie(config), 0)
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()

	// A client for each data plane, which follows rotations of its credentials.
	clients := remote.NewCache(remote.FromLister(dataPlanes.Lister()),
		func(cluster *remote.Cluster) (kubernetes.Interface, error) {
			return kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
		}, remote.Options{})
	if _, err := dataPlanes.Informer().AddEventHandler(clients.Handler()); err != nil {
		log.Fatal(err)
	}
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx) // hangs if DataPlanes aren't installed, or may not be listed

	list, err := dataPlanes.Lister().List(labels.Everything())
	if err != nil {
		log.Fatal(err)
	}
	for _, dp := range list {
		fmt.Println(dp.Namespace, dp.Name, "ready:", helpers.IsReady(dp, helpers.Stock()))
		target, err := clients.Get(types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name})
		if err != nil {
			fmt.Println(err) // names the fields at fault, never their values
			continue
		}
		fmt.Println(target.Discovery().ServerVersion())
	}
	clients.Close()
}
