// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command fleet counts the Deployments of all data planes, live, with an informer in each
// of their clusters:
//
//	go -C examples run ./fleet
//
// shows that on control planes that it starts on this machine and removes at the end, while
// credentials are rotated and a cluster is away.
//
//	go -C examples run ./fleet --replicas 3
//
// divides the data planes among three processes, and shows what moves when one is killed,
// suspended, added or ended. With --kubeconfig or --context, or in a Pod, fleet works on that
// cluster until it gets a signal. With -o json, each line of its output is one [Event]:
//
//	go -C examples run ./fleet --kubeconfig ~/.kube/config -A
//
// It needs the rights to list and watch dataplanes.openchoreo.dev there. The users of the
// DataPlanes need the rights to list and watch deployments.apps in their clusters.
//
// To share the work, run several replicas with the same --shards. Each replica then also
// needs the rights to get, list, create, update and delete leases.coordination.k8s.io in the
// namespace of the DataPlanes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// options are the flags.
type options struct {
	demo.Flags
	sharding fleet.Sharding
	output   string
	metrics  string
	verbose  bool
	replicas int
	untilEOF bool
}

func main() {
	o := options{Flags: demo.Flags{InPod: true}}
	o.Register(flag.CommandLine)
	o.RegisterNamespace(flag.CommandLine)
	flag.BoolVar(&o.All, "A", false, "count for the DataPlanes of all namespaces")
	flag.StringVar(&o.output, "o", "text", "output `format` with an existing cluster: text or json")
	flag.StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics at this `address`, such as 127.0.0.1:0 (default: don't)")
	flag.BoolVar(&o.verbose, "v", false, "show the log of client-go")
	flag.IntVar(&o.sharding.Shards, "shards", 0, "divide the data planes into `n` shards, for replicas to lead (default: don't, with --replicas 4 for each)")
	flag.StringVar(&o.sharding.Identity, "replica", "", "`name` of this replica (default: the host's)")
	flag.DurationVar(&o.sharding.LeaseDuration, "lease-duration", 0, "how long after its last renewal a replica counts as dead (default 15s, with --replicas 3s)")
	flag.IntVar(&o.replicas, "replicas", 0, "start clusters, run `n` replicas as processes, and kill one")
	flag.BoolVar(&o.untilEOF, "until-eof", false, "end when standard input ends, so that the program doesn't outlive its parent process")
	demo.Parse(flag.CommandLine, o.complete)
	if !o.verbose {
		klog.SetLogger(logr.Discard())
	}
	targets := targets
	if o.Existing() {
		targets = 0
	}
	os.Exit(demo.Run("fleet", &o.Flags, targets, o.run))
}

// complete checks the flags and sets defaults.
func (o *options) complete() (err error) {
	existing, s := o.Existing(), &o.sharding
	switch {
	case o.output != "text" && o.output != "json":
		return fmt.Errorf("output format %q: want text or json", o.output)
	case o.replicas != 0 && (o.replicas < 3 || existing || s.Identity != ""):
		return errors.New("--replicas: want at least 3, and no existing cluster or --replica")
	case !existing && (o.All || o.output != "text" || s.Identity != "" || s.Shards != 0 && o.replicas == 0):
		return errors.New("-A, -o, --replica and --shards: want --kubeconfig or --context too")
	case s.Identity != "" && s.Shards == 0:
		return errors.New("--replica: want --shards too")
	case s.Shards != 0 && s.Identity == "":
		s.Identity, err = os.Hostname()
	}
	return err
}

func (o *options) run(ctx context.Context, clusters *demo.Clusters) error {
	switch {
	case clusters.Plane == nil: // an existing cluster
		return o.count(ctx, clusters)
	case o.replicas > 0:
		return replicaStory(ctx, clusters, o)
	}
	return story(ctx, clusters, o.metrics)
}

// count counts in the data planes of an existing cluster until ctx ends.
func (o *options) count(ctx context.Context, clusters *demo.Clusters) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.untilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	var sharding *fleet.Sharding
	if o.sharding.Shards != 0 {
		sharding = &o.sharding
		sharding.Namespace, sharding.Name = clusters.Namespace, "fleet"
	}
	report := newBoard(os.Stdout).report
	if o.output == "json" {
		report = jsonReport(os.Stdout)
	}
	c, err := newCounter(clusters, sharding, report)
	if err != nil {
		return err
	}
	return c.run(ctx, o.metrics)
}
