// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
)

const (
	// fieldOwner is who owns what the controller applies, in every cluster.
	fieldOwner = client.FieldOwner("gateway-example")
	userAgent  = string(fieldOwner) + "/v1"
	// finalizer keeps a deleted DataPlane, and with it the credentials of its cluster,
	// until the controller has cleaned up there.
	finalizer = "openchoreo.dev/gateway-example"
	// targetNamespace is where the config maps are in target clusters.
	targetNamespace = "default"
	// resync is how often the config maps are put right again.
	resync = 10 * time.Minute
)

// gatewayReconciler keeps a config map with the virtual hosts of each DataPlane in the
// cluster that the DataPlane describes. It leaves one behind in a cluster that a DataPlane
// described before, since the credentials for that are gone.
type gatewayReconciler struct {
	client     client.Client                       // of the management cluster; reads from the manager's cache
	dataPlanes openchoreotyped.DataPlanesGetter    // of the same, without the cache
	targets    *helpers.ClientCache[client.Client] // of the clusters that DataPlanes describe
}

// unseen drops updates of DataPlanes whose present generation the controller has reported
// on. So it is not woken by its own reports, and what it reported as failed is tried again
// by the queue, ever less often. The generation changes with the spec, the credentials
// being a part of it, and when the object is deleted.
var unseen = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	dp, ok := e.ObjectNew.(*openchoreov1alpha1.DataPlane)
	verdict := helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionGatewayProvisioned)
	return ok && verdict.Code != helpers.CodeCurrent
}}

// Reconcile implements reconcile.Reconciler.
func (r *gatewayReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	dp := &openchoreov1alpha1.DataPlane{}
	if err := r.client.Get(ctx, req.NamespacedName, dp); err != nil {
		if apierrors.IsNotFound(err) {
			r.targets.Forget(req.NamespacedName)
		}
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
	target, err := r.targets.Get(dp)
	if err != nil {
		return err
	}
	if !controllerutil.ContainsFinalizer(dp, finalizer) {
		// Finalizers are a set of which each manager owns its own. The UID is that of the
		// object that is meant: should it be gone, this makes no other.
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
	case isUnusable(err): // to wait would not help
		log.FromContext(ctx).Error(err, "config map stays", "configMap", configMapName(dp))
	case err != nil:
		return err
	}
	// What was applied before and is not named any more is removed: the finalizer.
	if err := apply(ctx, r.client, openchoreoapply.DataPlane(dp.Name, dp.Namespace).WithUID(dp.UID)); err != nil {
		return err
	}
	log.FromContext(ctx).Info("gateway is no longer configured")
	return nil
}

func (r *gatewayReconciler) deleteConfigMap(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	target, err := r.targets.Get(dp)
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

// report writes the condition GatewayProvisioned: True with the reason when the gateway is
// configured, else False, with a reason that tells what err is if there is one.
//
// It doesn't apply the status. Where conditions are an atomic list, as in OpenChoreo v0.3,
// who applies one of them owns all, and takes away those of others. PatchConditions keeps
// them on every release.
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
	_, err = helpers.PatchConditions(ctx, r.dataPlanes.DataPlanes(dp.Namespace), dp, condition)
	return err
}

func reasonFor(err error) string {
	switch reachability := helpers.Classify(err); {
	case errors.Is(err, helpers.ErrNoCredentials):
		return "NoCredentials"
	case errors.Is(err, helpers.ErrInvalidCredentials):
		return "InvalidCredentials"
	case reachability == helpers.Reachable || reachability == helpers.Unknown:
		return "Failed"
	default:
		return string(reachability) // such as Forbidden or Timeout
	}
}

// isUnusable reports whether nothing but another spec helps.
func isUnusable(err error) bool {
	return errors.Is(err, helpers.ErrNoCredentials) || errors.Is(err, helpers.ErrInvalidCredentials)
}

// configMapName tells DataPlanes that describe the same cluster apart.
func configMapName(dp *openchoreov1alpha1.DataPlane) string {
	return "gateway." + dp.Namespace + "." + dp.Name
}
