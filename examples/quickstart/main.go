// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command quickstart shows the DataPlane SDK on real Kubernetes API servers. It only needs Go:
//
//	go -C examples run ./quickstart
//
// A management cluster stores a DataPlane, which describes a target cluster. The program
// reads the DataPlane, connects to the target cluster, deploys a workload there, keeps its
// connection while the credentials are rotated, watches it through a cluster gateway as
// OpenChoreo v1 has one, and writes the conditions of the DataPlane.
//
// Both clusters are control planes that it starts on this machine and removes at the end.
// With --kubeconfig or --context, an existing cluster that serves DataPlanes is the management
// cluster; the quickstart works in a namespace of its own there, and removes it.
//
// Ctrl-C ends it early, and everything is removed too. A second Ctrl-C ends it at once:
// temporary files and the objects in an existing cluster stay. The control planes end with
// it on Linux; on other systems their processes stay as well.
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
	klog.SetLogger(logr.Discard()) // client-go's, which logs the watch that the end of an informer cuts
	os.Exit(demo.Run("quickstart", &flags, 1, run))
}

func run(ctx context.Context, clusters *demo.Clusters) (err error) {
	fmt.Println("DataPlane SDK quickstart: one cluster to manage data planes, and one to be a data plane")
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
		{Title: "Try what the user of the DataPlane is not allowed to do", Do: q.tryForbidden},
		{Title: "Rotate the credentials while an informer watches the target cluster", Do: q.rotate},
		{Title: "Watch through OpenChoreo v1's cluster gateway, with a ClusterDataPlane", Do: q.useGateway},
		{Title: "Write conditions to the status, and evaluate them", Do: q.reportConditions},
		{Title: "Change the spec: the conditions become stale", Do: q.outdateConditions},
	}); err != nil {
		return err
	}
	fmt.Println("\nDone: data planes were created, watched, changed, used with credentials and through the gateway, rotated and evaluated.")
	fmt.Println("Next: go -C examples run ./connect, which you can rotate, or ./fleet; examples/README.md lists all.")
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
