// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command list prints DataPlanes, whether they are ready and why, and when their credentials
// expire:
//
//	go -C examples run ./list
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "`file` for the cluster that stores DataPlanes (default: that of kubectl)")
	namespace := flag.String("namespace", "", "`name` of the namespace of DataPlanes (default: all)")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("unexpected argument %q; flags come before it", flag.Arg(0))
	}
	demo.ProvideCluster() // delete this line in a program of your own
	if err := list(context.Background(), *kubeconfig, *namespace); err != nil {
		log.Fatal(err)
	}
}

func list(ctx context.Context, kubeconfig, namespace string) error {
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
	dataPlanes, err := client.OpenChoreoV1alpha1().DataPlanes(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	// OpenChoreo itself writes the condition Created, but no Ready.
	readyFrom := helpers.ReadyFrom(openchoreov1alpha1.DataPlaneConditionCreated)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAMESPACE\tNAME\tREADY\tCODE\tREASON\tCREDENTIALS EXPIRE")
	for i := range dataPlanes.Items {
		dp := &dataPlanes.Items[i]
		ready := helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionReady, readyFrom)
		expire := "unknown"
		if t, err := helpers.CertificateExpiry(dp); err == nil {
			expire = t.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%t\t%s\t%s\t%s\n",
			dp.Namespace, dp.Name, helpers.IsReady(dp, readyFrom), ready.Code, ready.Reason, expire)
	}
	return table.Flush()
}
