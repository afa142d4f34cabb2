// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/clientgo/leaderelection" // leader_election_master_status
	_ "k8s.io/component-base/metrics/prometheus/workqueue"               // workqueue_depth and others

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// metrics are the metrics of the controller. Labels are reasons of conditions and names of
// objects, never texts of other programs.
type metrics struct {
	registry *prometheus.Registry
	probes   *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics() *metrics {
	registry := prometheus.NewRegistry()
	factory := promauto.With(registry)
	return &metrics{
		registry: registry,
		probes: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "dataplane_probes_total",
			Help: "Probes by result, a value of remote.Reachability, or NoCredentials.",
		}, []string{"result"}),
		// A probe rarely takes longer than 10 s, which suits the default buckets.
		duration: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dataplane_probe_duration_seconds",
			Help: "How long probes took, by result.",
		}, []string{"result"}),
	}
}

// all adds the metrics of the process, of Go, of the queue and of the leader election.
func (m *metrics) all() prometheus.Gatherer {
	return prometheus.Gatherers{m.registry, legacyregistry.DefaultGatherer}
}

// collector reads the informers' caches at each scrape, so that deleted data planes have no
// metrics. Only the leader reports data planes; otherwise sums over replicas would be wrong.
type collector struct{ *controller }

// The namespace of a ClusterDataPlane is empty.
var (
	connectedDesc = prometheus.NewDesc("dataplane_connected",
		"1 if the last probe succeeded, 0 if it failed; absent while it is unknown.", []string{"namespace", "name"}, nil)
	expiryDesc = prometheus.NewDesc("dataplane_spec_certificate_expiry_timestamp_seconds",
		"When the certificate in the spec expires, of the client or, from OpenChoreo v1 on, the last in clientCA, in Unix time.", []string{"namespace", "name"}, nil)
)

// Describe implements prometheus.Collector.
func (c collector) Describe(descs chan<- *prometheus.Desc) {
	descs <- connectedDesc
	descs <- expiryDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	if !c.leading.Load() {
		return
	}
	for _, dp := range c.planes.list() {
		gauge := func(desc *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, dp.Namespace, dp.Name)
		}
		last, _ := c.results.Load(cache.MetaObjectToName(dp))
		if last, known := last.(result); known && last.uid == dp.UID {
			switch last.connected.Status {
			case metav1.ConditionTrue:
				gauge(connectedDesc, 1)
			case metav1.ConditionFalse:
				gauge(connectedDesc, 0)
			}
		}
		if expiry, err := helpers.CertificateExpiry(dp); err == nil {
			gauge(expiryDesc, float64(expiry.Unix()))
		}
	}
}

// newServer serves the metrics and the probes of the kubelet. /healthz fails if this replica
// leads and can't renew its Lease; /readyz fails until the informers' caches are filled. Both
// pass in replicas that don't lead.
func newServer(metrics prometheus.Gatherer, alive func(*http.Request) error, ready func() bool) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := alive(r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "the caches of data planes are not filled yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
}

// closeServer returns the error of a server that ended before it was closed.
func closeServer(server *http.Server, served <-chan error) error {
	_ = server.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
