// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// A program that runs for long keeps its clients in a remote.Cache.
func Example_cache() {
	var client openchoreoclient.Interface // of the cluster that stores the DataPlanes
	countPods := func(ctx context.Context) error {
		factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
		dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()

		clients := remote.NewCache(remote.FromLister(dataPlanes.Lister()),
			func(cluster *remote.Cluster) (kubernetes.Interface, error) {
				return kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
			}, remote.Options{})
		defer clients.Close()
		if _, err := dataPlanes.Informer().AddEventHandler(clients.Handler()); err != nil {
			return err
		}
		factory.Start(ctx.Done())
		factory.WaitForCacheSync(ctx.Done())

		target, err := clients.Get(types.NamespacedName{Namespace: "default", Name: "prod"})
		if err != nil {
			return err
		}
		pods, err := target.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		fmt.Println(len(pods.Items))
		return nil
	}
	_ = countPods
}
