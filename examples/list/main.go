// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command list prints DataPlanes and ClusterDataPlanes, whether they are ready and why, and when
// their certificates expire:
//
//	go -C examples run ./list
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"text/tabwriter"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file` of the cluster that stores DataPlanes (default: kubectl's)")
	namespace := flag.String("namespace", "", "`name` of the namespace of DataPlanes (default: all)")
	args.Parse(flag.CommandLine)
	demo.ProvideCluster() // delete this line in your program
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	err := list(ctx, *kubeconfig, *namespace)
	cancel()
	if err != nil {
		log.Fatal(err)
	}
}

func list(ctx context.Context, kubeconfig, namespace string) error {
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

	// One kind may be missing or forbidden.
	var all []*openchoreov1alpha1.DataPlane
	dataPlanes, err := client.OpenChoreoV1alpha1().DataPlanes(namespace).List(ctx, metav1.ListOptions{})
	if err == nil {
		for i := range dataPlanes.Items {
			all = append(all, &dataPlanes.Items[i])
		}
	}
	clusterDataPlanes, clusterErr := client.OpenChoreoV1alpha1().ClusterDataPlanes().List(ctx, metav1.ListOptions{})
	if clusterErr == nil {
		for i := range clusterDataPlanes.Items {
			all = append(all, clusterDataPlanes.Items[i].AsDataPlane())
		}
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
	return printTable(all)
}

func printTable(dataPlanes []*openchoreov1alpha1.DataPlane) error {
	// OpenChoreo itself never writes Ready. In v1, it updates the heartbeat once a minute.
	judge := []helpers.EvaluateOption{helpers.Stock(), helpers.HeartbeatWithin(5*time.Minute, nil)}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAMESPACE\tNAME\tREADY\tCODE\tFROM\tREASON\tCERTIFICATE EXPIRES")
	for _, dp := range dataPlanes {
		namespace, name := dp.Namespace, dp.Name
		if namespace == "" {
			namespace, name = "<none>", "clusterdataplane/"+name // as kubectl accepts it
		}
		ready := helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionReady, judge...)
		expires := "unknown"
		if t, err := helpers.CertificateExpiry(dp); err == nil {
			expires = t.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%t\t%s\t%s\t%s\t%s\n", namespace, name,
			helpers.IsReady(dp, judge...), ready.Code, cmp.Or(ready.From, "Ready"), cmp.Or(ready.Reason, "<none>"), expires)
	}
	return table.Flush()
}
