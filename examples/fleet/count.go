// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	// A run ends after probeFailures failed probes in a row.
	probePeriod   = 2 * time.Second
	probeFailures = 2
)

// countDeployments calls report with the number of Deployments of a data plane, and again when
// that changes, until ctx ends or an error occurs. A Fleet calls it for each data plane.
//
// The informer asks for metadata only. The API server then leaves out spec and status, which
// are most of the size of a Deployment.
func countDeployments(ctx context.Context, cluster *remote.Cluster, report func(int)) error {
	if err := cluster.Probe(ctx); err != nil {
		return err
	}
	client, err := metadata.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		return err
	}
	deployments := metadatainformer.NewFilteredMetadataInformer(client,
		appsv1.SchemeGroupVersion.WithResource("deployments"), metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()

	// Every failure ends ctx, and with it all goroutines of this run.
	var started sync.WaitGroup
	defer started.Wait()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	if err := deployments.SetTransform(informer.StripManagedFields); err != nil {
		return err
	}
	// By itself, an informer retries for ever. The run ends instead, so that the Fleet shows
	// the error and waits longer each time. That costs little, because an informer calls this
	// function only before it lists again.
	if err := deployments.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		if !isUsual(err) {
			fail(fmt.Errorf("watching Deployments: %w", err))
		}
	}); err != nil {
		return err
	}
	var (
		mu     sync.Mutex
		number int
		synced bool
	)
	changeBy := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		number += n
		if synced && ctx.Err() == nil {
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

	started.Go(func() { deployments.RunWithContext(ctx) })
	started.Go(func() { fail(probe(ctx, cluster)) })
	if cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		fleet.MarkStarted(ctx)
		mu.Lock()
		synced = true
		mu.Unlock()
		changeBy(0)
		<-ctx.Done()
	}
	return context.Cause(ctx)
}

// probe returns an error when the API server has been away for a while. An informer reports no
// refused connection: it takes it for a restart, and retries.
func probe(ctx context.Context, cluster *remote.Cluster) error {
	ticker := time.NewTicker(probePeriod)
	defer ticker.Stop()
	for failures := 0; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		err := cluster.Probe(ctx)
		if err == nil {
			failures = 0
		} else if failures++; failures == probeFailures {
			return err
		}
	}
}

// isUsual reports whether an informer lists again for an ordinary reason.
func isUsual(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, remote.ErrRotated) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}
