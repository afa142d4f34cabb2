// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command fleet counts the Deployments of all data planes, live, with an informer in each of their clusters:
//
//	go -C examples run ./fleet
//
// runs it on control planes that it starts on this machine and removes at the end, while credentials are rotated and a cluster
// is down.
//
//	go -C examples run ./fleet --replicas 3
//
// divides the data planes among three processes, and shows which data planes move when a process is killed, suspended, added or
// ended. With --kubeconfig or --context, fleet counts in the data planes of that cluster until it gets a signal:
//
//	go -C examples run ./fleet --kubeconfig ~/.kube/config -A
//
// It needs the rights to list and watch DataPlanes and ClusterDataPlanes there, and Deployments in the data planes. To share
// the work, run it several times with the same --shards. This needs the rights to get, list, create, update and delete Leases
// in the namespace of the DataPlanes.
//
// To start your own program, copy examples/watch-workloads, or examples/sharded-fleet with its manifest.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// options are the flags.
type options struct {
	demo.Flags
	gateway  args.Gateway
	sharding fleet.Sharding
	metrics  string       // an address; "" for none
	listener net.Listener // for metrics; check opens it
	replicas int
	child    string // the name of a replica that the demo has started
}

func main() {
	var o options
	o.Register(flag.CommandLine)
	o.RegisterNamespace(flag.CommandLine)
	o.gateway.Register(flag.CommandLine)
	flag.BoolVar(&o.All, "A", false, "count in the data planes of all namespaces")
	flag.StringVar(&o.metrics, "metrics", "", "`address` to serve Prometheus metrics on, such as 127.0.0.1:0 (default: none)")
	flag.IntVar(&o.sharding.Shards, "shards", 0, "divide the data planes into `n` shards, which replicas lead (default: no shards; with --replicas, 4 for each)")
	flag.DurationVar(&o.sharding.LeaseDuration, "lease-duration", 0, "time after the last renewal of its Lease until a replica counts as dead (default 15s; with --replicas, 3s)")
	flag.IntVar(&o.replicas, "replicas", 0, "start clusters, run `n` replicas as processes, and kill one")
	flag.StringVar(&o.child, "child", "", "`name` of a replica that --replicas starts: it prints events as JSON, and ends when its standard input closes")
	args.Parse(flag.CommandLine, o.gateway.Check, o.check)
	if !o.Existing() || o.child != "" {
		klog.SetLogger(logr.Discard()) // the demo prints what happens
	}
	targets := targets
	if o.Existing() {
		targets = 0
	}
	os.Exit(demo.Run("fleet", &o.Flags, targets, o.run))
}

// check returns an error for flags that contradict each other, and opens the listener for metrics.
func (o *options) check() error {
	existing, s := o.Existing(), &o.sharding
	switch {
	case o.replicas != 0 && (o.replicas < 3 || existing || o.metrics != ""):
		return errors.New("--replicas: want at least 3, and no existing cluster or --metrics")
	case !existing && (o.All || o.gateway.Config() != nil || o.child != ""):
		return errors.New("-A, --gateway and --child: want --kubeconfig or --context too")
	case s.Shards < 0 || s.LeaseDuration < 0 || s.LeaseDuration%time.Second != 0:
		return errors.New("--shards and --lease-duration: want no negative number, and whole seconds")
	case !existing && o.replicas == 0 && (s.Shards != 0 || s.LeaseDuration != 0):
		return errors.New("--shards and --lease-duration: want --replicas, --kubeconfig or --context too")
	case existing && s.Shards == 0 && (s.LeaseDuration != 0 || o.child != ""):
		return errors.New("--lease-duration and --child: want --shards too")
	case o.metrics != "":
		var err error
		o.listener, err = net.Listen("tcp", o.metrics)
		return err
	}
	return nil
}

func (o *options) run(ctx context.Context, clusters *demo.Clusters) error {
	switch {
	case o.replicas > 0:
		return replicaStory(ctx, clusters, o)
	case !o.Existing():
		return story(ctx, clusters, o)
	}
	report := newBoard(os.Stdout).report
	if o.child != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // until the demo has ended
			cancel()
		}()
		report = jsonReport(os.Stdout)
	} else {
		fmt.Fprintf(os.Stderr, "counting Deployments in the data planes of %s\n", clusters.Management.Host)
	}
	if s := &o.sharding; s.Shards != 0 {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		s.Namespace, s.Name, s.Identity = clusters.Namespace, "fleet", cmp.Or(o.child, host)
	}
	c, err := o.newCounter(clusters, report)
	if err != nil {
		return err
	}
	return c.run(ctx)
}
