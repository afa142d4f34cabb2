// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command connect keeps a client for the cluster of each DataPlane and ClusterDataPlane, and counts
// the namespaces there every five seconds, until Ctrl-C:
//
//	go -C examples run ./connect
//
// Data planes of OpenChoreo v1 hold no credentials. With --gateway, the program connects to their
// clusters through OpenChoreo's cluster gateway:
//
//	kubectl port-forward -n openchoreo-control-plane service/cluster-gateway 8444
//	go -C examples run ./connect --kubeconfig ~/.kube/config --gateway https://127.0.0.1:8444 \
//	    --gateway-server-name cluster-gateway.openchoreo-control-plane.svc \
//	    --gateway-ca "$PWD/ca.crt" --gateway-cert "$PWD/tls.crt" --gateway-key "$PWD/tls.key"
//
// New credentials, in a DataPlane or in the files, take effect without a restart.
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

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

const (
	interval = 5 * time.Second // between counts, and the time limit of each request
	atOnce   = 100             // how many requests may run at the same time
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file` of the cluster that stores DataPlanes (default: kubectl's)")
	namespace := flag.String("namespace", "", "`name` of the namespace of DataPlanes (default: all)")
	var gateway args.Gateway
	gateway.Register(flag.CommandLine)
	args.Parse(flag.CommandLine, gateway.Check)
	demo.ProvideCluster(demo.RotatesOnEnter) // delete this line in your program

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := run(ctx, *kubeconfig, *namespace, remote.Options{
		ConfigFor: helpers.ConfigFor(gateway.Config()),
		OnRotate:  func(key types.NamespacedName) { fmt.Printf("%s: new credentials\n", nameOf(key)) },
	})
	if err != nil && ctx.Err() == nil { // an error after a signal is no failure
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig, namespace string, options remote.Options) error {
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
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0, openchoreoinformers.WithNamespace(namespace))
	openchoreo := factory.OpenChoreo().V1alpha1()

	// Only informers of installed kinds that the user may list: others would never sync.
	var dataPlanes listers.DataPlaneLister
	var clusterDataPlanes listers.ClusterDataPlaneLister
	var informers []cache.SharedIndexInformer
	_, err = client.OpenChoreoV1alpha1().DataPlanes(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err == nil {
		dataPlanes, informers = openchoreo.DataPlanes().Lister(), append(informers, openchoreo.DataPlanes().Informer())
	}
	_, clusterErr := client.OpenChoreoV1alpha1().ClusterDataPlanes().List(ctx, metav1.ListOptions{Limit: 1})
	if clusterErr == nil {
		clusterDataPlanes, informers = openchoreo.ClusterDataPlanes().Lister(), append(informers, openchoreo.ClusterDataPlanes().Informer())
	}
	for _, err := range []error{err, clusterErr} {
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
			return err // the kind may be installed
		}
	}
	switch {
	case err != nil && clusterErr != nil:
		return fmt.Errorf("%w; %w", err, clusterErr)
	case err != nil:
		log.Print("no DataPlanes: ", err)
	case clusterErr != nil:
		log.Print("no ClusterDataPlanes: ", clusterErr)
	}

	clients := remote.NewCache(remote.FromListers(dataPlanes, clusterDataPlanes), func(c *remote.Cluster) (kubernetes.Interface, error) {
		return kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	}, options)
	defer clients.Close()
	for _, informer := range informers {
		// Applies new credentials, and closes the clients of deleted data planes.
		if _, err := informer.AddEventHandler(clients.Handler()); err != nil {
			return err
		}
	}
	defer factory.Shutdown()
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)

	wait.NonSlidingUntilWithContext(ctx, func(ctx context.Context) {
		var keys []string
		for _, informer := range informers {
			keys = append(keys, informer.GetStore().ListKeys()...)
		}
		if len(keys) == 0 {
			log.Print("no data planes")
		}
		// In parallel, so that a cluster that doesn't answer delays no other.
		workqueue.ParallelizeUntil(ctx, atOnce, len(keys), func(i int) {
			var key types.NamespacedName // the namespace of a ClusterDataPlane is empty
			key.Namespace, key.Name, _ = cache.SplitMetaNamespaceKey(keys[i])
			switch n, err := countNamespaces(ctx, clients, key); {
			case ctx.Err() != nil: // the program ends
			case err != nil:
				fmt.Printf("%s: %s: %v\n", nameOf(key), remote.Classify(err), err)
			default:
				fmt.Printf("%s: %d namespaces\n", nameOf(key), n)
			}
		})
	}, interval)
	return nil
}

func countNamespaces(ctx context.Context, clients *remote.Cache[kubernetes.Interface], key types.NamespacedName) (int, error) {
	client, err := clients.Get(key) // before each use, because a later DataPlane may have another client
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, interval)
	defer cancel()
	namespaces, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	return len(namespaces.Items), nil
}

func nameOf(key types.NamespacedName) string {
	if key.Namespace == "" {
		return "clusterdataplane/" + key.Name
	}
	return key.String()
}
