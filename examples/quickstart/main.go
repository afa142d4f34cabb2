// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command quickstart shows what the DataPlane SDK is for, on real Kubernetes API
// servers. It needs nothing but Go:
//
//	go -C examples run ./quickstart
//
// A management cluster stores a DataPlane, which describes a target cluster; a
// program reads the DataPlane, connects to the target cluster with it, deploys
// something there, and writes down how the data plane is.
//
// Both clusters are control planes that it starts on this machine and removes at the
// end. With --kubeconfig or --context, an existing cluster is the management cluster;
// what is created there is removed as well.
//
// Ctrl-C ends it early, and then everything is removed too. A second Ctrl-C ends it at
// once: temporary files stay, and so does what is in an existing cluster. The control
// planes end with it on Linux; elsewhere their processes stay as well.
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
	flag.StringVar(&existing.context, "context", "", "`name` of a context in the kubeconfig, which is kubectl's own unless --kubeconfig is given")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		return 2
	}

	// The first signal ends the context and nothing else, so that everything is stopped
	// and removed in order, whenever it comes.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ended := context.AfterFunc(ctx, func() {
		signal.Reset(os.Interrupt)
		fmt.Fprintln(os.Stderr, "quickstart: interrupted; cleaning up, Ctrl-C again ends it at once")
	})
	defer ended()

	q := &quickstart{printer: &printer{out: os.Stdout}, existing: existing, patience: time.Minute}
	err := q.run(ctx)
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		err = nil // it only says that the context has ended
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
			fmt.Fprintln(os.Stderr, "quickstart: interrupted; everything that it started is stopped and removed")
		}
		return 130
	case err != nil || cleanUpErr != nil:
		return 1
	}
	return 0
}

// run takes the steps one by one; the first that fails ends it.
func (q *quickstart) run(ctx context.Context) error {
	q.title("DataPlane SDK quickstart")
	for i, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Get two clusters: one to manage data planes from, one to be a data plane", q.getClusters},
		{"Install the CustomResourceDefinition of DataPlane in the management cluster", q.installCRD},
		{"Make a user in the target cluster who may work in one namespace only", q.addDeployer},
		{"Watch for DataPlanes with a shared informer, and create one", q.createDataPlane},
		{"Read the DataPlane from the informer's cache", q.readFromLister},
		{"Set a field by server-side apply, and let another manager run into it", q.apply},
		{"Connect to the target cluster with what the DataPlane holds, and deploy", q.deploy},
		{"Show that the user of the DataPlane can do no more than that", q.tryForbidden},
		{"Write conditions to the status, and evaluate them", q.reportConditions},
		{"Change the spec: what was observed before is out of date", q.outdateConditions},
	} {
		q.step(i+1, step.title)
		limit := q.patience
		if i == 0 {
			limit = 24 * time.Hour // it may have to build what the clusters run
		}
		bounded, cancel := context.WithTimeout(ctx, limit)
		err := step.do(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, step.title, err)
		}
	}
	q.title("That is all: the DataPlane was created, watched, changed, used and evaluated.")
	return nil
}
