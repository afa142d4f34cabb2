// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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
}

// newCounter returns a counter for data planes, which it shares with other replicas if sharding isn't
// nil. It sets the Leases of sharding.
func newCounter(clusters *demo.Clusters, sharding *fleet.Sharding, out func(Event)) (*counter, error) {
	replica := ""
	if sharding != nil {
		replica = sharding.Identity
		config := rest.CopyConfig(clusters.Management)
		config.QPS = -1 // renewals must not wait
		var err error
		if sharding.Leases, err = coordinationv1client.NewForConfig(config); err != nil {
			return nil, err
		}
	}
	report := func(event Event) {
		event.Time, event.Replica = time.Now(), replica
		out(event)
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(clusters.Client, 0,
		openchoreoinformers.WithNamespace(clusters.Watched), openchoreoinformers.WithTransform(informer.StripManagedFields))
	count := func(ctx context.Context, cluster *remote.Cluster) error {
		return countDeployments(ctx, cluster, func(n int) {
			report(Event{DataPlane: cluster.Key().String(), State: fleet.StateRunning, Deployments: n})
		})
	}
	return &counter{informers: factory, Fleet: fleet.New(count, fleet.Options{
		StartLimit: 50, // caches that fill at the same time
		Hooks:      hooks(report),
		Sharding:   sharding,
	}, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())}, nil
}

// run counts until ctx ends, and serves metrics if there is an address for them.
func (c *counter) run(ctx context.Context, metricsAddress string) error {
	if metricsAddress != "" {
		stop, err := serveMetrics(metricsAddress, c.Status)
		if err != nil {
			return err
		}
		defer stop()
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // for as long as the Fleet runs
	defer c.informers.Shutdown()
	defer stop()
	c.informers.StartWithContext(watching)
	return c.Run(ctx)
}

// hooks report what happens to each data plane and shard.
func hooks(report func(Event)) fleet.Hooks {
	dataPlane := func(key types.NamespacedName, state fleet.State, err error) {
		report(Event{DataPlane: key.String(), State: state, Reason: text(err)})
	}
	return fleet.Hooks{
		OnStart: func(key types.NamespacedName) { dataPlane(key, fleet.StateStarting, nil) },
		OnEnd: func(key types.NamespacedName, err error, _, retry time.Duration) {
			dataPlane(key, stateAfter(err, retry), err)
		},
		OnRotate:      func(key types.NamespacedName, err error) { dataPlane(key, rotated, err) },
		OnRemove:      func(key types.NamespacedName) { dataPlane(key, fleet.StateGone, nil) },
		OnShardGained: func(shard int) { report(Event{Shard: &shard, State: leading}) },
		OnShardLost:   func(shard int, err error) { report(Event{Shard: &shard, State: fleet.StateStopped, Reason: text(err)}) },
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
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

// collector reads the Status of a Fleet at each scrape. A data plane that is gone, or that another
// replica has taken over, is not in it, so each data plane has metrics at one replica.
type collector func() fleet.Status

var (
	dataPlaneLabels = []string{"namespace", "name"}
	runningDesc     = prometheus.NewDesc("fleet_running", "1 if the data plane has a run, or else 0.", dataPlaneLabels, nil)
	restartsDesc    = prometheus.NewDesc("fleet_restarts_total", "Runs of the data plane after the first.", dataPlaneLabels, nil)
	shardsDesc      = prometheus.NewDesc("fleet_shards_led", "Shards that this replica leads.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c collector) Describe(descs chan<- *prometheus.Desc) {
	descs <- runningDesc
	descs <- restartsDesc
	descs <- shardsDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	status := c()
	for _, p := range status.Planes {
		running := 0.0
		if p.State == fleet.StateRunning {
			running = 1
		}
		out <- prometheus.MustNewConstMetric(runningDesc, prometheus.GaugeValue, running, p.Namespace, p.Name)
		out <- prometheus.MustNewConstMetric(restartsDesc, prometheus.CounterValue, float64(p.Restarts), p.Namespace, p.Name)
	}
	if status.Sharding != nil {
		out <- prometheus.MustNewConstMetric(shardsDesc, prometheus.GaugeValue, float64(len(status.Sharding.Leads)))
	}
}

// serveMetrics serves the metrics of a Fleet until stop is called.
func serveMetrics(address string, status func() fleet.Status) (stop func(), _ error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "metrics: http://%s/metrics\n", listener.Addr())
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector(status))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return func() { _ = server.Close() }, nil
}
