// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command watch prints each change of DataPlanes and ClusterDataPlanes, like kubectl get --watch,
// with the conditions and fields that have changed, and the field managers that changed them.
//
//	go -C examples run ./watch
//
// starts a control plane on this machine, lets several field managers change one DataPlane,
// and removes the control plane at the end. With --kubeconfig or --context, it watches an
// existing cluster until Ctrl-C, and writes nothing there:
//
//	go -C examples run ./watch --kubeconfig ~/.kube/config -A
//
// With -o json, each line of standard output is one [Event]; messages go to standard error.
// The user needs the rights to list and watch DataPlanes. If the user may not list ClusterDataPlanes,
// or they aren't installed, watch prints that and watches DataPlanes only.
//
// watch leaves out updates that change no verdict, and no field but the heartbeat of an agent. It
// prints paths of fields, never values: you see that a client key was rotated, but no key. It keeps
// no key in memory; see [hideSecrets].
package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

func main() {
	var flags demo.Flags
	flags.Register(flag.CommandLine)
	flags.RegisterNamespace(flag.CommandLine)
	flag.BoolVar(&flags.All, "A", false, "watch all namespaces")
	flag.BoolVar(&flags.All, "all-namespaces", false, "the same as -A")
	printer := textPrinter(os.Stdout, false)
	flag.Func("o", "output `format`: text, wide or json (default text)", func(format string) error {
		switch format {
		case "text":
		case "wide":
			printer = textPrinter(os.Stdout, true)
		case "json":
			printer = jsonPrinter(os.Stdout)
		default:
			return errors.New("want text, wide or json")
		}
		return nil
	})
	args.Parse(flag.CommandLine)

	klog.SetLogger(logr.Discard()) // the program itself reports errors of the watch
	os.Exit(demo.Run("watch", &flags, 0, func(ctx context.Context, clusters *demo.Clusters) error {
		w := &watcher{config: clusters.Management, namespace: clusters.Watched, print: printer}
		if clusters.Plane == nil { // an existing cluster
			return w.run(ctx, func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}
		if err := clusters.Plane.InstallCRDs(ctx, crds.ClusterDataPlane()); err != nil {
			return err
		}
		s := &story{Clusters: clusters, handled: make(chan struct{})}
		w.handled = s.handled
		return w.run(ctx, s.play)
	}))
}
