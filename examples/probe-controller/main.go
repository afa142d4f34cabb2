// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command probe-controller is a template for controllers. It probes the cluster of every
// DataPlane and ClusterDataPlane, and records an Event when the result changes. It writes the
// result of a DataPlane with credentials to the condition Connected.
//
//	go -C examples run ./probe-controller
//
// runs it on control planes that it starts on this machine and removes at the end. With
// --kubeconfig or --context, or in a Pod, it works on that cluster until it gets a signal.
// With --gateway, it reaches data planes of OpenChoreo v1 through the cluster gateway.
//
// To make it yours, copy this folder without story.go and the test. To deploy it, build an
// image with any tool that builds Go, such as ko, write the name of the image into
// manifest.yaml, and run
//
//	kubectl apply --server-side -f examples/probe-controller/manifest.yaml
//
// Of several replicas, only the leader probes; the others are ready to take over. Each serves
// /metrics, /healthz and /readyz.
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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreoscheme "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// name is the name of the controller in Events, metrics and requests, and of its Lease.
const name = "probe-controller"

// options are the flags.
type options struct {
	kubeconfig, context    string
	namespace              string
	gateway                rest.Config
	workers                int
	interval               time.Duration
	minBackoff, maxBackoff time.Duration
	listen                 string
}

// demonstrate shows the controller on control planes that it starts, and returns the exit code. It
// is nil in a copy without story.go.
var demonstrate func(options) int

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig `file` of the cluster with the data planes (default: the cluster of the Pod, or else a demo)")
	flag.StringVar(&o.context, "context", "", "`name` of a context in the kubeconfig file (default file: kubectl's)")
	flag.StringVar(&o.namespace, "namespace", "", "probe the DataPlanes of one `namespace`, and no ClusterDataPlanes (default: all)")
	flag.StringVar(&o.gateway.Host, "gateway", "", "`URL` of OpenChoreo's cluster gateway, for data planes of v1")
	flag.StringVar(&o.gateway.CAFile, "gateway-ca", "", "`file` with the CA certificates of the gateway")
	flag.StringVar(&o.gateway.CertFile, "gateway-cert", "", "`file` with the client certificate for the gateway")
	flag.StringVar(&o.gateway.KeyFile, "gateway-key", "", "`file` with the key of the client certificate")
	flag.StringVar(&o.gateway.ServerName, "gateway-server-name", "", "`name` in the gateway's certificate (default: the host of the URL)")
	flag.IntVar(&o.workers, "workers", 16, "how many probes may run at once; a cluster that doesn't answer holds one for up to 15 s")
	flag.DurationVar(&o.interval, "interval", 30*time.Second, "time between probes of a cluster that answers")
	flag.DurationVar(&o.minBackoff, "min-backoff", 10*time.Second, "time between probes of a cluster that doesn't answer; doubles with each failure")
	flag.DurationVar(&o.maxBackoff, "max-backoff", 5*time.Minute, "longest time between probes of a cluster that doesn't answer")
	flag.StringVar(&o.listen, "listen", ":8080", "`address` to serve /metrics, /healthz and /readyz on")
	flag.Parse()
	_, err := rest.InClusterConfig()
	demonstration := demonstrate != nil && o.kubeconfig == "" && o.context == "" && errors.Is(err, rest.ErrNotInCluster)
	err = o.check()
	if demonstration && flag.NFlag() > 0 {
		err = errors.Join(err, errors.New("the demo takes no flags: want --kubeconfig or --context too"))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v; -h lists the flags\n", name, err)
		os.Exit(2)
	}
	if demonstration {
		os.Exit(demonstrate(o))
	}

	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	klog.SetSlogLogger(slog.Default()) // client-go's log
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := runOn(ctx, o); err != nil {
		slog.Error("ended", "err", err)
		if ctx.Err() == nil { // an error after a signal is no failure
			os.Exit(1)
		}
	}
}

// check returns an error for a flag or argument that can't be used.
func (o *options) check() error {
	switch {
	case flag.NArg() > 0: // package flag ignores all flags after it
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case o.workers < 1:
		return errors.New("--workers: want at least 1")
	case o.interval <= 0 || o.minBackoff <= 0 || o.maxBackoff < o.minBackoff:
		return errors.New("--interval, --min-backoff, --max-backoff: want times above 0, and --max-backoff not below --min-backoff")
	case o.gateway.Host == "" && o.gateway.CAFile+o.gateway.CertFile+o.gateway.KeyFile+o.gateway.ServerName != "":
		return errors.New("--gateway-ca, --gateway-cert, --gateway-key, --gateway-server-name: want --gateway too")
	case (o.gateway.CertFile == "") != (o.gateway.KeyFile == ""):
		return errors.New("--gateway-cert, --gateway-key: want both or none")
	case o.gateway.Host == "":
		return nil
	}
	if _, err := rest.TLSConfigFor(&o.gateway); err != nil { // reads the files
		return fmt.Errorf("files of --gateway: %w", err)
	}
	anyPlane := &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "any", Name: "any"}}
	if _, err := helpers.GatewayConfigFor(anyPlane, &o.gateway); err != nil {
		return fmt.Errorf("--gateway: %w", err)
	}
	return nil
}

