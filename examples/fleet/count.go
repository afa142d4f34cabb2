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

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

const (
	// syncTimeout is how long a cache may take to fill.
	syncTimeout = 2 * time.Minute
	// After so many probes in a row have failed, a run ends.
	probePeriod   = 2 * time.Second
	probeFailures = 2
)

// counter counts Deployments, and reports each number when it knows it.
type counter struct{ report func(Event) }

// run counts those of one data plane until ctx ends, or until that does not work. It is
// what a Fleet runs.
//
// The informer asks for metadata: API servers leave out spec and status then, which are
// nearly all of what a Deployment takes to send and to keep.
func (c *counter) run(ctx context.Context, r *helpers.Remote) error {
	if err := r.Probe(ctx); err != nil {
		return err
	}
	client, err := metadata.NewForConfigAndClient(r.Config(), r.HTTPClient())
	if err != nil {
		return err
	}
	informer := metadatainformer.NewFilteredMetadataInformer(client,
		appsv1.SchemeGroupVersion.WithResource("deployments"), metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()

	// Whatever goes wrong ends ctx; then everything that is started here ends.
	var started sync.WaitGroup
	defer started.Wait()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	if err := informer.SetTransform(nameOnly); err != nil {
		return err
	}
	// An informer tries again for ever by itself. So that the Fleet knows, shows why and
	// waits longer each time, the run ends instead. It costs little: an informer calls this
	// when it is about to list anew.
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
		default: // that is known already
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
	started.Go(func() { fail(probe(ctx, r)) })
	late := time.AfterFunc(syncTimeout, func() { fail(fmt.Errorf("the cache has not filled within %s", syncTimeout)) })
	defer late.Stop()
	if cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) && late.Stop() {
		helpers.MarkStarted(ctx)
		c.reportChanges(ctx, r.Key().String(), &number, changed)
	}
	return context.Cause(ctx)
}

// reportChanges reports a number now and whenever it has changed, until ctx ends.
func (c *counter) reportChanges(ctx context.Context, dataPlane string, number *atomic.Int64, changed <-chan struct{}) {
	for last := int64(-1); ; {
		if n := number.Load(); n != last {
			c.report(Event{DataPlane: dataPlane, State: helpers.FleetRunning, Deployments: n})
			last = n
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// probe returns an error when the API server is away for a while. Of that an informer
// tells nobody: it takes a refused connection for a restart, and tries again.
func probe(ctx context.Context, r *helpers.Remote) error {
	ticker := time.NewTicker(probePeriod)
	defer ticker.Stop()
	for failures := 0; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		err := r.Probe(ctx)
		if err == nil {
			failures = 0
		} else if failures++; failures == probeFailures {
			return err
		}
	}
}

// isUsual reports whether an informer lists anew for a reason that is no trouble.
func isUsual(err error) bool {
	return errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// nameOnly keeps what a cache needs of an object.
func nameOnly(obj any) (any, error) {
	object, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: object.GetNamespace(), Name: object.GetName(), ResourceVersion: object.GetResourceVersion(),
	}}, nil
}
