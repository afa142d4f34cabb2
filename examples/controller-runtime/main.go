// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command controller-runtime is a controller on sigs.k8s.io/controller-runtime, v0.21 or
// later, that uses the DataPlane SDK: its types in the manager's scheme and cache, its apply
// configurations with the manager's client, its typed client for conditions, and a
// remote.Cache of clients for the clusters of DataPlanes and ClusterDataPlanes:
//
//	go -C examples run ./controller-runtime
//
// For each data plane, the controller keeps a config map in its cluster with the hosts under which
// workloads are reached, watches the config map there, and writes the result to the condition
// GatewayProvisioned. The users in the credentials of DataPlanes need the rights to create, patch,
// delete, list and watch config maps in the namespace default of their clusters.
//
// The program starts a management and a target cluster on this machine, changes data planes
// from their creation to their deletion, and removes the clusters. With --kubeconfig or
// --context, or in a Pod, it works on that cluster until it gets a signal. With --gateway, it
// reaches data planes of OpenChoreo v1 through the cluster gateway.
//
// To make it yours, copy this folder without story.go and the test. Keep apply.go (with
// controller-runtime v0.21, apply_v0.21.go), delete its line //go:build, and delete the other file.
// To deploy it, write the name of its image into manifest.yaml and release.yaml, or into
// namespaced.yaml for the DataPlanes of one namespace of OpenChoreo v0.3.
//
// The controller adds a finalizer to data planes. To remove the controller, scale its Deployment to
// 0, run the Job of release.yaml, which has the flag --release, and delete the manifest: see
// manifest.yaml. A running controller would restore everything that --release removes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// name is the name of the controller in requests and logs, and of its Lease.
const name = "gateway-example"

// options are the flags.
type options struct {
	kubeconfig, context string
	namespace           string
	gateway             rest.Config
	leaderElect         bool
	metrics, probes     string
	release             bool
}

// demonstrate shows the controller on control planes that it starts, and returns the exit code. It
// is nil in a copy without story.go.
var demonstrate func(options) int

func main() {
	flag.CommandLine = flag.NewFlagSet("controller-runtime", flag.ExitOnError) // without controller-runtime's own --kubeconfig
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig `file` of the cluster with the data planes (default: the cluster of the Pod, or else a demo)")
	flag.StringVar(&o.context, "context", "", "`name` of a context in the kubeconfig file (default file: kubectl's)")
	flag.StringVar(&o.namespace, "namespace", "", "serve the DataPlanes of one `namespace`, and no ClusterDataPlanes (default: all)")
	flag.StringVar(&o.gateway.Host, "gateway", "", "`URL` of OpenChoreo's cluster gateway, for data planes of v1")
	flag.StringVar(&o.gateway.CAFile, "gateway-ca", "", "`file` with the CA certificates of the gateway")
	flag.StringVar(&o.gateway.CertFile, "gateway-cert", "", "`file` with the client certificate for the gateway")
	flag.StringVar(&o.gateway.KeyFile, "gateway-key", "", "`file` with the key of the client certificate")
	flag.StringVar(&o.gateway.ServerName, "gateway-server-name", "", "`name` in the gateway's certificate (default: the host of the URL)")
	flag.BoolVar(&o.leaderElect, "leader-elect", false, "work only while this replica holds the Lease")
	flag.StringVar(&o.metrics, "metrics-bind-address", "0", "`address` to serve /metrics on; 0 for none")
	flag.StringVar(&o.probes, "health-probe-bind-address", "0", "`address` to serve /healthz and /readyz on; 0 for none")
	flag.BoolVar(&o.release, "release", false, "remove everything that the controller has written, and exit; stop all replicas first")
	flag.Parse()
	_, err := rest.InClusterConfig()
	demonstration := demonstrate != nil && o.kubeconfig == "" && o.context == "" && errors.Is(err, rest.ErrNotInCluster)
	err = o.check()
	if demonstration && flag.NFlag() > 0 {
		err = errors.Join(err, errors.New("the demo takes no flags: want --kubeconfig or --context too"))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v; -h lists the flags\n", flag.CommandLine.Name(), err)
		os.Exit(2)
	}
	if demonstration {
		os.Exit(demonstrate(o))
	}

	logger := logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger) // client-go's log
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := runOn(ctx, o, logger); err != nil {
		logger.Error(err, "ended")
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

// runOn works on the cluster that kubectl would use with the same flags, or on the cluster of the
// Pod. The Lease is in the namespace of the context or of the Pod.
func runOn(ctx context.Context, o options, logger logr.Logger) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context})
	config, err := loader.ClientConfig()
	if err != nil {
		return err
	}
	leases, _, err := loader.Namespace()
	if err != nil {
		return err
	}
	config = rest.AddUserAgent(config, name)
	if o.release {
		return releaseAll(ctx, config, o)
	}
	return run(ctx, config, leases, o, logger)
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(clientgoscheme.AddToScheme(scheme), openchoreov1alpha1.AddToScheme(scheme))
}
