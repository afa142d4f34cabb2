// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command connect keeps a client for the cluster of each DataPlane and counts the namespaces
// there every ten seconds, until Ctrl-C:
//
//	go -C examples run ./connect
//
// DataPlanes of OpenChoreo v0.9 and later hold no credentials. With --gateway, the program
// connects to their clusters through OpenChoreo's cluster gateway.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "`file` for the cluster that stores DataPlanes (default: that of kubectl)")
	namespace := flag.String("namespace", "default", "`name` of the namespace of DataPlanes")
	gateway := flag.String("gateway", "", "`URL` of the cluster gateway (default: connect with the credentials in the DataPlanes)")
	gatewayCA := flag.String("gateway-ca", "", "`file` with the CA certificates of the gateway")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("unexpected argument %q; flags come before it", flag.Arg(0))
	}

	options := remote.Options{OnRotate: func(dp types.NamespacedName) { fmt.Printf("%s: new credentials\n", dp.Name) }}
	if *gateway != "" {
		// If the gateway asks for a client certificate, set CertFile and KeyFile too.
		config := &rest.Config{Host: *gateway, TLSClientConfig: rest.TLSClientConfig{CAFile: *gatewayCA}}
		if _, err := rest.TLSConfigFor(config); err != nil {
			log.Fatal(err)
		}
		options.ConfigFor = func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
			return helpers.GatewayConfigFor(dp, config)
		}
	}
	demo.ProvideCluster(demo.RotatesOnEnter) // delete this line in a program of your own
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *kubeconfig, *namespace, options)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig, namespace string, options remote.Options) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // those of kubectl
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
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()

	clients := remote.NewCache(remote.FromListers(dataPlanes.Lister(), nil), func(c *remote.Cluster) (kubernetes.Interface, error) {
		return kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	}, options)
	defer clients.Close()
	// New credentials take effect, and the clients of deleted DataPlanes are closed.
	if _, err := dataPlanes.Informer().AddEventHandler(clients.Handler()); err != nil {
		return err
	}
	defer factory.Shutdown()
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)

	wait.NonSlidingUntilWithContext(ctx, func(ctx context.Context) {
		list, err := dataPlanes.Lister().DataPlanes(namespace).List(labels.Everything())
		if err != nil {
			log.Print(err)
		}
		var asked sync.WaitGroup // all at once, so that a cluster that doesn't answer delays no other
		for _, dp := range list {
			asked.Go(func() {
				n, err := countNamespaces(ctx, clients, types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name})
				if err != nil {
					fmt.Printf("%s: %s: %v\n", dp.Name, remote.Classify(err), err)
					return
				}
				fmt.Printf("%s: %d namespaces\n", dp.Name, n)
			})
		}
		asked.Wait()
	}, 10*time.Second)
	return nil
}

func countNamespaces(ctx context.Context, clients *remote.Cache[kubernetes.Interface], dp types.NamespacedName) (int, error) {
	client, err := clients.Get(dp) // for each use: it is the client of the DataPlane as it is now
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	namespaces, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	return len(namespaces.Items), nil
}
