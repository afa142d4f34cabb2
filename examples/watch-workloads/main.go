// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command watch-workloads watches the Deployments of all data planes, and prints a line for each change:
//
//	go -C examples run ./watch-workloads
//
// It connects with the credentials of OpenChoreo v0.3 or, for DataPlanes and ClusterDataPlanes of v1, through the
// cluster gateway. It needs the rights to list and watch both kinds and, in the data planes, Deployments.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// A data plane is reported when more than toleratedProbes fail in a row: an API server may restart.
const (
	probePeriod     = 10 * time.Second
	toleratedProbes = 2
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file` of the cluster that stores data planes (default: kubectl's)")
	var gateway args.Gateway
	gateway.Register(flag.CommandLine)
	args.Parse(flag.CommandLine, gateway.Check)
	demo.ProvideCluster(demo.ChangesDeployments) // delete this line in your program

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, *kubeconfig, gateway.Config()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig string, gateway *rest.Config) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // as kubectl
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return err
	}
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	openchoreo := factory.OpenChoreo().V1alpha1()
	f := fleet.New(watchDeployments, fleet.Options{
		Remote:     remote.Options{ConfigFor: helpers.ConfigFor(gateway)},
		StartLimit: 50, // data planes that list at the same time
		Hooks: fleet.Hooks{
			OnEnd: func(key types.NamespacedName, err error, _, retry time.Duration) {
				if retry > 0 {
					log.Printf("%s: not watched, next attempt in %s: %v", nameOf(key), retry.Round(time.Second), err)
				}
			},
			OnRemove: func(key types.NamespacedName) { log.Printf("%s: deleted", nameOf(key)) },
		},
	}, openchoreo.DataPlanes().Informer(), openchoreo.ClusterDataPlanes().Informer())
	// If one of these informers can't list, client-go logs the reason, such as a kind that isn't installed.
	factory.StartWithContext(ctx)
	return f.Run(ctx)
}

// watchDeployments is the run of one data plane. It continues through rotations of the credentials and, once it has all
// Deployments, through outages: its informer then reports what changed in between. If the first list fails, the Fleet calls
// OnEnd, waits longer each time, and starts another run. Drop the state that you keep for a data plane when its run ends.
func watchDeployments(ctx context.Context, cluster *remote.Cluster) error {
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(informer.StripManagedFields)) // to save memory
	deployments := factory.Apps().V1().Deployments().Informer()
	defer shutDown(factory)
	var probing wait.Group
	defer probing.Wait()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)

	// Without this handler, an informer that can't list retries for ever, and only logs the error.
	if err := deployments.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if deployments.HasSynced() {
			cache.DefaultWatchErrorHandler(ctx, r, err)
			return
		}
		end(fmt.Errorf("listing Deployments: %w", err))
	}); err != nil {
		return err
	}
	report := func(change string, obj any) {
		deployment, _ := cache.DeletionHandlingObjectToName(obj)
		fmt.Printf("%s: Deployment %s %s\n", nameOf(cluster.Key()), deployment, change)
	}
	registration, err := deployments.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, initial bool) {
			if !initial {
				report("created", obj)
			}
		},
		UpdateFunc: func(_, obj any) { report("updated", obj) },
		DeleteFunc: func(obj any) { report("deleted", obj) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	probing.Start(func() { logOutages(ctx, cluster) })
	if cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		fleet.MarkStarted(ctx)
		fmt.Printf("%s: watching, %d Deployments\n", nameOf(cluster.Key()), len(deployments.GetStore().ListKeys()))
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// shutDown waits until the informers have ended, so that no handler runs later. It doesn't wait for long: from client-go 0.35
// on, an informer that was refused a connection before its list may sleep for up to a minute after its context has ended.
func shutDown(factory informers.SharedInformerFactory) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		factory.Shutdown()
	}()
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
	}
}

// logOutages probes a data plane until ctx ends. An informer doesn't report refused connections and missing agents: it retries
// for ever, from client-go 0.35 on even its first list.
func logOutages(ctx context.Context, cluster *remote.Cluster) {
	failed := 0
	_ = wait.PollUntilContextCancel(ctx, probePeriod, false, func(ctx context.Context) (bool, error) {
		switch err := cluster.Probe(ctx); {
		case err != nil:
			failed++
			if failed == toleratedProbes+1 {
				log.Printf("%s: no answer, so changes are printed later: %v", nameOf(cluster.Key()), err)
			}
		case failed > toleratedProbes:
			log.Printf("%s: answers again", nameOf(cluster.Key()))
			fallthrough
		default:
			failed = 0
		}
		return false, nil
	})
}

func nameOf(key types.NamespacedName) string {
	if key.Namespace == "" {
		return "clusterdataplane/" + key.Name
	}
	return key.String()
}
