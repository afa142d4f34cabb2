// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

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
func serveMetrics(listener net.Listener, status func() fleet.Status) (stop func()) {
	fmt.Fprintf(os.Stderr, "metrics: http://%s/metrics\n", listener.Addr())
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector(status))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return func() { _ = server.Close() }
}
