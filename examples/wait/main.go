// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command wait waits until a DataPlane or ClusterDataPlane is ready, and exits with 0 only then. The
// error of a wait that times out or is interrupted says what was missing and why:
//
//	go -C examples run ./wait
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

	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file` of the cluster that stores DataPlanes (default: kubectl's)")
	namespace := flag.String("namespace", "default", "`name` of the namespace of the DataPlane")
	object := args.Object{Name: "production"}
	flag.Var(&object, "name", "`name` of the DataPlane, or clusterdataplane/NAME; it need not exist yet")
	timeout := flag.Duration("timeout", 30*time.Second, "how long to wait")
	args.Parse(flag.CommandLine)
	demo.ProvideCluster(demo.IsReadyLater) // delete this line in your program

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	err := run(ctx, *kubeconfig, *namespace, object)
	cancel()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig, namespace string, object args.Object) error {
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
	if object.Cluster {
		fmt.Println("waiting for ClusterDataPlane", object.Name)
		return waitUntilReady(ctx, client.OpenChoreoV1alpha1().ClusterDataPlanes(), object.Name)
	}
	fmt.Printf("waiting for DataPlane %s/%s\n", namespace, object.Name)
	return waitUntilReady(ctx, client.OpenChoreoV1alpha1().DataPlanes(namespace), object.Name)
}

func waitUntilReady[T helpers.Object](ctx context.Context, client await.Client[T], name string) error {
	object, err := await.For(ctx, client, name,
		await.True(openchoreov1alpha1.DataPlaneConditionReady),
		// OpenChoreo itself never writes Ready. In v1, it updates the heartbeat once a minute.
		await.JudgeBy(helpers.Stock(), helpers.HeartbeatWithin(5*time.Minute, nil)),
		// After you change the spec, pass the generation that Update or Patch returned, so that
		// earlier conditions don't count: await.MinGeneration(patched.Generation).
		await.AllowMissing())
	if err != nil {
		return err
	}
	fmt.Printf("%s is ready at generation %d\n", name, object.AsDataPlane().Generation)
	return nil
}
