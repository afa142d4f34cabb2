// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// metrics are the metrics of the controller. Labels are reasons of conditions and names of
// objects, never text of other programs.
type metrics struct {
	registry *prometheus.Registry
	probes   *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics() *metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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

// dataPlaneCollector reads the informer's cache at each scrape, so that deleted data planes
// have no metrics. Only the leader reports data planes; otherwise sums over replicas would be
// wrong.
type dataPlaneCollector struct {
	dataPlanes openchoreolisters.DataPlaneLister
	leading    func() bool
}

var (
	leaderDesc = prometheus.NewDesc("leader_election_master_status",
		"1 if this replica leads, 0 if it does not.", nil, prometheus.Labels{"name": name})
	connectedDesc = prometheus.NewDesc("dataplane_connected",
		"1 if the condition Connected is True, 0 if it is False; absent while it is unknown.", []string{"namespace", "name"}, nil)
	expiryDesc = prometheus.NewDesc("dataplane_client_certificate_expiry_seconds",
		"When the client certificate of the data plane expires, in Unix time.", []string{"namespace", "name"}, nil)
)

// Describe implements prometheus.Collector.
func (c *dataPlaneCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- leaderDesc
	descs <- connectedDesc
	descs <- expiryDesc
}

// Collect implements prometheus.Collector.
func (c *dataPlaneCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	if !c.leading() {
		gauge(leaderDesc, 0)
		return
	}
	gauge(leaderDesc, 1)
	dataPlanes, _ := c.dataPlanes.List(labels.Everything()) // a lister returns no error
	for _, dp := range dataPlanes {
		switch helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionConnected).Status {
		case metav1.ConditionTrue:
			gauge(connectedDesc, 1, dp.Namespace, dp.Name)
		case metav1.ConditionFalse:
			gauge(connectedDesc, 0, dp.Namespace, dp.Name)
		}
		if expiry, err := helpers.CertificateExpiry(dp); err == nil {
			gauge(expiryDesc, float64(expiry.Unix()), dp.Namespace, dp.Name)
		}
	}
}

// queue returns the metrics of a workqueue, named as in Kubernetes.
func (m *metrics) queue() workqueue.MetricsProvider { return queueMetrics{promauto.With(m.registry)} }

type queueMetrics struct{ factory promauto.Factory }

func (q queueMetrics) NewDepthMetric(queue string) workqueue.GaugeMetric {
	return q.gauge(queue, "depth", "Items that wait.")
}

func (q queueMetrics) NewAddsMetric(queue string) workqueue.CounterMetric {
	return q.counter(queue, "adds_total", "Items that were added.")
}

func (q queueMetrics) NewRetriesMetric(queue string) workqueue.CounterMetric {
	return q.counter(queue, "retries_total", "Items that were added again after a failure.")
}

func (q queueMetrics) NewLatencyMetric(queue string) workqueue.HistogramMetric {
	return q.histogram(queue, "queue_duration_seconds", "How long items waited.")
}

func (q queueMetrics) NewWorkDurationMetric(queue string) workqueue.HistogramMetric {
	return q.histogram(queue, "work_duration_seconds", "How long the work on an item took.")
}

func (q queueMetrics) NewUnfinishedWorkSecondsMetric(queue string) workqueue.SettableGaugeMetric {
	return q.gauge(queue, "unfinished_work_seconds", "How long all unfinished work has taken so far, in total.")
}

func (q queueMetrics) NewLongestRunningProcessorSecondsMetric(queue string) workqueue.SettableGaugeMetric {
	return q.gauge(queue, "longest_running_processor_seconds", "How long the longest unfinished work has taken so far.")
}

func (q queueMetrics) gauge(queue, metric, help string) prometheus.Gauge {
	return q.factory.NewGauge(prometheus.GaugeOpts(queueOpts(queue, metric, help)))
}

func (q queueMetrics) counter(queue, metric, help string) prometheus.Counter {
	return q.factory.NewCounter(prometheus.CounterOpts(queueOpts(queue, metric, help)))
}

func (q queueMetrics) histogram(queue, metric, help string) prometheus.Histogram {
	opts := queueOpts(queue, metric, help)
	return q.factory.NewHistogram(prometheus.HistogramOpts{
		Subsystem: opts.Subsystem, Name: opts.Name, Help: opts.Help, ConstLabels: opts.ConstLabels,
	})
}

func queueOpts(queue, metric, help string) prometheus.Opts {
	return prometheus.Opts{Subsystem: "workqueue", Name: metric, Help: help, ConstLabels: prometheus.Labels{"name": queue}}
}
