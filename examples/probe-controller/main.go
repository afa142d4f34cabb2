// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command probe-controller is a controller to begin one's own with. It probes the cluster
// of every DataPlane and says in the condition Connected, and in an Event whenever that
// changes, how it went:
//
//	go -C examples run ./probe-controller
//
// shows that on control planes which it starts on this machine and removes at the end.
// With --kubeconfig or --context, or in a Pod, it works on that cluster until it gets a
// signal. To deploy it, build an image with any tool that builds Go, such as ko, put the
// image's name into manifest.yaml, and
//
//	kubectl apply -f examples/probe-controller/manifest.yaml
//
// Of several replicas one leads, which is the one that probes; the others are ready to
// take over. Each serves /metrics, /healthz and /readyz.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/klog/v2"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreoscheme "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// name is the controller's: in Events, metrics and requests, and of its lease.
const name = "probe-controller"

// options are the flags that say how to work, on whichever cluster.
type options struct {
	namespace              string
	workers                int
	interval               time.Duration
	minBackoff, maxBackoff time.Duration
	listen                 string
}

func main() {
	var o options
	var kubeconfig, kubeContext string
	flag.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig `file` of the cluster with the DataPlanes (default: the cluster of the Pod, or else a demonstration)")
	flag.StringVar(&kubeContext, "context", "", "`name` of a context in the kubeconfig (default kubeconfig: that of kubectl)")
	flag.StringVar(&o.namespace, "namespace", "", "probe the DataPlanes of one `namespace` (default: of all)")
	flag.IntVar(&o.workers, "workers", 16, "how many probes may run at once; a cluster that does not answer takes one for 5 s")
	flag.DurationVar(&o.interval, "interval", 30*time.Second, "time between probes of a cluster that answers")
	flag.DurationVar(&o.minBackoff, "min-backoff", 10*time.Second, "time until a cluster that doesn't is probed again; doubles with each failure")
	flag.DurationVar(&o.maxBackoff, "max-backoff", 5*time.Minute, "longest of those times")
	flag.StringVar(&o.listen, "listen", ":8080", "`address` to serve /metrics, /healthz and /readyz on")
	flag.Parse()
	if flag.NArg() > 0 || o.workers < 1 || o.interval <= 0 || o.minBackoff <= 0 || o.maxBackoff < o.minBackoff {
		fmt.Fprintf(os.Stderr, "%s: unexpected argument, or a flag that is out of range\n", name)
		flag.Usage()
		os.Exit(2)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	klog.SetSlogLogger(slog.Default()) // client-go's log

	if _, err := rest.InClusterConfig(); kubeconfig == "" && kubeContext == "" && errors.Is(err, rest.ErrNotInCluster) {
		os.Exit(demo.Main(name, func(ctx context.Context) error { return story(ctx, o) }))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	if err := runOn(ctx, kubeconfig, kubeContext, o); err != nil {
		slog.Error("ended", "err", err)
		os.Exit(1)
	}
}

// runOn runs the controller on the cluster that kubectl would take the flags for, or that
// the Pod is in. The lease is in the namespace of the context or of the Pod.
func runOn(ctx context.Context, kubeconfig, kubeContext string, o options) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: kubeContext})
	config, err := loader.ClientConfig()
	if err != nil {
		return err
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 50, 100 // client-go's 5 a second are few for the first probes of a fleet
	return run(ctx, rest.AddUserAgent(config, name), namespace, o)
}

// run runs the controller until ctx ends, which is no error, or until another replica
// leads.
func run(ctx context.Context, config *rest.Config, leaseNamespace string, o options) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}

	// Who connects needs the secrets of a DataPlane, and nobody here its managed fields.
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0,
		openchoreoinformers.WithNamespace(o.namespace), openchoreoinformers.WithTransform(helpers.StripManagedFields))
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()

	remotes := helpers.NewClientCache(func(r *helpers.Remote) (*helpers.Remote, error) { return r, nil },
		helpers.WithUserAgent(name))
	defer remotes.Close()
	if _, err := dataPlanes.Informer().AddEventHandler(remotes.Handler()); err != nil {
		return err
	}

	// Work that ends may still have something to record when ctx has ended.
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecording()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: kube.EventsV1()})
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(recording); err != nil {
		return err
	}

	metrics := newMetrics()
	c, err := newController(dataPlanes, client.OpenChoreoV1alpha1(), remotes,
		broadcaster.NewRecorder(openchoreoscheme.Scheme, name), metrics, o)
	if err != nil {
		return err
	}
	metrics.registry.MustRegister(&dataPlaneCollector{dataPlanes: dataPlanes.Lister(), leading: c.leading.Load})

	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	slog.Info("listening", "address", listener.Addr().String())
	election := leaderelection.NewLeaderHealthzAdaptor(leaseTolerance)
	server := newServer(metrics.registry, election.Check, dataPlanes.Informer().HasSynced)
	served := make(chan error, 1)
	go func() {
		defer stop()
		served <- server.Serve(listener)
	}()
	defer func() { err = errors.Join(err, closeServer(server, served)) }()

	factory.Start(ctx.Done())
	defer func() {
		stop()
		factory.Shutdown()
	}()
	if !cache.WaitForCacheSync(ctx.Done(), dataPlanes.Informer().HasSynced) {
		return nil
	}
	return lead(ctx, config, leaseNamespace, election, func(ctx context.Context) { c.run(ctx, o.workers) })
}
