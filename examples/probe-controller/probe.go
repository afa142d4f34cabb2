// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Reasons of the condition Connected when there is nothing to connect with. All others
// are values of helpers.Reachability.
const (
	reasonInvalidCredentials = "InvalidCredentials"
	reasonNoCredentials      = "NoCredentials"
)

// probe asks the cluster of a data plane whether it is ready, for 5 s at most, and returns
// the condition Connected. The error is about what says nothing of the cluster: that ctx
// has ended, or that the object has changed meanwhile.
func (c *controller) probe(ctx context.Context, dp *openchoreov1alpha1.DataPlane) (connected metav1.Condition, err error) {
	connected.Type = openchoreov1alpha1.DataPlaneConditionConnected
	connected.Status = metav1.ConditionFalse
	defer func() {
		if err == nil {
			c.metrics.probes.WithLabelValues(connected.Reason).Inc()
		}
	}()

	remote, err := c.remotes.Get(dp)
	switch {
	case errors.Is(err, helpers.ErrNoCredentials):
		// A later OpenChoreo release keeps them elsewhere: nobody here can tell.
		connected.Status, connected.Reason, connected.Message = metav1.ConditionUnknown, reasonNoCredentials, err.Error()
		return connected, nil
	case errors.Is(err, helpers.ErrInvalidCredentials):
		connected.Reason, connected.Message = reasonInvalidCredentials, err.Error()
		return connected, nil
	case err != nil:
		return connected, err
	}

	start := time.Now()
	err = remote.Probe(ctx)
	reachability := helpers.Classify(err)
	switch {
	case ctx.Err() != nil:
		return connected, ctx.Err()
	case reachability == helpers.Closed: // other credentials have come
		return connected, err
	case err == nil:
		connected.Status, connected.Message = metav1.ConditionTrue, "the API server answers"
	default:
		connected.Message = err.Error() // which holds no secret
	}
	connected.Reason = string(reachability)
	c.metrics.duration.WithLabelValues(connected.Reason).Observe(time.Since(start).Seconds())
	return connected, nil
}
