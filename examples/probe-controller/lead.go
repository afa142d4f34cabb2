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

// The times of Kubernetes' own components.
const (
	leaseDuration  = 15 * time.Second
	renewDeadline  = 10 * time.Second
	retryPeriod    = 2 * time.Second
	leaseTolerance = 20 * time.Second // how long /healthz tolerates a Lease that isn't renewed
)

// lead runs work while this process holds the Lease. When ctx ends, it waits for work,
// releases the Lease, so that another replica takes over at once, and returns nil. If it
// loses the Lease, it returns an error, and the process must end, because another one leads.
func lead(ctx context.Context, config *rest.Config, namespace string, health *leaderelection.HealthzAdaptor, work func(context.Context)) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	identity := hostname + "_" + string(uuid.NewUUID())
	// The lock has a client of its own, so that renewals never wait for other requests.
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, name,
		resourcelock.ResourceLockConfig{Identity: identity}, config, renewDeadline)
	if err != nil {
		return err
	}

	// The end of this context releases the Lease; it must come after the end of work.
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
		if !elector.IsLeader() { // work isn't running
			release()
		}
	})()
	elector.Run(holding)
	if ctx.Err() == nil {
		return fmt.Errorf("the lease %s was lost", lock.Describe())
	}
	return nil
}
