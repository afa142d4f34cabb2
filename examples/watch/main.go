// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command watch prints each change of DataPlanes, like kubectl get dataplanes --watch, and
// which conditions and fields have changed, and by which field manager.
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
// The user needs the rights to list and watch DataPlanes.
//
// Updates that change no field, and resyncs, are not printed. It prints the paths of fields
// and never their values: you see that a client key was rotated, but no key. It keeps no key
// in memory either, see [hideSecrets].
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

	// The program itself reports errors of the watch.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	// If the reader of the output ends, as head does, the next write fails and the program
	// ends in order.
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
