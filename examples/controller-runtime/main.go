// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command controller-runtime is a controller on sigs.k8s.io/controller-runtime, v0.21 or
// later, that uses the DataPlane SDK: its types in the manager's scheme and cache, its apply
// configurations with the manager's client, its typed client for conditions, and a
// remote.Cache of clients for the clusters of the DataPlanes.
//
//	go -C examples run ./controller-runtime
//
// For each DataPlane, the controller keeps a config map with its virtual hosts in the target
// cluster, for a gateway to read, and writes the result to the condition GatewayProvisioned.
//
// The program starts a management and a target cluster on this machine, changes a DataPlane
// from its creation to its deletion, and removes the clusters. With --kubeconfig or --context,
// it runs the controller for the DataPlanes of one namespace of an existing cluster, until
// Ctrl-C; then it removes everything that it has written, there and in the target clusters.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func main() {
	// controller-runtime has a --kubeconfig of its own in flag.CommandLine.
	fs := flag.NewFlagSet("controller-runtime", flag.ExitOnError)
	var flags demo.Flags
	flags.Register(fs)
	flags.RegisterNamespace(fs)
	demo.Parse(fs)
	targets := 1
	if flags.Existing() {
		targets = 0
	}
	os.Exit(demo.Run(fs.Name(), &flags, targets, run))
}

func run(ctx context.Context, clusters *demo.Clusters) error {
	logger := logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil))
	ctrl.SetLogger(logger)
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), openchoreov1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}

	mgr, err := newManager(clusters.Management, clusters.Namespace, scheme, logger)
	if err != nil {
		return err
	}
	targets := newTargets(mgr.GetClient(), scheme)
	defer targets.Close()
	// The manager's informer tells the cache of new credentials and of deletions.
	dataPlanes, err := mgr.GetCache().GetInformer(ctx, &openchoreov1alpha1.DataPlane{})
	if err != nil {
		return err
	}
	if _, err := dataPlanes.AddEventHandler(targets.Handler()); err != nil {
		return err
	}
	// The typed client shares the connections of the manager's client.
	typed, err := openchoreoclient.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	gateways := &gatewayReconciler{client: mgr.GetClient(), dataPlanes: typed.OpenChoreoV1alpha1(), targets: targets}
	if err := gateways.setUp(mgr, logger); err != nil {
		return err
	}

	if clusters.Plane == nil { // an existing cluster
		fmt.Printf("watching DataPlanes in namespace %s; Ctrl-C ends it\n", clusters.Namespace)
		err := mgr.Start(ctx)
		// An example leaves nothing behind. Your controller returns here, and continues when it
		// starts again.
		return errors.Join(err, gateways.releaseAll(context.WithoutCancel(ctx), clusters.Namespace))
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &story{Clusters: clusters}
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		defer cancel()
		return s.play(ctx)
	})); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// newTargets returns a cache of clients for the clusters of DataPlanes, which reader reads.
func newTargets(reader client.Reader, scheme *runtime.Scheme) *remote.Cache[client.Client] {
	get := func(key types.NamespacedName) (*openchoreov1alpha1.DataPlane, error) {
		dp := &openchoreov1alpha1.DataPlane{}
		return dp, reader.Get(context.Background(), key, dp) // from memory
	}
	build := func(cluster *remote.Cluster) (client.Client, error) {
		return client.New(cluster.Config(), client.Options{HTTPClient: cluster.HTTPClient(), Scheme: scheme})
	}
	return remote.NewCache(get, build, remote.Options{})
}

func newManager(config *rest.Config, namespace string, scheme *runtime.Scheme, logger logr.Logger) (manager.Manager, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = userAgent
	return ctrl.NewManager(config, manager.Options{
		Scheme: scheme,
		Logger: logger.V(1), // for debugging; errors are logged anyway
		Cache: cache.Options{
			DefaultTransform: informer.StripManagedFields,
			ByObject: map[client.Object]cache.ByObject{
				// A controller that makes no connections would set Transform: informer.DropSecrets.
				&openchoreov1alpha1.DataPlane{}: {Namespaces: map[string]cache.Config{namespace: {}}},
			},
		},
		Metrics: metricsserver.Options{BindAddress: "0"}, // no server
	})
}

func (r *gatewayReconciler) setUp(mgr manager.Manager, logger logr.Logger) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("gateway").
		For(&openchoreov1alpha1.DataPlane{}, builder.WithPredicates(unseen)).
		// A cluster that doesn't answer holds a worker until the timeout.
		WithOptions(controller.Options{MaxConcurrentReconciles: 10}).
		WithLogConstructor(func(req *reconcile.Request) logr.Logger {
			if req == nil {
				return logger.V(1)
			}
			return logger.WithValues("dataPlane", req.NamespacedName)
		}).
		Complete(r)
}
