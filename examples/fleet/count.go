// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// A run ends when more probes fail in a row than are tolerated: an API server that restarts isn't away.
const (
	probePeriod     = 2 * time.Second // a program with many data planes should probe less often
	toleratedProbes = 2
)

// countDeployments calls report with the number of Deployments of a data plane, and again when the number changes, until ctx
// ends or an error occurs. A Fleet calls it for each data plane.
//
// The informer asks for metadata only. The API server then leaves out spec and status, which are most of the size of a
// Deployment.
func countDeployments(ctx context.Context, cluster *remote.Cluster, report func(int)) error {
	client, err := metadata.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		return err
	}
	factory := metadatainformer.NewSharedInformerFactory(client, 0)
	defer factory.Shutdown()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	deployments := factory.ForResource(appsv1.SchemeGroupVersion.WithResource("deployments")).Informer()
	// Without this handler, an informer that can't list retries for ever. Here the run ends, so that the Fleet shows the error
	// and waits longer each time. This costs little, because an informer calls the handler only before it lists again.
	if err := deployments.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		end(fmt.Errorf("watching Deployments: %w", err))
	}); err != nil {
		return err
	}

	var mu sync.Mutex
	number, synced := 0, false
	changeBy := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		number += n
		if synced {
			report(number)
		}
	}
	registration, err := deployments.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changeBy(1) },
		DeleteFunc: func(any) { changeBy(-1) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		fleet.MarkStarted(ctx)
		mu.Lock()
		synced = true
		report(number)
		mu.Unlock()
	}
	// An informer reports neither refused connections nor a missing agent of v1: it waits and tries again.
	failed := 0
	err = wait.PollUntilContextCancel(ctx, probePeriod, false, func(ctx context.Context) (bool, error) {
		err := cluster.Probe(ctx)
		switch {
		case err == nil:
			failed = 0
		case failed < toleratedProbes:
			failed++
		default:
			return false, err
		}
		return false, nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
