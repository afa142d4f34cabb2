// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	fieldOwner = client.FieldOwner(name)
	// finalizer keeps a deleted data plane, and so the connection to its cluster, until the
	// controller has cleaned up there.
	finalizer = "openchoreo.dev/" + name
	// targetNamespace is the namespace of the config maps in target clusters.
	targetNamespace = "default"
	// targetTimeout is how long a worker waits for a target cluster. Without it, a server that answers with a
	// Retry-After would hold a worker for minutes: client-go waits for each of ten attempts.
	targetTimeout = 30 * time.Second
)

// gatewayReconciler keeps a config map in the cluster of each data plane with the hosts under which
// workloads are reached. If a DataPlane moves to another cluster, the config map in the old cluster
// remains, because the credentials for that cluster are gone.
type gatewayReconciler struct {
	client  client.Client                               // of the management cluster; reads from the manager's cache, except in releaseAll
	typed   openchoreotyped.OpenChoreoV1alpha1Interface // of the management cluster; reads from the API server
	targets *remote.Cache[client.Client]                // of the clusters of data planes
}

// newReconciler returns a reconciler that calls changed, if it isn't nil, when the config map of a data
// plane has changed. The caller must close targets.
func newReconciler(c client.Client, typed openchoreotyped.OpenChoreoV1alpha1Interface, o options, changed func(types.NamespacedName)) *gatewayReconciler {
	r := &gatewayReconciler{client: c, typed: typed}
	r.targets = newTargets(func(key types.NamespacedName) (*openchoreov1alpha1.DataPlane, error) {
		object, err := r.read(context.Background(), key) // a request only in releaseAll
		if err != nil {
			return nil, err
		}
		return object.AsDataPlane(), nil
	}, &o.gateway, c.Scheme(), changed)
	return r
}

// dataPlane is a DataPlane or a ClusterDataPlane.
type dataPlane interface {
	client.Object
	AsDataPlane() *openchoreov1alpha1.DataPlane
}

// read reads a DataPlane or, for a key without a namespace, a ClusterDataPlane.
func (r *gatewayReconciler) read(ctx context.Context, key types.NamespacedName) (dataPlane, error) {
	if key.Namespace == "" {
		object := &openchoreov1alpha1.ClusterDataPlane{}
		return object, r.client.Get(ctx, key, object)
	}
	object := &openchoreov1alpha1.DataPlane{}
	return object, r.client.Get(ctx, key, object)
}

// unseen drops updates of a data plane once the controller has reported on its generation. Reports
// of the controller and of OpenChoreo therefore don't wake the controller, and failures wait for
// the backoff of the queue. The generation changes with the spec, credentials included, and on
// deletion.
//
// unseen compares the generation of the condition only: OpenChoreo may update
// status.observedGeneration later and, of a ClusterDataPlane, never does.
var unseen = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	dp := e.ObjectNew.(dataPlane).AsDataPlane()
	condition := meta.FindStatusCondition(dp.Status.Conditions, openchoreov1alpha1.DataPlaneConditionGatewayProvisioned)
	return condition == nil || condition.ObservedGeneration != dp.Generation
}}

// Reconcile implements reconcile.Reconciler.
func (r *gatewayReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	object, err := r.read(ctx, req.NamespacedName)
	if err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	dp := object.AsDataPlane()
	if !dp.DeletionTimestamp.IsZero() {
		// The cache may still have a data plane that is gone.
		return reconcile.Result{}, client.IgnoreNotFound(r.release(ctx, object))
	}

	err = r.provision(ctx, dp)
	if reportErr := r.report(ctx, object, "Configured", err); reportErr != nil {
		return reconcile.Result{}, errors.Join(err, reportErr)
	}
	switch {
	case isUnusable(dp, err):
		return reconcile.Result{}, reconcile.TerminalError(err) // until somebody changes the DataPlane
	case err != nil:
		return reconcile.Result{}, err
	}
	log.FromContext(ctx).Info("gateway is configured", "generation", dp.Generation)
	return reconcile.Result{}, nil
}

func (r *gatewayReconciler) provision(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	target, err := r.targets.Get(client.ObjectKeyFromObject(dp))
	if err != nil {
		return err
	}
	if !controllerutil.ContainsFinalizer(dp, finalizer) {
		if err := r.setFinalizers(ctx, dp, finalizer); err != nil {
			return err
		}
	}
	return apply(ctx, target, applycorev1.ConfigMap(configMapName(client.ObjectKeyFromObject(dp)), targetNamespace).WithData(hosts(dp)))
}

