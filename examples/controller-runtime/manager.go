// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
)

// The shortest and longest time between attempts to configure a gateway; each failure doubles it.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Minute
)

// run runs the controller until ctx ends, which is no error, or until another replica leads.
func run(ctx context.Context, config *rest.Config, leases string, o options, logger logr.Logger) error {
	mgr, err := newManager(config, leases, o, logger)
	if err != nil {
		return err
	}
	// Lists once, so that a missing right is an error: an informer would retry for ever.
	kinds, err := list(ctx, mgr.GetAPIReader(), o.namespace, 1)
	if err != nil {
		return err
	}
	// The typed client shares the connections of the manager's client.
	typed, err := openchoreoclient.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	changes := make(chan event.GenericEvent)
	gateways := newReconciler(mgr.GetClient(), typed.OpenChoreoV1alpha1(), o, func(key types.NamespacedName) {
		dp := &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		select {
		case changes <- event.GenericEvent{Object: dp}:
		case <-ctx.Done():
		}
	})
	defer gateways.targets.Close()

	b := ctrl.NewControllerManagedBy(mgr).
		Named("gateway").
		WatchesRawSource(source.Channel(changes, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 10, // a cluster that doesn't answer holds a worker for targetTimeout
			// No event says that a cluster answers again: only a retry finds out. By default, retries are up to 16 minutes apart.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff),
		}).
		WithLogConstructor(func(req *reconcile.Request) logr.Logger {
			if req == nil {
				return logger.V(1)
			}
			return logger.WithValues("dataPlane", req.NamespacedName)
		})
	for _, k := range kinds {
		b = b.Watches(k.object, &handler.EnqueueRequestForObject{}, builder.WithPredicates(unseen))
		// Applies new credentials, and closes the clients of deleted data planes.
		dataPlanes, err := mgr.GetCache().GetInformer(ctx, k.object)
		if err != nil {
			return err
		}
		if _, err := dataPlanes.AddEventHandler(gateways.targets.Handler()); err != nil {
			return err
		}
	}
	if err := b.Complete(gateways); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func newManager(config *rest.Config, leases string, o options, logger logr.Logger) (manager.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	// A controller that doesn't connect to data planes would use informer.DropSecrets instead.
	options := cache.Options{DefaultTransform: informer.StripManagedFields}
	if o.namespace != "" {
		options.DefaultNamespaces = map[string]cache.Config{o.namespace: {}}
	}
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme:                        scheme,
		Logger:                        logger.V(1), // for debugging; errors are logged anyway
		Cache:                         options,
		Metrics:                       metricsserver.Options{BindAddress: o.metrics},
		HealthProbeBindAddress:        o.probes,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              name,
		LeaderElectionNamespace:       leases,
		LeaderElectionReleaseOnCancel: true, // main ends when run returns
	})
	if err != nil {
		return nil, err
	}
	return mgr, errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping))
}

// kind is a kind of data plane.
type kind struct {
	object client.Object
	list   client.ObjectList
}

// list lists at most limit objects of each kind, where 0 is no limit, and returns the kinds that the
// API server serves now.
func list(ctx context.Context, reader client.Reader, namespace string, limit int64) (served []kind, err error) {
	kinds := []kind{{&openchoreov1alpha1.DataPlane{}, &openchoreov1alpha1.DataPlaneList{}}}
	if namespace == "" {
		kinds = append(kinds, kind{&openchoreov1alpha1.ClusterDataPlane{}, &openchoreov1alpha1.ClusterDataPlaneList{}})
	}
	for _, k := range kinds {
		err := reader.List(ctx, k.list, client.InNamespace(namespace), client.Limit(limit))
		if err == nil {
			served = append(served, k)
		} else if !meta.IsNoMatchError(err) {
			return nil, err
		}
	}
	if len(served) == 0 {
		return nil, errors.New("the API server serves no DataPlanes or ClusterDataPlanes")
	}
	return served, nil
}

// releaseAll releases all data planes, without a manager.
func releaseAll(ctx context.Context, config *rest.Config, o options) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	direct, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	typed, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}
	gateways := newReconciler(direct, typed.OpenChoreoV1alpha1(), o, nil)
	defer gateways.targets.Close()
	kinds, err := list(ctx, direct, o.namespace, 0)
	if err != nil {
		return err
	}
	var errs []error
	for _, k := range kinds {
		_ = meta.EachListItem(k.list, func(object runtime.Object) error {
			dp := object.(dataPlane)
			if err := gateways.release(ctx, dp); err != nil {
				errs = append(errs, fmt.Errorf("data plane %s keeps finalizer %s: %w", client.ObjectKeyFromObject(dp), finalizer, err))
			}
			return nil
		})
	}
	return errors.Join(errs...)
}
