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

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// counter is a Fleet that counts the Deployments of each data plane.
type counter struct {
	*fleet.Fleet
	informers openchoreoinformers.SharedInformerFactory
	metrics   *metrics
}

// newCounter returns a counter for the data planes of a namespace, which it shares with other
// replicas if sharding isn't nil. It sets the Leases of sharding.
func newCounter(ctx context.Context, config *rest.Config, namespace string, sharding *fleet.Sharding, out func(Event)) (*counter, error) {
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	// An informer would retry for ever and return no error.
	if _, err := client.OpenChoreoV1alpha1().DataPlanes(namespace).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return nil, fmt.Errorf("listing DataPlanes: %w", err)
	}
	replica := ""
	if sharding != nil {
		replica = sharding.Identity
		config := rest.CopyConfig(config)
		config.QPS = -1 // renewals must not wait
		if sharding.Leases, err = coordinationv1client.NewForConfig(config); err != nil {
			return nil, err
		}
	}
	report := func(event Event) {
		event.Time, event.Replica = time.Now(), replica
		out(event)
	}
	c := &counter{metrics: newMetrics()}
	c.informers = openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0,
		openchoreoinformers.WithNamespace(namespace), openchoreoinformers.WithTransform(informer.StripManagedFields))
	c.Fleet = fleet.New(c.informers.OpenChoreo().V1alpha1().DataPlanes().Informer(),
		func(ctx context.Context, cluster *remote.Cluster) error {
			return countDeployments(ctx, cluster, func(n int) {
				report(Event{DataPlane: cluster.Key().String(), State: fleet.StateRunning, Deployments: n})
			})
		},
		fleet.Options{
			StartLimit: 50, // caches that fill at the same time
			Hooks:      hooks(report, c.metrics),
			Sharding:   sharding,
		})
	c.metrics.addStatus(c.Status)
	return c, nil
}

// run counts until ctx ends, and serves metrics if there is an address for them.
func (c *counter) run(ctx context.Context, metricsAddress string) error {
	if metricsAddress != "" {
		stop, err := c.metrics.serve(metricsAddress)
		if err != nil {
			return err
		}
		defer stop()
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // for as long as the Fleet runs
	defer c.informers.Shutdown()
	defer stop()
	c.informers.Start(watching.Done())
	return c.Run(ctx)
}

// hooks report what happens to each data plane and shard.
func hooks(report func(Event), m *metrics) fleet.Hooks {
	dataPlane := func(key types.NamespacedName, state fleet.State, err error) {
		event := Event{DataPlane: key.String(), State: state}
		if err != nil {
			event.Reason = err.Error()
		}
		report(event)
	}
	return fleet.Hooks{
		OnStart: func(key types.NamespacedName) {
			m.onStart(key)
			dataPlane(key, fleet.StateStarting, nil)
		},
		OnEnd: func(key types.NamespacedName, err error, ran, retry time.Duration) {
			m.onEnd(key, err, ran, retry)
			dataPlane(key, stateAfter(err, retry), err)
		},
		OnRotate: func(key types.NamespacedName, err error) {
			m.onRotate(key, err)
			dataPlane(key, rotated, err)
		},
		OnRemove: func(key types.NamespacedName) {
			m.onRemove(key)
			dataPlane(key, fleet.StateGone, nil)
		},
		OnShardGained: func(shard int) { report(Event{Shard: &shard, State: leading}) },
		OnShardLost: func(shard int, err error) {
			report(Event{Shard: &shard, State: fleet.StateStopped, Reason: err.Error()})
		},
	}
}

// stateAfter returns the state of a data plane after a run has ended.
func stateAfter(err error, retry time.Duration) fleet.State {
	switch {
	case retry > 0:
		return fleet.StateRetrying
	case errors.Is(err, fleet.ErrStopped):
		return fleet.StateStopped
	case errors.Is(err, helpers.ErrDeleted), errors.Is(err, fleet.ErrShardLost):
		return fleet.StateGone
	}
	return fleet.StateStarting // another run follows
}
