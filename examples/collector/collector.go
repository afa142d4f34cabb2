// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package collector exports the Status of a Fleet or Cache as Prometheus metrics. Copy this folder:
//
//	registry.MustRegister(collector.ForFleet(f.Status))
//
// Give each of several collectors its own label. Otherwise, a data plane in two of them has the same
// series twice, and the scrape fails:
//
//	fleets := prometheus.WrapRegistererWith(prometheus.Labels{"connections": "fleet"}, registry)
//	fleets.MustRegister(collector.ForFleet(f.Status))
//	caches := prometheus.WrapRegistererWith(prometheus.Labels{"connections": "cache"}, registry)
//	caches.MustRegister(collector.ForCache(clients.Status))
//
// A collector reads the Status at each scrape. When a data plane is gone, or another replica has taken
// it over, its series end. Labels are names of objects and values of the SDK's enumerations, never
// error texts.
package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// labels name a data plane. The namespace of a ClusterDataPlane is empty.
var labels = []string{"namespace", "name"}

// The metrics of a connection of a Cache or Fleet.
var (
	reachability = prometheus.NewDesc("dataplane_reachability",
		"1 for the result of the last request to the data plane, a value of remote.Reachability.", append(labels[:2:2], "reachability"), nil)
	lastSuccess = prometheus.NewDesc("dataplane_last_success_timestamp_seconds",
		"When the data plane last answered.", labels, nil)
	lastRotation = prometheus.NewDesc("dataplane_last_rotation_timestamp_seconds",
		"When the credentials of the connection were last replaced.", labels, nil)
	certificateExpiry = prometheus.NewDesc("dataplane_certificate_expiry_timestamp_seconds",
		"When the client certificate of the connection expires.", labels, nil)
)

// The metrics of a Fleet.
var (
	state = prometheus.NewDesc("dataplane_state",
		"1 for the state of the data plane's runs, a value of fleet.State. Without a run, the metrics of the connection are absent.",
		append(labels[:2:2], "state"), nil)
	restarts = prometheus.NewDesc("dataplane_restarts_total",
		"Runs of the data plane after the first.", labels, nil)
	overdueRuns = prometheus.NewDesc("dataplane_overdue_runs",
		"Abandoned runs of the data plane that haven't returned yet.", labels, nil)
	informerSynced = prometheus.NewDesc("fleet_informer_synced",
		"1 if all informers of the kind have synced, otherwise 0. The kind is empty until an informer has an object or an error.",
		[]string{"kind"}, nil)
	informerLastError = prometheus.NewDesc("fleet_informer_last_error_timestamp_seconds",
		"When a list or watch of the kind last failed.", []string{"kind"}, nil)
	shardsLed = prometheus.NewDesc("fleet_shards_led",
		"Shards that this replica leads.", nil, nil)
	shardsWaiting = prometheus.NewDesc("fleet_shards_waiting",
		"Shards in this replica's share that it doesn't lead yet.", nil, nil)
	shardingFailing = prometheus.NewDesc("fleet_sharding_failing",
		"1 if an error keeps this replica from its share of the shards, as at the start, otherwise 0. Status().Sharding.LastError has the error.", nil, nil)
)

type collector func(e emit)

// Describe implements prometheus.Collector. It sends nothing: the series depend on the data planes.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) { c(emit{out}) }

// ForCache returns a collector for the Status of a remote.Cache.
func ForCache(status func() remote.Status) prometheus.Collector {
	return collector(func(e emit) {
		for _, plane := range status().Planes {
			e.connection(plane.ConnectionStatus, plane.Namespace, plane.Name)
		}
	})
}

// ForFleet returns a collector for the Status of a Fleet.
func ForFleet(status func() fleet.Status) prometheus.Collector {
	return collector(func(e emit) {
		s := status()
		for _, plane := range s.Planes {
			e.gauge(state, 1, plane.Namespace, plane.Name, string(plane.State))
			e.out <- prometheus.MustNewConstMetric(restarts, prometheus.CounterValue, float64(plane.Restarts), plane.Namespace, plane.Name)
			e.gauge(overdueRuns, float64(plane.Overdue), plane.Namespace, plane.Name)
			if plane.Connection != nil {
				e.connection(*plane.Connection, plane.Namespace, plane.Name)
			}
		}
		kinds := map[string]fleet.InformerStatus{} // there may be several informers of a kind
		for _, informer := range s.Informers {
			if other, known := kinds[informer.Kind]; known {
				informer.Synced = informer.Synced && other.Synced
				if other.ErrorTime.After(informer.ErrorTime) {
					informer.ErrorTime = other.ErrorTime
				}
			}
			kinds[informer.Kind] = informer
		}
		for kind, informer := range kinds {
			e.gauge(informerSynced, one(informer.Synced), kind)
			e.time(informerLastError, informer.ErrorTime, kind)
		}
		if s.Sharding != nil {
			e.gauge(shardsLed, float64(len(s.Sharding.Leads)))
			e.gauge(shardsWaiting, float64(len(s.Sharding.Waiting)))
			e.gauge(shardingFailing, one(s.Sharding.LastError != ""))
		}
	})
}

type emit struct{ out chan<- prometheus.Metric }

func (e emit) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (e emit) connection(s remote.ConnectionStatus, namespace, name string) {
	if s.Reachability != "" {
		e.gauge(reachability, 1, namespace, name, string(s.Reachability))
	}
	e.time(lastSuccess, s.LastSuccess, namespace, name)
	e.time(lastRotation, s.LastRotation, namespace, name)
	e.time(certificateExpiry, s.CertificateExpiry, namespace, name)
}

// time sends nothing for the zero time.
func (e emit) time(desc *prometheus.Desc, at time.Time, labels ...string) {
	if !at.IsZero() {
		e.gauge(desc, float64(at.UnixNano())/1e9, labels...)
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
