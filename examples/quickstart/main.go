// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command quickstart shows the DataPlane SDK on real Kubernetes API servers. It only needs Go:
//
//	go -C examples run ./quickstart
//
// A management cluster stores a DataPlane, which describes a target cluster. The program
// reads the DataPlane, connects to the target cluster, deploys a workload there, keeps its
// connection while the credentials are rotated, and writes the conditions of the DataPlane.
//
// Both clusters are control planes that it starts on this machine and removes at the end.
// With --kubeconfig or --context, an existing cluster is the management cluster; the
// quickstart removes everything that it has created there.
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

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

func main() {
	var flags demo.Flags
	flags.RegisterCluster(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(demo.Main("quickstart", func(ctx context.Context) (err error) {
		q := &quickstart{flags: flags}
		defer func() { err = errors.Join(err, q.cleanUp()) }()
		return q.run(ctx)
	}))
}

// run takes the steps one by one, until one fails.
func (q *quickstart) run(ctx context.Context) error {
	fmt.Println("\nDataPlane SDK quickstart")
	if err := demo.Play(ctx, os.Stdout, []demo.Step{
		{Title: "Get two clusters: one to manage data planes, one to be a data plane", Do: q.getClusters, Limit: 24 * time.Hour /* it may build their binaries */},
		{Title: "Install the CustomResourceDefinition of DataPlane in the management cluster", Do: q.installCRD},
		{Title: "Create a user in the target cluster with rights in one namespace only", Do: q.addDeployer},
		{Title: "Watch for DataPlanes with a shared informer, and create one", Do: q.createDataPlane},
		{Title: "Read the DataPlane from the informer's cache", Do: q.readFromLister},
		{Title: "Set a field by server-side apply; another manager gets a conflict", Do: q.apply},
		{Title: "Connect to the target cluster of the DataPlane, and deploy", Do: q.deploy},
		{Title: "Try what the user of the DataPlane is not allowed to do", Do: q.tryForbidden},
		{Title: "Rotate the credentials while an informer watches the target cluster", Do: q.rotate},
		{Title: "Write conditions to the status, and evaluate them", Do: q.reportConditions},
		{Title: "Change the spec: the conditions become stale", Do: q.outdateConditions},
	}); err != nil {
		return err
	}
	fmt.Println("\nDone: the DataPlane was created, watched, changed, used, rotated and evaluated.")
	return nil
}
