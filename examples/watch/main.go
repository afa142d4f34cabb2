// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command watch tells what happens to DataPlanes, as kubectl get dataplanes --watch does,
// and what has changed each time: which conditions, which fields, and by whom.
//
//	go -C examples run ./watch
//
// starts a control plane on this machine, plays a story of several field managers on one
// DataPlane, and removes the control plane when the story is over. With --kubeconfig or
// --context, it watches an existing cluster until Ctrl-C, and writes nothing there:
//
//	go -C examples run ./watch --kubeconfig ~/.kube/config -A
//
// With -o json, each line of its output is one [Event]; what is not an event goes to
// standard error. A user needs the right to list and watch DataPlanes.
//
// An update that changes no field, and a resync, are no events. Of fields it prints paths
// and never values: that a client key was rotated is seen, and no key. It does not even
// keep one in memory, see [hideSecrets].
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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

func main() {
	var flags demo.Flags
	flags.Register(flag.CommandLine)
	var all bool
	flag.BoolVar(&all, "A", false, "watch all namespaces")
	flag.BoolVar(&all, "all-namespaces", false, "the same as -A")
	printer := newTextPrinter(os.Stdout, false)
	flag.Func("o", "output `format`: text, wide or json (default text)", func(format string) error {
		switch format {
		case "text":
			printer = newTextPrinter(os.Stdout, false)
		case "wide":
			printer = newTextPrinter(os.Stdout, true)
		case "json":
			printer = newJSONPrinter(os.Stdout)
		default:
			return errors.New("want text, wide or json")
		}
		return nil
	})
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "watch: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}

	// What is worth telling about the watch, the program tells itself.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	// A reader that goes away, as head does, makes the next write fail, which ends the
	// program in order.
	signal.Ignore(syscall.SIGPIPE)

	os.Exit(demo.Main("watch", func(ctx context.Context) error { return run(ctx, &flags, all, printer) }))
}

func run(ctx context.Context, flags *demo.Flags, all bool, printer printFunc) (err error) {
	clusters, err := demo.Start(ctx, flags, 0, os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clusters.Stop()) }()

	namespace := clusters.Namespace
	if all {
		namespace = metav1.NamespaceAll
	}
	w := &watcher{config: clusters.Management, namespace: namespace, print: printer, trouble: &trouble{stderr: os.Stderr}}
	if flags.Existing() {
		return w.run(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
	}
	s, err := newStory(clusters, os.Stderr)
	if err != nil {
		return err
	}
	w.handled = s.handled
	return w.run(ctx, s.play)
}
