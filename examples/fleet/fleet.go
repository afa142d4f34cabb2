// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"time"

	"k8s.io/apimachinery/pkg/types"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
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
	metrics   net.Listener // nil for none
}

// newCounter returns a counter that calls report for each event, from many goroutines. With --shards, it shares the data planes
// with other replicas.
func (o *options) newCounter(clusters *demo.Clusters, report func(Event)) (*counter, error) {
	var sharding *fleet.Sharding
	if o.sharding.Shards != 0 {
		config := rest.CopyConfig(clusters.Management)
		config.QPS = -1 // renewals must not wait
		leases, err := coordinationv1client.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		sharding = &o.sharding
		sharding.Leases = leases
	}
	tell := func(event Event) {
		event.Time, event.Replica = time.Now(), o.sharding.Identity
		report(event)
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(clusters.Client, 0,
		openchoreoinformers.WithNamespace(clusters.Watched), openchoreoinformers.WithTransform(informer.StripManagedFields))
	openchoreo := factory.OpenChoreo().V1alpha1()
	count := func(ctx context.Context, cluster *remote.Cluster) error {
		return countDeployments(ctx, cluster, func(n int) {
			tell(Event{Subject: name(cluster.Key()), State: running, Deployments: n})
		})
	}
	return &counter{informers: factory, metrics: o.listener, Fleet: fleet.New(count, fleet.Options{
		Remote:     remote.Options{ConfigFor: helpers.ConfigFor(o.gateway.Config())},
		StartLimit: 50, // caches that fill at the same time
		Hooks:      hooks(tell),
		Sharding:   sharding,
	}, openchoreo.DataPlanes().Informer(), openchoreo.ClusterDataPlanes().Informer())}, nil
}

// run counts until ctx ends.
func (c *counter) run(ctx context.Context) error {
	if c.metrics != nil {
		defer serveMetrics(c.metrics, c.Status)()
	}
	watching, stop := context.WithCancel(ctx)
	defer c.informers.Shutdown()
	defer stop()
	c.informers.StartWithContext(watching)
	return c.Run(ctx)
}

// hooks report all events but the counts.
func hooks(tell func(Event)) fleet.Hooks {
	return fleet.Hooks{
		OnEnd: func(key types.NamespacedName, err error, _, retry time.Duration) {
			event := Event{Subject: name(key), State: ended, Reason: text(err)}
			switch {
			case retry > 0:
				event.State = retrying
			case errors.Is(err, helpers.ErrDeleted):
				event.State = deleted
			}
			tell(event)
		},
		OnRemove: func(key types.NamespacedName) { tell(Event{Subject: name(key), State: gone}) },
		OnRotate: func(key types.NamespacedName, err error) {
			tell(Event{Subject: name(key), State: rotated, Reason: text(err)})
		},
		OnShardGained: func(shard int) { tell(Event{Subject: shardName(shard), State: leading}) },
		OnShardLost:   func(shard int, err error) { tell(Event{Subject: shardName(shard), State: ended, Reason: text(err)}) },
	}
}

func name(key types.NamespacedName) string {
	if key.Namespace == "" {
		return "clusterdataplane/" + key.Name
	}
	return key.String()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
