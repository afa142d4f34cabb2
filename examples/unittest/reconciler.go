// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package unittest has a reconciler and its unit test, which needs no cluster and takes less
// than a second:
//
//	go -C examples test ./unittest
//
// The example envtest tests the same reconciler on a real API server.
package unittest

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Reconciler probes the cluster of a DataPlane of OpenChoreo v0.3 every minute and writes the
// result to the condition Connected. OpenChoreo v1 reports its agents itself, in the status.
type Reconciler struct {
	get      func(types.NamespacedName) (*openchoreov1alpha1.DataPlane, error)
	client   openchoreoclient.Interface
	clusters *remote.Cache[*remote.Cluster]
}

// New returns a Reconciler that reads DataPlanes by get and writes them by client. The caller
// must close it.
func New(get func(types.NamespacedName) (*openchoreov1alpha1.DataPlane, error), client openchoreoclient.Interface) *Reconciler {
	return &Reconciler{get: get, client: client, clusters: remote.NewCache(get,
		func(cluster *remote.Cluster) (*remote.Cluster, error) { return cluster, nil }, remote.Options{})}
}

// Close closes the connections to all clusters.
func (r *Reconciler) Close() { r.clusters.Close() }

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	dp, err := r.get(req.NamespacedName)
	if err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if dp.Spec.ClusterAgent != nil { // a condition would hide status.agentConnection
		return reconcile.Result{}, nil
	}
	condition := metav1.Condition{
		Type:   openchoreov1alpha1.DataPlaneConditionConnected,
		Status: metav1.ConditionTrue,
		Reason: string(remote.ReachabilityReachable),
	}
	if err := r.probe(ctx, req.NamespacedName); err != nil {
		condition.Status = metav1.ConditionFalse
		condition.Reason, condition.Message = string(remote.Classify(err)), err.Error()
	}
	// PatchConditions patches only what has changed, and returns an error if ctx ended during the probe.
	_, err = helpers.PatchConditions(ctx, r.client.OpenChoreoV1alpha1().DataPlanes(dp.Namespace), dp,
		[]metav1.Condition{condition}, helpers.PatchConditionsOptions{FieldManager: "probe-example"})
	if err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	return reconcile.Result{RequeueAfter: time.Minute}, nil
}

func (r *Reconciler) probe(ctx context.Context, dp types.NamespacedName) error {
	cluster, err := r.clusters.Get(dp)
	if err != nil {
		return err
	}
	return cluster.Probe(ctx)
}

// SetUp adds a Reconciler to a manager whose scheme has DataPlanes.
func SetUp(ctx context.Context, mgr ctrl.Manager) error {
	get := func(key types.NamespacedName) (*openchoreov1alpha1.DataPlane, error) {
		dp := &openchoreov1alpha1.DataPlane{}
		return dp, mgr.GetClient().Get(context.Background(), key, dp) // from the manager's cache
	}
	typed, err := openchoreoclient.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	r := New(get, typed)
	dataPlanes, err := mgr.GetCache().GetInformer(ctx, &openchoreov1alpha1.DataPlane{})
	if err != nil {
		return err
	}
	// Applies new credentials, and closes the connections of deleted DataPlanes.
	if _, err := dataPlanes.AddEventHandler(r.clusters.Handler()); err != nil {
		return err
	}
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		<-ctx.Done()
		r.Close()
		return nil
	})); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		For(&openchoreov1alpha1.DataPlane{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		// A cluster that doesn't answer holds a worker for up to 15 s, and must not delay others.
		WithOptions(controller.Options{MaxConcurrentReconciles: 10}).
		Complete(r)
}
