// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func ExampleNew() {
	var informer cache.SharedIndexInformer // of a generated informer factory

	f := fleet.New(informer, func(ctx context.Context, cluster *remote.Cluster) error {
		client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
		if err != nil {
			return err
		}
		watcher, err := client.AppsV1().Deployments("").Watch(ctx, metav1.ListOptions{})
		if err != nil {
			return err // there is another run soon
		}
		defer watcher.Stop()
		for event := range watcher.ResultChan() {
			fmt.Println(cluster.Key(), event.Type)
		}
		return errors.New("the watch has ended")
	}, fleet.Options{Backoff: fleet.Backoff{Limit: time.Minute}})

	run := func(ctx context.Context) {
		go func() {
			<-ctx.Done()
			fmt.Println(len(f.Status().Planes), "data planes")
		}()
		if err := f.Run(ctx); err != nil {
			fmt.Println(err)
		}
	}
	_ = run
}

// A program of which several replicas run, in Pods.
func ExampleSharding() {
	var (
		config   *rest.Config // of the cluster that holds the DataPlanes and the Leases
		informer cache.SharedIndexInformer
		work     func(context.Context, *remote.Cluster) error
	)
	run := func(ctx context.Context) error {
		config := rest.CopyConfig(config)
		config.QPS = -1 // or else renewals could wait
		leases, err := coordinationv1client.NewForConfig(config)
		if err != nil {
			return err
		}
		return fleet.New(informer, work, fleet.Options{
			Sharding: &fleet.Sharding{
				Leases: leases, Namespace: "my-controller", Name: "my-controller",
				Identity: os.Getenv("POD_NAME"), Shards: 16,
			},
		}).Run(ctx)
	}
	_ = run
}
