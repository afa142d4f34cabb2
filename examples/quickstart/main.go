// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command quickstart shows the DataPlane SDK on real Kubernetes API servers. It needs only Go:
//
//	go -C examples run ./quickstart
//
// A management cluster stores a DataPlane, which describes a target cluster. The program
// reads the DataPlane, connects to the target cluster, deploys a workload there, keeps its
// connection while the credentials are rotated, watches it through a stand-in for the cluster
// gateway of OpenChoreo v1, and writes the conditions of the DataPlane.
//
// Both clusters are control planes that it starts on this machine and removes at the end.
// With --kubeconfig or --context, an existing cluster that serves DataPlanes is the management
// cluster; the quickstart works in a new namespace there, and removes it.
//
// Ctrl-C ends the program early; it still removes everything. A second Ctrl-C ends it at once:
// temporary files and objects in an existing cluster remain. On Linux, the control planes end
// with the program; on other systems, their processes remain.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/klog/v2"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

func main() {
	var flags demo.Flags
	flags.Register(flag.CommandLine)
	args.Parse(flag.CommandLine)
	klog.SetLogger(logr.Discard()) // client-go would log a watch that its informer's end cuts
	os.Exit(demo.Run("quickstart", &flags, 1, run))
}

func run(ctx context.Context, clusters *demo.Clusters) (err error) {
	fmt.Println("DataPlane SDK quickstart: a management cluster, which stores DataPlanes, and a target cluster, which is a data plane")
	q := &quickstart{stopWatching: func() {}}
	namespace := "dataplane-quickstart-" + rand.String(5)
	defer func() { err = errors.Join(err, q.cleanUp(clusters, namespace)) }()
	if q.Clusters, err = clusters.InNamespace(ctx, namespace); err != nil {
		return err
	}
	if err := demo.Play(ctx, os.Stdout, []demo.Step{
		{Title: "Create a user in the target cluster with few rights", Do: q.addDeployer},
		{Title: "Watch for DataPlanes with a shared informer, and create one", Do: q.createDataPlane},
		{Title: "Read the DataPlane from the informer's cache", Do: q.readFromLister},
		{Title: "Set a field by server-side apply; another manager gets a conflict", Do: q.apply},
		{Title: "Connect to the target cluster of the DataPlane, and deploy", Do: q.deploy},
		{Title: "Try a request that the user of the DataPlane may not make", Do: q.tryForbidden},
		{Title: "Rotate the credentials while an informer watches the target cluster", Do: q.rotate},
		{Title: "Watch through OpenChoreo v1's cluster gateway, with a ClusterDataPlane", Do: q.useGateway},
		{Title: "Write conditions to the status, and evaluate them", Do: q.reportConditions},
		{Title: "Change the spec: the conditions become stale", Do: q.outdateConditions},
	}); err != nil {
		return err
	}
	fmt.Println("\nDone: the quickstart created and watched data planes, connected with credentials and through the gateway, rotated credentials, and judged conditions.")
	fmt.Println("Next: go -C examples run ./connect, where Enter replaces credentials, or ./fleet; examples/README.md lists all examples.")
	return nil
}

// cleanUp removes what the steps created in the management cluster.
func (q *quickstart) cleanUp(clusters *demo.Clusters, namespace string) error {
	if q.cluster != nil {
		q.cluster.Close()
	}
	q.stopWatching()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var clusterWide error
	if q.clusterWide {
		clusterWide = clusters.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Delete(ctx, namespace, metav1.DeleteOptions{})
	}
	for _, err := range []error{
		clusterWide,
		clusters.Client.OpenChoreoV1alpha1().DataPlanes(namespace).Delete(ctx, dataPlaneName, metav1.DeleteOptions{}),
		clusters.Core.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("%w: %w", demo.ErrCleanUp, err)
		}
	}
	return nil
}
