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
	"os/signal"
	"syscall"
	"time"
)

func main() {
	os.Exit(mainExitCode())
}

func mainExitCode() int {
	var existing existingCluster
	flag.StringVar(&existing.kubeconfig, "kubeconfig", "", "kubeconfig `file` of an existing management cluster (default: start one)")
	flag.StringVar(&existing.context, "context", "", "`name` of a context in the kubeconfig (default kubeconfig: that of kubectl)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		return 2
	}

	// The first signal only ends the context, so that everything is stopped and removed in
	// order, whenever it comes.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ended := context.AfterFunc(ctx, func() {
		signal.Reset(os.Interrupt)
		fmt.Fprintln(os.Stderr, "quickstart: interrupted; cleaning up (Ctrl-C again ends it at once)")
	})
	defer ended()

	q := &quickstart{printer: &printer{out: os.Stdout}, existing: existing, patience: time.Minute}
	err := q.run(ctx)
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		err = nil // the interrupt is no error
	}
	cleanUpErr := q.cleanUp()

	for _, err := range []error{err, cleanUpErr} {
		if err != nil {
			fmt.Fprintln(os.Stderr, "quickstart:", err)
		}
	}
	switch {
	case ctx.Err() != nil:
		if cleanUpErr == nil {
			fmt.Fprintln(os.Stderr, "quickstart: interrupted; everything is stopped and removed")
		}
		return 130
	case err != nil || cleanUpErr != nil:
		return 1
	}
	return 0
}

// run takes the steps one by one, until one fails.
func (q *quickstart) run(ctx context.Context) error {
	q.title("DataPlane SDK quickstart")
	for i, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Get two clusters: one to manage data planes, one to be a data plane", q.getClusters},
		{"Install the CustomResourceDefinition of DataPlane in the management cluster", q.installCRD},
		{"Create a user in the target cluster with rights in one namespace only", q.addDeployer},
		{"Watch for DataPlanes with a shared informer, and create one", q.createDataPlane},
		{"Read the DataPlane from the informer's cache", q.readFromLister},
		{"Set a field by server-side apply; another manager gets a conflict", q.apply},
		{"Connect to the target cluster of the DataPlane, and deploy", q.deploy},
		{"Try what the user of the DataPlane is not allowed to do", q.tryForbidden},
		{"Rotate the credentials while an informer watches the target cluster", q.rotate},
		{"Write conditions to the status, and evaluate them", q.reportConditions},
		{"Change the spec: the conditions become stale", q.outdateConditions},
	} {
		q.step(i+1, step.title)
		limit := q.patience
		if i == 0 {
			limit = 24 * time.Hour // it may have to build the binaries of the clusters
		}
		bounded, cancel := context.WithTimeout(ctx, limit)
		err := step.do(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, step.title, err)
		}
	}
	q.title("Done: the DataPlane was created, watched, changed, used, rotated and evaluated.")
	return nil
}
