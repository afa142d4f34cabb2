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
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// options are the flags.
type options struct {
	demo.Flags
	sharding fleet.Sharding
	all      bool
	output   string
	metrics  string
	verbose  bool
	replicas int
	untilEOF bool

	inCluster *rest.Config // in a Pod, if the flags name no cluster
}

func main() {
	var o options
	o.Register(flag.CommandLine)
	flag.BoolVar(&o.all, "A", false, "count for the DataPlanes of all namespaces")
	flag.StringVar(&o.output, "o", "text", "output `format` with an existing cluster: text or json")
	flag.StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics at this `address`, such as 127.0.0.1:0 (default: don't)")
	flag.BoolVar(&o.verbose, "v", false, "show the log of client-go")
	flag.IntVar(&o.sharding.Shards, "shards", 0, "divide the data planes into `n` shards, for replicas to lead (default: don't, with --replicas 4 for each)")
	flag.StringVar(&o.sharding.Identity, "replica", "", "`name` of this replica (default: the host's)")
	flag.DurationVar(&o.sharding.LeaseDuration, "lease-duration", 0, "how long after its last renewal a replica counts as dead (default 15s, with --replicas 3s)")
	flag.IntVar(&o.replicas, "replicas", 0, "start clusters, run `n` replicas as processes, and kill one")
	flag.BoolVar(&o.untilEOF, "until-eof", false, "end when standard input ends, so that the program doesn't outlive its parent process")
	flag.Parse()
	if err := o.complete(); err != nil {
		fmt.Fprintf(os.Stderr, "fleet: %v\n", err)
		flag.Usage()
		os.Exit(2)
	}
	if !o.verbose {
		klog.SetLogger(logr.Discard())
	}
	os.Exit(demo.Main("fleet", o.run))
}

// complete checks the flags and sets defaults.
func (o *options) complete() error {
	if !o.Existing() {
		config, err := rest.InClusterConfig()
		if err != nil && !errors.Is(err, rest.ErrNotInCluster) {
			return err
		}
		o.inCluster = config
	}
	existing, s := o.Existing() || o.inCluster != nil, &o.sharding
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case o.output != "text" && o.output != "json":
		return fmt.Errorf("output format %q: want text or json", o.output)
	case o.replicas != 0 && (o.replicas < 3 || existing || s.Identity != ""):
		return errors.New("--replicas: want at least 3, and no existing cluster or --replica")
	case !existing && (o.all || o.output != "text" || s.Identity != "" || s.Shards != 0 && o.replicas == 0):
		return errors.New("-A, -o, --replica and --shards: want --kubeconfig or --context too")
	case s.Identity != "" && s.Shards == 0:
		return errors.New("--replica: want --shards too")
	}
	if s.Shards != 0 && s.Identity == "" {
		hostname, err := os.Hostname()
		if err != nil {
			return err
		}
		s.Identity = hostname
	}
	return nil
}

func (o *options) run(ctx context.Context) (err error) {
	if o.untilEOF {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	switch {
	case o.inCluster != nil:
		return o.count(ctx, o.inCluster, o.Namespace())
	case o.Existing():
		clusters, err := demo.Start(ctx, &o.Flags, 0, os.Stderr)
		if err != nil {
			return err
		}
		return o.count(ctx, clusters.Management, clusters.Namespace)
	}

	// If the reader of the output ends, a story goes on, so that it stops its clusters.
	signal.Ignore(syscall.SIGPIPE)
	clusters, err := demo.Start(ctx, &o.Flags, targets, os.Stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clusters.Stop()) }()
	if o.replicas > 0 {
		return replicaStory(ctx, clusters, o)
	}
	return story(ctx, clusters, o.metrics)
}

// count counts in the data planes of an existing cluster until ctx ends.
func (o *options) count(ctx context.Context, config *rest.Config, namespace string) error {
	var sharding *fleet.Sharding
	if o.sharding.Shards != 0 {
		sharding = &o.sharding
		sharding.Namespace, sharding.Name = namespace, "fleet"
	}
	if o.all {
		namespace = metav1.NamespaceAll
	}
	report := newBoard(os.Stdout).report
	if o.output == "json" {
		report = jsonReport(os.Stdout)
	}
	c, err := newCounter(ctx, config, namespace, sharding, report)
	if err != nil {
		return err
	}
	return c.run(ctx, o.metrics)
}
