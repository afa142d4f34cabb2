// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command wait waits until a DataPlane is ready. If it times out, the error says what was
// missing and why:
//
//	go -C examples run ./wait
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "`file` for the cluster that stores DataPlanes (default: that of kubectl)")
	namespace := flag.String("namespace", "default", "`name` of the namespace of the DataPlane")
	name := flag.String("name", "production", "`name` of the DataPlane, which may not exist yet")
	timeout := flag.Duration("timeout", 30*time.Second, "how long to wait")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("unexpected argument %q; flags come before it", flag.Arg(0))
	}
	demo.ProvideCluster(demo.IsCreatedLater) // delete this line in a program of your own
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	err := waitUntilReady(ctx, *kubeconfig, *namespace, *name)
	cancel()
	if err != nil {
		log.Fatal(err)
	}
}

func waitUntilReady(ctx context.Context, kubeconfig, namespace, name string) error {
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
	fmt.Printf("waiting for DataPlane %s/%s\n", namespace, name)
	dp, err := await.For(ctx, client.OpenChoreoV1alpha1().DataPlanes(namespace), name,
		await.True(openchoreov1alpha1.DataPlaneConditionReady),
		// OpenChoreo itself writes the condition Created, but no Ready.
		await.JudgeBy(helpers.ReadyFrom(openchoreov1alpha1.DataPlaneConditionCreated)),
		// After a change of your own, pass the generation that Update or Patch returned, so that
		// the conditions from before don't count: await.MinGeneration(patched.Generation).
		await.AllowMissing())
	if err != nil {
		return err
	}
	fmt.Printf("DataPlane %s is ready at generation %d\n", dp.Name, dp.Generation)
	return nil
}
