// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// metrics are those of a Fleet. When a data plane is gone, or another replica takes it over,
// its series are deleted, so that each data plane has them at one replica.
type metrics struct {
	registry                  *prometheus.Registry
	running                   *prometheus.GaugeVec
	retries, rotations, ended *prometheus.CounterVec
	removed                   prometheus.Counter
}

func newMetrics() *metrics {
	registry, dataPlane := prometheus.NewRegistry(), []string{"namespace", "name"}
	with := promauto.With(registry)
	return &metrics{
		registry:  registry,
		running:   with.NewGaugeVec(prometheus.GaugeOpts{Name: "fleet_running", Help: "1 if the data plane has a run, or else 0."}, dataPlane),
		retries:   with.NewCounterVec(prometheus.CounterOpts{Name: "fleet_retries_total", Help: "Failures after which the Fleet tries again."}, dataPlane),
		rotations: with.NewCounterVec(prometheus.CounterOpts{Name: "fleet_rotations_total", Help: "New credentials that a run goes on with."}, dataPlane),
		ended:     with.NewCounterVec(prometheus.CounterOpts{Name: "fleet_runs_ended_total", Help: "Runs that have ended, by outcome."}, []string{"outcome"}),
		removed:   with.NewCounter(prometheus.CounterOpts{Name: "fleet_removed_total", Help: "Data planes that are gone or handed over."}),
	}
}

// addStatus adds what the Status of a Fleet says at each scrape.
func (m *metrics) addStatus(status func() fleet.Status) {
	promauto.With(m.registry).NewGaugeFunc(prometheus.GaugeOpts{Name: "fleet_shards_led", Help: "Shards that this replica leads."}, func() float64 {
		if sharding := status().Sharding; sharding != nil {
			return float64(len(sharding.Leads))
		}
		return 0
	})
}

func (m *metrics) onStart(key types.NamespacedName) {
	m.running.WithLabelValues(key.Namespace, key.Name).Set(1)
}

func (m *metrics) onEnd(key types.NamespacedName, err error, ran, retry time.Duration) {
	m.running.WithLabelValues(key.Namespace, key.Name).Set(0)
	if ran > 0 {
		m.ended.WithLabelValues(outcome(err)).Inc()
	}
	if retry > 0 {
		m.retries.WithLabelValues(key.Namespace, key.Name).Inc()
	}
}

func (m *metrics) onRotate(key types.NamespacedName, err error) {
	if err == nil {
		m.rotations.WithLabelValues(key.Namespace, key.Name).Inc()
	}
}

func (m *metrics) onRemove(key types.NamespacedName) {
	m.removed.Inc()
	m.running.DeleteLabelValues(key.Namespace, key.Name)
	m.retries.DeleteLabelValues(key.Namespace, key.Name)
	m.rotations.DeleteLabelValues(key.Namespace, key.Name)
}

// outcomes are why a run may end; all others have failed.
var outcomes = map[error]string{
	helpers.ErrDeleted: "deleted", helpers.ErrReplaced: "replaced", remote.ErrServerChanged: "server changed",
	fleet.ErrShardLost: "handed over", fleet.ErrStopped: "stopped",
}

func outcome(err error) string {
	for cause, outcome := range outcomes {
		if errors.Is(err, cause) {
			return outcome
		}
	}
	return "failed"
}

// serve serves the metrics until stop is called.
func (m *metrics) serve(address string) (stop func(), _ error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "metrics: http://%s/metrics\n", listener.Addr())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return func() { _ = server.Close() }, nil
}
