// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func ExampleNew() {
	server := dataplanetest.NewServer(dataplanetest.NewObjects())
	defer server.Close()
	factory := openchoreoinformers.NewSharedInformerFactory(
		dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", server.As("alice"))), 0)
	defer factory.Shutdown()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	f := fleet.New(func(ctx context.Context, cluster *remote.Cluster) error {
		client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
		if err != nil {
			return err
		}
		version, err := client.Discovery().ServerVersion()
		if err != nil {
			return err // the next run follows soon
		}
		fmt.Println(cluster.Key(), version)
		stop()       // for this example
		<-ctx.Done() // a real run watches something until ctx ends
		return nil
	}, fleet.Options{}, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())
	factory.StartWithContext(ctx)
	fmt.Println(f.Run(ctx))
	// Output:
	// default/prod v1.33.1
	// <nil>
}

// Not every data plane has a run.
func ExampleOnlyConnected() {
	factory := openchoreoinformers.NewSharedInformerFactory(dataplanetest.NewClientset(
		dataplanetest.DataPlane("default", "new"),
		dataplanetest.DataPlane("default", "prod", dataplanetest.Connected),
	), 0)
	defer factory.Shutdown()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	f := fleet.New(func(_ context.Context, cluster *remote.Cluster) error {
		fmt.Println("run for", cluster.Key())
		stop()
		return nil
	}, fleet.Options{Filter: fleet.OnlyConnected()}, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())
	factory.StartWithContext(ctx)
	fmt.Println(f.Run(ctx))
	// Output:
	// run for default/prod
	// <nil>
}

// Runs start one at a time, each after the caches of the previous one are full.
func ExampleMarkStarted() {
	factory := openchoreoinformers.NewSharedInformerFactory(dataplanetest.NewClientset(
		dataplanetest.DataPlane("default", "eu"),
		dataplanetest.DataPlane("default", "us"),
	), 0)
	defer factory.Shutdown()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	started := 0
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error {
		if started++; started == 2 { // the other run has called MarkStarted, so this needs no lock
			stop()
		}
		fleet.MarkStarted(ctx)
		<-ctx.Done()
		return nil
	}, fleet.Options{StartLimit: 1}, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())
	factory.StartWithContext(ctx)
	fmt.Println(f.Run(ctx), started)
	// Output: <nil> 2
}

// Hooks feed logs and metrics.
func ExampleHooks() {
	factory := openchoreoinformers.NewSharedInformerFactory(
		dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod")), 0)
	defer factory.Shutdown()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	runs := 0
	f := fleet.New(func(context.Context, *remote.Cluster) error {
		if runs++; runs == 2 {
			stop()
			return nil
		}
		return errors.New("connection lost")
	}, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Millisecond},
		Hooks: fleet.Hooks{
			OnStart: func(key types.NamespacedName) { fmt.Println("start", key) },
			OnEnd: func(key types.NamespacedName, err error, _, retry time.Duration) {
				if retry > 0 {
					fmt.Println("again", key, err)
				}
			},
		},
	}, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())
	factory.StartWithContext(ctx)
	fmt.Println(f.Run(ctx))
	// Output:
	// start default/prod
	// again default/prod connection lost
	// start default/prod
	// <nil>
}

func ExampleFleet_Status() {
	factory := openchoreoinformers.NewSharedInformerFactory(
		dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod")), 0)
	defer factory.Shutdown()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	running := make(chan struct{})
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error {
		close(running)
		<-ctx.Done()
		return nil
	}, fleet.Options{}, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())
	go func() { // usually in an HTTP handler
		<-running
		for _, plane := range f.Status().Planes {
			fmt.Println(plane.Name, plane.State, plane.Restarts)
		}
		stop()
	}()
	factory.StartWithContext(ctx)
	fmt.Println(f.Run(ctx))
	// Output:
	// prod Running 0
	// <nil>
}

// Several replicas of a program, in Pods, share the data planes.
func ExampleSharding() {
	leases := newLeases() // CoordinationV1 of a kubernetes.Clientset for the cluster that stores the DataPlanes
	factory := openchoreoinformers.NewSharedInformerFactory(
		dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod")), 0)
	defer factory.Shutdown()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	f := fleet.New(func(_ context.Context, cluster *remote.Cluster) error {
		fmt.Println("run for", cluster.Key())
		stop()
		return nil
	}, fleet.Options{Sharding: &fleet.Sharding{
		Leases: leases, Namespace: "my-controller", Name: "my-controller", Shards: 4,
		Identity: "my-controller-6d5f9c-x2x7k", // from the environment, such as POD_NAME
	}}, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())
	factory.StartWithContext(ctx)
	fmt.Println(f.Run(ctx))
	// Output:
	// run for default/prod
	// <nil>
}