// setFinalizers sets the finalizers of the controller, and keeps all others: each manager owns the
// finalizers that it applies. With the UID, an apply can't create another object if dp is gone.
func (r *gatewayReconciler) setFinalizers(ctx context.Context, dp *openchoreov1alpha1.DataPlane, finalizers ...string) error {
	if dp.Namespace == "" {
		return apply(ctx, r.client, openchoreoapply.ClusterDataPlane(dp.Name).WithUID(dp.UID).WithFinalizers(finalizers...))
	}
	return apply(ctx, r.client, openchoreoapply.DataPlane(dp.Name, dp.Namespace).WithUID(dp.UID).WithFinalizers(finalizers...))
}

// hosts returns the hosts under which workloads are reached: the two virtual hosts of OpenChoreo v0.3,
// or the hosts of the HTTPS listeners of v1.
func hosts(dp *openchoreov1alpha1.DataPlane) map[string]string {
	gateway := dp.Spec.Gateway
	hosts := map[string]string{"publicVirtualHost": gateway.PublicVirtualHost, "organizationVirtualHost": gateway.OrganizationVirtualHost}
	if gateway.Ingress != nil {
		for key, endpoint := range map[string]*openchoreov1alpha1.GatewayEndpointSpec{"external": gateway.Ingress.External, "internal": gateway.Ingress.Internal} {
			if endpoint != nil && endpoint.HTTPS != nil {
				hosts[key] = endpoint.HTTPS.Host
			}
		}
	}
	maps.DeleteFunc(hosts, func(_, host string) bool { return host == "" })
	return hosts
}

// release undoes provision.
func (r *gatewayReconciler) release(ctx context.Context, object dataPlane) error {
	dp := object.AsDataPlane()
	if !controllerutil.ContainsFinalizer(dp, finalizer) {
		return nil
	}
	err := r.deleteConfigMap(ctx, dp)
	if reportErr := r.report(ctx, object, "Removed", err); reportErr != nil {
		return errors.Join(err, reportErr)
	}
	switch {
	case isUnusable(dp, err): // a retry would fail too
		log.FromContext(ctx).Error(err, "config map can't be removed")
	case err != nil:
		return err
	}
	if err := r.setFinalizers(ctx, dp); err != nil {
		return err
	}
	log.FromContext(ctx).Info("gateway is no longer configured")
	return nil
}

func (r *gatewayReconciler) deleteConfigMap(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	target, err := r.targets.Get(client.ObjectKeyFromObject(dp))
	if err != nil {
		return err
	}
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: targetNamespace, Name: configMapName(client.ObjectKeyFromObject(dp))}}
	return client.IgnoreNotFound(target.Delete(ctx, configMap))
}

// report writes the condition GatewayProvisioned: True if the gateway is configured, and
// otherwise False, with a reason for err if there is one.
//
// It doesn't apply the status. Where conditions are an atomic list, as in OpenChoreo v0.3, an
// apply of one condition removes the conditions of other controllers. PatchConditions keeps them
// in every release.
func (r *gatewayReconciler) report(ctx context.Context, object dataPlane, reason string, err error) error {
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
		condition.Message = fmt.Sprintf("config map %s/%s holds the hosts", targetNamespace, configMapName(client.ObjectKeyFromObject(object)))
	}
	conditions, options := []metav1.Condition{condition}, helpers.PatchConditionsOptions{FieldManager: name}
	switch object := object.(type) {
	case *openchoreov1alpha1.DataPlane:
		_, err = helpers.PatchConditions(ctx, r.typed.DataPlanes(object.Namespace), object, conditions, options)
	case *openchoreov1alpha1.ClusterDataPlane:
		_, err = helpers.PatchConditions(ctx, r.typed.ClusterDataPlanes(), object, conditions, options)
	}
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

// isUnusable reports whether dp must be changed before a retry can succeed. A data plane of OpenChoreo
// v1 needs no change: the fault is in the flags of the gateway, or in a certificate file that is missing
// or being written.
func isUnusable(dp *openchoreov1alpha1.DataPlane, err error) bool {
	return dp.Spec.ClusterAgent == nil && remote.Classify(err) == remote.ReachabilityInvalidCredentials
}

// configMapName is unique among data planes with the same cluster.
func configMapName(dp types.NamespacedName) string {
	if dp.Namespace == "" {
		return "clustergateway." + dp.Name
	}
	return "gateway." + dp.Namespace + "." + dp.Name
}
