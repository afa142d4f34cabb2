// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// reasonNoCredentials is a reason of the condition Connected. All others are values of
// remote.Reachability.
const reasonNoCredentials = "NoCredentials"

// probe asks the cluster of a data plane whether it is ready, for up to 15 s, and returns the
// condition Connected. It returns an error if the result says nothing about the cluster: ctx
// has ended, or the DataPlane was changed or deleted meanwhile.
func (c *controller) probe(ctx context.Context, dp *openchoreov1alpha1.DataPlane) (connected metav1.Condition, err error) {
	connected.Type = openchoreov1alpha1.DataPlaneConditionConnected
	connected.Status = metav1.ConditionFalse
	defer func() {
		if err == nil {
			c.metrics.probes.WithLabelValues(connected.Reason).Inc()
		}
	}()

	cluster, err := c.clusters.Get(types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name})
	switch {
	case errors.Is(err, helpers.ErrNoCredentials):
		// Later OpenChoreo releases keep no credentials in the spec.
		connected.Status, connected.Reason, connected.Message = metav1.ConditionUnknown, reasonNoCredentials, err.Error()
		return connected, nil
	case remote.Classify(err) == remote.ReachabilityInvalidCredentials:
		connected.Reason, connected.Message = string(remote.ReachabilityInvalidCredentials), err.Error()
		return connected, nil
	case err != nil:
		return connected, err
	}

	start := time.Now()
	err = cluster.Probe(ctx)
	reachability := remote.Classify(err)
	switch {
	case ctx.Err() != nil:
		return connected, ctx.Err()
	case errors.Is(err, remote.ErrRotated), reachability == remote.ReachabilityClosed:
		return connected, err
	case err == nil:
		connected.Status, connected.Message = metav1.ConditionTrue, "the API server answers"
	default:
		connected.Message = err.Error() // holds no secrets
	}
	connected.Reason = string(reachability)
	c.metrics.duration.WithLabelValues(connected.Reason).Observe(time.Since(start).Seconds())
	return connected, nil
}
