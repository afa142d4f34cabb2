// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	// syncTimeout limits how long a cache may take to fill.
	syncTimeout = 2 * time.Minute
	// A run ends after probeFailures failed probes in a row.
	probePeriod   = 2 * time.Second
	probeFailures = 2
)

// counter counts Deployments and reports each change.
type counter struct{ report func(Event) }

// run counts the Deployments of one data plane until ctx ends or an error occurs. A Fleet calls
// it for each data plane.
//
// The informer asks for metadata only. The API server then leaves out spec and status, which
// are most of the size of a Deployment.
func (c *counter) run(ctx context.Context, cluster *remote.Cluster) error {
	if err := cluster.Probe(ctx); err != nil {
		return err
	}
	client, err := metadata.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		return err
	}
	informer := metadatainformer.NewFilteredMetadataInformer(client,
		appsv1.SchemeGroupVersion.WithResource("deployments"), metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()

	// Every failure ends ctx, and with it all goroutines of this run.
	var started sync.WaitGroup
	defer started.Wait()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	if err := informer.SetTransform(nameOnly); err != nil {
		return err
	}
	// By itself, an informer retries for ever. The run ends instead, so that the Fleet shows
	// the error and waits longer each time. That costs little, because an informer calls this
	// function only before it lists again.
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		if !isUsual(err) {
			fail(fmt.Errorf("watching Deployments: %w", err))
		}
	}); err != nil {
		return err
	}
	var number atomic.Int64
	changed := make(chan struct{}, 1)
	changeBy := func(n int64) {
		number.Add(n)
		select {
		case changed <- struct{}{}:
		default: // a change is already pending
		}
	}
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changeBy(1) },
		DeleteFunc: func(any) { changeBy(-1) },
	})
	if err != nil {
		return err
	}

	started.Go(func() { informer.RunWithContext(ctx) })
	started.Go(func() { fail(probe(ctx, cluster)) })
	late := time.AfterFunc(syncTimeout, func() { fail(fmt.Errorf("the cache has not filled within %s", syncTimeout)) })
	defer late.Stop()
	if cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) && late.Stop() {
		fleet.MarkStarted(ctx)
		c.reportChanges(ctx, cluster.Key().String(), &number, changed)
	}
	return context.Cause(ctx)
}

// reportChanges reports number now and after each change, until ctx ends.
func (c *counter) reportChanges(ctx context.Context, dataPlane string, number *atomic.Int64, changed <-chan struct{}) {
	for last := int64(-1); ; {
		if n := number.Load(); n != last {
			c.report(Event{DataPlane: dataPlane, State: fleet.StateRunning, Deployments: n})
			last = n
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
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
	return errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// nameOnly keeps only the parts of an object that a cache needs.
func nameOnly(obj any) (any, error) {
	object, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: object.GetNamespace(), Name: object.GetName(), ResourceVersion: object.GetResourceVersion(),
	}}, nil
}
