// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

const (
	// At most so many caches fill at once, and none counts as filling for longer.
	maxStarts    = 50
	startTimeout = 10 * time.Second
)

// sharding is this replica's part in the work; with no shards it has none to share.
type sharding struct {
	shards         int
	replica        string
	leaseNamespace string
	leaseDuration  time.Duration
}

// count counts in all data planes of a namespace, or in those of the shards that this
// replica leads, until ctx ends.
func count(ctx context.Context, config *rest.Config, namespace string, s sharding, report func(Event)) error {
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}
	// An informer would try for ever, and say nothing.
	if _, err := client.OpenChoreoV1alpha1().DataPlanes(namespace).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return fmt.Errorf("listing DataPlanes: %w", err)
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0,
		openchoreoinformers.WithNamespace(namespace), openchoreoinformers.WithTransform(helpers.StripManagedFields))
	informer := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // for as long as the Fleet runs
	factory.Start(watching.Done())
	defer func() {
		stop()
		factory.Shutdown()
	}()
	if s.shards == 0 {
		return runFleet(ctx, informer, report)
	}
	return runShards(ctx, config, s, informer, report)
}

// runShards runs a Fleet for each shard that this replica leads.
func runShards(ctx context.Context, config *rest.Config, s sharding, informer cache.SharedIndexInformer, report func(Event)) error {
	config = rest.CopyConfig(config)
	config.QPS = -1 // a renewal must not wait
	leases, err := coordinationv1client.NewForConfig(config)
	if err != nil {
		return err
	}
	if _, err := leases.Leases(s.leaseNamespace).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return fmt.Errorf("listing leases: %w", err)
	}
	return helpers.RunShards(ctx, helpers.ShardsConfig{
		Leases:        leases,
		Namespace:     s.leaseNamespace,
		Name:          leaseName(s.shards),
		Identity:      s.replica,
		Count:         s.shards,
		LeaseDuration: s.leaseDuration,
	}, func(ctx context.Context, shard helpers.Shard) error {
		report(Event{Shard: shard.String(), State: leads})
		defer report(Event{Shard: shard.String(), State: helpers.FleetStopped})
		return runFleet(ctx, informer, report, shard.FleetOptions()...)
	})
}

// leaseName is another for each number of shards, since it can't be changed under one name.
func leaseName(shards int) string { return fmt.Sprintf("fleet-of-%d", shards) }

// runFleet runs a Fleet until ctx ends, and reports what becomes of each data plane.
func runFleet(ctx context.Context, informer cache.SharedIndexInformer, report func(Event), opts ...helpers.FleetOption) error {
	c := &counter{report: report}
	fleet := helpers.NewFleet(informer, c.run, append([]helpers.FleetOption{
		helpers.WithRemoteOptions(helpers.WithUserAgent("fleet")),
		helpers.WithStartLimit(maxStarts, startTimeout),
		helpers.WithFleetHooks(helpers.FleetHooks{
			OnStart: func(key types.NamespacedName) {
				report(Event{DataPlane: key.String(), State: helpers.FleetStarting})
			},
			OnEnd: func(key types.NamespacedName, err error, _, retry time.Duration) {
				if event, ok := endOf(key, err, retry); ok {
					report(event)
				}
			},
			OnRemove: func(key types.NamespacedName) {
				report(Event{DataPlane: key.String(), State: helpers.FleetGone})
			},
		}),
	}, opts...)...)
	err := fleet.Run(ctx)
	for _, plane := range fleet.Status().Planes {
		report(Event{DataPlane: plane.Namespace + "/" + plane.Name, State: plane.State})
	}
	return err
}

// endOf returns what is to be said of the end of a run, unless something else will say it.
func endOf(key types.NamespacedName, err error, retry time.Duration) (event Event, ok bool) {
	event = Event{DataPlane: key.String(), State: helpers.FleetStarting}
	switch {
	case errors.Is(err, helpers.ErrDeleted), errors.Is(err, helpers.ErrFleetStopped):
		return event, false
	case errors.Is(err, helpers.ErrInvalidCredentials):
		event.State = helpers.FleetFailed
	case retry > 0:
		event.State = helpers.FleetRetrying
	}
	event.Reason = err.Error()
	return event, true
}
