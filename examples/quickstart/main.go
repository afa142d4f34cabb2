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
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
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

	// Signals end the context and nothing else, so that everything that was started
	// is stopped and removed in order, whenever they come.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	err := run(ctx, existing, os.Stdout)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "quickstart: interrupted; everything that it started is stopped and removed")
		if errors.Is(err, errCleanup) {
			fmt.Fprintln(os.Stderr, "quickstart:", err)
		}
		return 130
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		return 1
	}
	return 0
}

// run takes the steps one by one; the first that fails ends it.
func run(ctx context.Context, existing existingCluster, out io.Writer) (err error) {
	p := &printer{out: out}
	p.title("DataPlane SDK quickstart")

	p.step("Get two clusters: one to manage data planes from, one to be a data plane")
	clusters, err := startClusters(ctx, existing, p)
	defer func() { err = errors.Join(err, clusters.stop()) }()
	if err != nil {
		return err
	}

	q := &quickstart{printer: p, clusters: clusters}
	defer func() { err = errors.Join(err, q.cleanUp()) }()
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
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
		p.step(step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("step %d, %q: %w", p.steps, step.title, err)
		}
	}
	p.title("That is all: the DataPlane was created, watched, changed, used and evaluated.")
	return nil
}
