// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"

	"k8s.io/client-go/kubernetes"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// A program that does something in every data plane all the time leaves to a fleet.Fleet
// when to start, stop and repeat it.
func Example_fleet() {
	var client openchoreoclient.Interface // of the cluster that stores the DataPlanes
	watchPods := func(context.Context, kubernetes.Interface) error { return nil }
	watchAllPods := func(ctx context.Context) error {
		factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
		dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()

		all := fleet.New(dataPlanes.Informer(), func(ctx context.Context, cluster *remote.Cluster) error {
			target, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
			if err != nil {
				return err
			}
			return watchPods(ctx, target) // until ctx ends; after an error, there is another run
		}, fleet.Options{})
		factory.Start(ctx.Done())
		return all.Run(ctx)
	}
	_ = watchAllPods
}
