// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The times that Kubernetes' own components have.
const (
	leaseDuration  = 15 * time.Second
	renewDeadline  = 10 * time.Second
	retryPeriod    = 2 * time.Second
	leaseTolerance = 20 * time.Second // after which a leader without a lease is not healthy
)

// lead runs work once this process has the lease. When ctx ends, it returns nil once work
// has ended and the lease is released, so that another replica takes over at once. When the
// lease is lost, that is an error after which the process must end: another one leads.
func lead(ctx context.Context, config *rest.Config, namespace string, health *leaderelection.HealthzAdaptor, work func(context.Context)) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	identity := hostname + "_" + string(uuid.NewUUID())
	// This makes a client of its own: renewing the lease never waits for other requests.
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, name,
		resourcelock.ResourceLockConfig{Identity: identity}, config, renewDeadline)
	if err != nil {
		return err
	}

	// The lease is released when this context ends, which must be when work has ended.
	holding, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: name, Lock: lock, ReleaseOnCancel: true,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				defer release()
				leading, cancel := context.WithCancel(leading)
				defer cancel()
				defer context.AfterFunc(ctx, cancel)()
				work(leading)
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(leader string) {
				if leader != identity && leader != "" {
					slog.Info("following", "leader", leader)
				}
			},
		},
	})
	if err != nil {
		return err
	}
	health.SetLeaderElection(elector)
	defer context.AfterFunc(ctx, func() {
		if !elector.IsLeader() { // and so there is no work
			release()
		}
	})()
	elector.Run(holding)
	if ctx.Err() == nil {
		return fmt.Errorf("the lease %s was lost", lock.Describe())
	}
	return nil
}
