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

	"github.com/openchoreo/dataplane-sdk-go/examples/collector"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// serveMetrics serves the metrics of a Fleet until stop is called.
func serveMetrics(listener net.Listener, status func() fleet.Status) (stop func()) {
	fmt.Fprintf(os.Stderr, "metrics: http://%s/metrics\n", listener.Addr())
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector.ForFleet(status))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return func() { _ = server.Close() }
}
