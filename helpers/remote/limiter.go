// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"cmp"
	"context"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// clusterLimiter is the rate limiter of all clients of a Cluster. It lets a request through at once
// if the Cluster accepts none, or closes while the request waits: the request then fails with the
// Cluster's error, without client-go's words about a limiter.
type clusterLimiter struct {
	flowcontrol.RateLimiter
	cluster *Cluster
}

// newLimiter returns the limiter that client-go would make for one client; nil means no limit.
func newLimiter(config *rest.Config, c *Cluster) flowcontrol.RateLimiter {
	limiter, burst := config.RateLimiter, config.Burst
	if burst <= 0 {
		burst = rest.DefaultBurst
	}
	switch {
	case limiter != nil:
	case config.QPS < 0:
		return nil
	default:
		limiter = flowcontrol.NewTokenBucketRateLimiter(cmp.Or(config.QPS, rest.DefaultQPS), burst)
	}
	return &clusterLimiter{limiter, c}
}

func (l *clusterLimiter) Wait(ctx context.Context) error {
	if s, _ := l.cluster.use(); s == nil {
		return nil
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.cluster.ctx, cancel)()
	err := l.RateLimiter.Wait(waiting)
	if ctx.Err() == nil && l.cluster.ctx.Err() != nil {
		return nil
	}
	return err
}
