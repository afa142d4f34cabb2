// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	// fieldOwner owns the fields that the controller applies, in every cluster.
	fieldOwner = client.FieldOwner("gateway-example")
	userAgent  = string(fieldOwner) + "/v1"
	// finalizer keeps a deleted DataPlane, and so the credentials of its cluster, until the
	// controller has cleaned up there.
	finalizer = "openchoreo.dev/gateway-example"
	// targetNamespace is the namespace of the config maps in target clusters.
	targetNamespace = "default"
	// resync is the time between corrections of a config map.
	resync = 10 * time.Minute
)

// gatewayReconciler keeps a config map with the virtual hosts of each DataPlane in its cluster.
// If a DataPlane moves to another cluster, the config map in the old one stays, because the
// credentials for it are gone.
type gatewayReconciler struct {
	client     client.Client                    // of the management cluster; reads from the manager's cache
	dataPlanes openchoreotyped.DataPlanesGetter // of the management cluster; reads from the API server
	targets    *remote.Cache[client.Client]     // of the clusters of DataPlanes
}

// unseen drops updates of DataPlanes whose current generation the controller has reported on.
// Its own reports therefore don't wake it, and failures are retried by the queue, with
// backoff. The generation changes with the spec, credentials included, and on deletion.
var unseen = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	dp, ok := e.ObjectNew.(*openchoreov1alpha1.DataPlane)
	verdict := helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionGatewayProvisioned)
	return ok && verdict.Code != helpers.CodeCurrent
}}

// Reconcile implements reconcile.Reconciler.
func (r *gatewayReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	dp := &openchoreov1alpha1.DataPlane{}
	if err := r.client.Get(ctx, req.NamespacedName, dp); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !dp.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, r.release(ctx, dp)
	}

	err := r.provision(ctx, dp)
	if reportErr := r.report(ctx, dp, "Configured", err); reportErr != nil {
		return reconcile.Result{}, errors.Join(err, reportErr)
	}
	switch {
	case isUnusable(err):
		return reconcile.Result{}, reconcile.TerminalError(err) // until somebody changes the DataPlane
	case err != nil:
		return reconcile.Result{}, err
	}
	log.FromContext(ctx).Info("gateway is configured", "generation", dp.Generation)
	return reconcile.Result{RequeueAfter: resync}, nil
}

func (r *gatewayReconciler) provision(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	target, err := r.targets.Get(client.ObjectKeyFromObject(dp))
	if err != nil {
		return err
	}
	if !controllerutil.ContainsFinalizer(dp, finalizer) {
		// Finalizers are a set, in which each manager owns its own. With the UID, the apply
		// can't create another object if this one is gone.
		if err := apply(ctx, r.client, openchoreoapply.DataPlane(dp.Name, dp.Namespace).
			WithUID(dp.UID).
			WithFinalizers(finalizer)); err != nil {
			return err
		}
	}
	return apply(ctx, target, applycorev1.ConfigMap(configMapName(dp), targetNamespace).
		WithData(map[string]string{
			"publicVirtualHost":       dp.Spec.Gateway.PublicVirtualHost,
			"organizationVirtualHost": dp.Spec.Gateway.OrganizationVirtualHost,
		}))
}

// release undoes provision.
func (r *gatewayReconciler) release(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	if !controllerutil.ContainsFinalizer(dp, finalizer) {
		return nil
	}
	err := r.deleteConfigMap(ctx, dp)
	if reportErr := r.report(ctx, dp, "Removed", err); reportErr != nil {
		return errors.Join(err, reportErr)
	}
	switch {
	case isUnusable(err): // retries would not help
		log.FromContext(ctx).Error(err, "config map can't be removed", "configMap", configMapName(dp))
	case err != nil:
		return err
	}
	// This apply lacks the finalizer, so it removes it.
	if err := apply(ctx, r.client, openchoreoapply.DataPlane(dp.Name, dp.Namespace).WithUID(dp.UID)); err != nil {
		return err
	}
	log.FromContext(ctx).Info("gateway is no longer configured")
	return nil
}

func (r *gatewayReconciler) deleteConfigMap(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	target, err := r.targets.Get(client.ObjectKeyFromObject(dp))
	if err != nil {
		return err
	}
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: targetNamespace, Name: configMapName(dp)}}
	return client.IgnoreNotFound(target.Delete(ctx, configMap))
}

// releaseAll releases every DataPlane of a namespace.
func (r *gatewayReconciler) releaseAll(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	list, err := r.dataPlanes.DataPlanes(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for i := range list.Items {
		dp := &list.Items[i]
		logger := log.FromContext(ctx).WithValues("dataPlane", client.ObjectKeyFromObject(dp))
		if err := r.release(log.IntoContext(ctx, logger), dp); err != nil {
			errs = append(errs, fmt.Errorf("DataPlane %s keeps finalizer %s: %w", dp.Name, finalizer, err))
		}
	}
	return errors.Join(errs...)
}

// report writes the condition GatewayProvisioned: True if the gateway is configured, and
// otherwise False, with a reason for err if there is one.
//
// It doesn't apply the status. Where conditions are an atomic list, as in OpenChoreo v0.3, an
// apply of one condition removes those of others. PatchConditions keeps them on every
// release.
func (r *gatewayReconciler) report(ctx context.Context, dp *openchoreov1alpha1.DataPlane, reason string, err error) error {
	condition := metav1.Condition{
		Type:   openchoreov1alpha1.DataPlaneConditionGatewayProvisioned,
		Status: metav1.ConditionFalse,
		Reason: reason,
	}
	switch {
	case err != nil:
		condition.Reason, condition.Message = reasonFor(err), err.Error()
	case reason == "Configured":
		condition.Status = metav1.ConditionTrue
		condition.Message = fmt.Sprintf("config map %s/%s holds the virtual hosts", targetNamespace, configMapName(dp))
	}
	_, err = helpers.PatchConditions(ctx, r.dataPlanes.DataPlanes(dp.Namespace), dp, []metav1.Condition{condition},
		helpers.PatchConditionsOptions{FieldManager: string(fieldOwner)})
	return err
}

func reasonFor(err error) string {
	switch reachability := remote.Classify(err); reachability {
	case remote.ReachabilityReachable, remote.ReachabilityUnknown:
		return "Failed"
	default:
		return string(reachability) // such as Forbidden or Timeout
	}
}

// isUnusable reports whether the DataPlane must be changed before a retry can succeed.
func isUnusable(err error) bool {
	return remote.Classify(err) == remote.ReachabilityInvalidCredentials
}

// configMapName is unique among DataPlanes with the same cluster.
func configMapName(dp *openchoreov1alpha1.DataPlane) string {
	return "gateway." + dp.Namespace + "." + dp.Name
}