// runOn runs the controller on the cluster that kubectl would use with the same flags, or on
// the cluster of the Pod. The Lease is in the namespace of the context or of the Pod.
func runOn(ctx context.Context, o options) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context})
	config, err := loader.ClientConfig()
	if err != nil {
		return err
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 50, 100 // client-go's default of 5 is low for the first probes of a fleet
	return run(ctx, rest.AddUserAgent(config, name), namespace, o)
}

// configFor returns the function that makes the configuration of a connection to a data plane.
func (o *options) configFor() func(*openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	connect := helpers.RESTConfigFor
	if o.gateway.Host != "" {
		connect = helpers.ConfigFor(&o.gateway)
	}
	return func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
		config, err := connect(dp)
		if err == nil {
			config.UserAgent = name
		}
		return config, err
	}
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
	planes, err := newPlanes(ctx, client, o.namespace)
	if err != nil {
		return err
	}

	// A controller that does more builds its clients here, such as a kubernetes.Clientset.
	clusters := remote.NewCache(planes.get, func(c *remote.Cluster) (*remote.Cluster, error) { return c, nil },
		remote.Options{ConfigFor: o.configFor()})
	defer clusters.Close()

	// Workers may still record Events after ctx has ended.
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecording()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: kube.EventsV1()})
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(recording); err != nil {
		return err
	}

	metrics := newMetrics()
	c, err := newController(planes, client.OpenChoreoV1alpha1(), clusters,
		broadcaster.NewRecorder(openchoreoscheme.Scheme, name), metrics, o)
	if err != nil {
		return err
	}
	metrics.registry.MustRegister(collector{c})

	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	slog.Info("listening", "address", listener.Addr().String())
	election := leaderelection.NewLeaderHealthzAdaptor(leaseTolerance)
	server := newServer(metrics.all(), election.Check, planes.synced)
	served := make(chan error, 1)
	go func() {
		defer stop()
		served <- server.Serve(listener)
	}()
	defer func() { err = errors.Join(err, closeServer(server, served)) }()

	planes.StartWithContext(ctx)
	defer func() {
		stop()
		planes.Shutdown()
	}()
	if planes.WaitForCacheSyncWithContext(ctx).Err != nil {
		return nil
	}
	return lead(ctx, config, leaseNamespace, election, func(ctx context.Context) { c.run(ctx, o.workers) })
}

// The times of Kubernetes' own components.
const (
	leaseDuration  = 15 * time.Second
	renewDeadline  = 10 * time.Second
	retryPeriod    = 2 * time.Second
	leaseTolerance = 20 * time.Second // how long /healthz tolerates a Lease that isn't renewed
)

// lead runs work while this process holds the Lease. When ctx ends, it waits for work,
// releases the Lease, so that another replica takes over at once, and returns nil. If it
// loses the Lease, it returns an error, and the process must end, because another replica leads.
func lead(ctx context.Context, config *rest.Config, namespace string, health *leaderelection.HealthzAdaptor, work func(context.Context)) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	identity := hostname + "_" + string(uuid.NewUUID())
	// The lock has a separate client, so that renewals never wait for other requests.
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, name,
		resourcelock.ResourceLockConfig{Identity: identity}, config, renewDeadline)
	if err != nil {
		return err
	}

	// The end of this context releases the Lease; it must come after the end of work.
	holding, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: name, Lock: lock, ReleaseOnCancel: true,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				defer release()
				leading, cancel := context.WithCancel(leading)
				defer cancel()
				defer context.AfterFunc(ctx, cancel)()
				work(leading)
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(leader string) {
				if leader != identity && leader != "" {
					slog.Info("following", "leader", leader)
				}
			},
		},
	})
	if err != nil {
		return err
	}
	health.SetLeaderElection(elector)
	defer context.AfterFunc(ctx, func() {
		if !elector.IsLeader() { // work isn't running
			release()
		}
	})()
	elector.Run(holding)
	if ctx.Err() == nil {
		return fmt.Errorf("lost the Lease %s", lock.Describe())
	}
	return nil
}
