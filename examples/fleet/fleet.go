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

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

const (
	// At most maxStarts caches fill at once. None counts as filling for longer than startTimeout.
	maxStarts    = 50
	startTimeout = 10 * time.Second
)

// sharding divides the data planes among replicas. With 0 shards, there is one replica.
type sharding struct {
	shards         int
	replica        string
	leaseNamespace string
	leaseDuration  time.Duration
}

// count counts in all data planes of a namespace, or in those of the shards that this replica
// leads, until ctx ends. It calls started with each Fleet that it runs.
func count(ctx context.Context, config *rest.Config, namespace string, s sharding, report func(Event), started func(*fleet.Fleet)) error {
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}
	// An informer would retry for ever and return no error.
	if _, err := client.OpenChoreoV1alpha1().DataPlanes(namespace).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return fmt.Errorf("listing DataPlanes: %w", err)
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0,
		openchoreoinformers.WithNamespace(namespace), openchoreoinformers.WithTransform(informer.StripManagedFields))
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // for as long as the Fleet runs
	factory.Start(watching.Done())
	defer func() {
		stop()
		factory.Shutdown()
	}()
	if s.shards == 0 {
		return runFleet(ctx, dataPlanes, report, started, fleetOptions(report))
	}
	return runShards(ctx, config, s, dataPlanes, report, started)
}

// runShards runs a Fleet for each shard that this replica leads.
func runShards(ctx context.Context, config *rest.Config, s sharding, dataPlanes cache.SharedIndexInformer,
	report func(Event), started func(*fleet.Fleet),
) error {
	config = rest.CopyConfig(config)
	config.QPS = -1 // renewals must not wait
	leases, err := coordinationv1client.NewForConfig(config)
	if err != nil {
		return err
	}
	if _, err := leases.Leases(s.leaseNamespace).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return fmt.Errorf("listing leases: %w", err)
	}
	return fleet.RunShards(ctx, fleet.ShardsConfig{
		Leases:        leases,
		Namespace:     s.leaseNamespace,
		Name:          leaseName(s.shards),
		Identity:      s.replica,
		Count:         s.shards,
		LeaseDuration: s.leaseDuration,
	}, func(ctx context.Context, shard fleet.Shard) error {
		report(Event{Shard: shard.String(), State: leads})
		defer report(Event{Shard: shard.String(), State: fleet.StateStopped})
		return runFleet(ctx, dataPlanes, report, started, shard.Restrict(fleetOptions(report)))
	})
}

// leaseName depends on the number of shards, which must not change under one name.
func leaseName(shards int) string { return fmt.Sprintf("fleet-of-%d", shards) }

// runFleet runs a Fleet until ctx ends, and reports the state that each data plane has then.
func runFleet(ctx context.Context, dataPlanes cache.SharedIndexInformer,
	report func(Event), started func(*fleet.Fleet), opts fleet.Options,
) error {
	c := &counter{report: report}
	f := fleet.New(dataPlanes, c.run, opts)
	started(f)
	err := f.Run(ctx)
	for _, plane := range f.Status().Planes {
		report(Event{DataPlane: plane.Namespace + "/" + plane.Name, State: plane.State})
	}
	return err
}

// fleetOptions returns the options of a Fleet that reports what happens to each data plane.
func fleetOptions(report func(Event)) fleet.Options {
	return fleet.Options{
		Remote:       remote.Options{ConfigFor: configFor},
		StartLimit:   maxStarts,
		StartTimeout: startTimeout,
		Hooks: fleet.Hooks{
			OnStart: func(key types.NamespacedName) {
				report(Event{DataPlane: key.String(), State: fleet.StateStarting})
			},
			OnEnd: func(key types.NamespacedName, err error, _, retry time.Duration) {
				if event, ok := endOf(key, err, retry); ok {
					report(event)
				}
			},
			OnRemove: func(key types.NamespacedName) {
				report(Event{DataPlane: key.String(), State: fleet.StateGone})
			},
		},
	}
}

// configFor returns the configuration of the connection to a data plane.
func configFor(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	config, err := helpers.RESTConfigFor(dp)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "fleet"
	return config, nil
}

// endOf returns the event for the end of a run. It returns false if another event follows
// anyway.
func endOf(key types.NamespacedName, err error, retry time.Duration) (event Event, ok bool) {
	event = Event{DataPlane: key.String(), State: fleet.StateStarting}
	switch {
	case errors.Is(err, helpers.ErrDeleted), errors.Is(err, fleet.ErrStopped):
		return event, false
	case errors.Is(err, helpers.ErrInvalidCredentials):
		event.State = fleet.StateFailed
	case retry > 0:
		event.State = fleet.StateRetrying
	}
	event.Reason = err.Error()
	return event, true
}
