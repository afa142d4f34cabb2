// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	// jitter spreads the probes of clusters that were created together.
	jitter = 0.2
	// writeTimeout limits the writing of a condition, with all retries.
	writeTimeout = 10 * time.Second
	// maxNote is the longest note of an Event that the API server accepts, in bytes.
	maxNote = 1024
)

// controller probes data planes and reports the results.
type controller struct {
	planes   *planes
	client   openchoreotyped.DataPlanesGetter
	clusters *remote.Cache[*remote.Cluster]
	recorder events.EventRecorder
	metrics  *metrics
	queue    workqueue.TypedRateLimitingInterface[cache.ObjectName]
	interval time.Duration
	leading  atomic.Bool
	results  sync.Map // from cache.ObjectName to result
}

// result is the condition of the last probe of an object. Another object may have its name now.
type result struct {
	uid       types.UID
	connected metav1.Condition
}

func newController(planes *planes, client openchoreotyped.DataPlanesGetter,
	clusters *remote.Cache[*remote.Cluster], recorder events.EventRecorder, metrics *metrics, o options,
) (*controller, error) {
	c := &controller{
		planes: planes, client: client, clusters: clusters, recorder: recorder, metrics: metrics, interval: o.interval,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](o.minBackoff, o.maxBackoff),
			workqueue.TypedRateLimitingQueueConfig[cache.ObjectName]{Name: "dataplanes"}),
	}
	return c, errors.Join(planes.addHandlers(clusters.Handler), planes.addHandlers(c.handler))
}

func (c *controller) handler() cache.ResourceEventHandler {
	return informer.Handler(informer.Funcs{
		OnAdd: func(dp *openchoreov1alpha1.DataPlane, _ bool) { c.enqueue(dp) },
		OnUpdate: func(before, after *openchoreov1alpha1.DataPlane) {
			// A change of the status, such as this controller's own, needs no probe.
			if before.UID != after.UID || before.Generation != after.Generation {
				c.enqueue(after)
			}
		},
	})
}

// enqueue adds a data plane to be probed by the next free worker. A replica that doesn't lead has
// an empty queue; run fills it.
func (c *controller) enqueue(dp *openchoreov1alpha1.DataPlane) {
	if !c.leading.Load() {
		return
	}
	key := cache.MetaObjectToName(dp)
	c.queue.Forget(key) // the failures before this change
	c.queue.Add(key)
}

// run works until ctx ends, and returns when all workers have ended. Call it once.
func (c *controller) run(ctx context.Context, workers int) {
	c.leading.Store(true)
	defer c.leading.Store(false)
	slog.Info("leading", "workers", workers)
	for _, dp := range c.planes.list() {
		c.enqueue(dp)
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() { c.work(ctx) })
	}
	<-ctx.Done()
	c.queue.ShutDown()
	wg.Wait()
}

func (c *controller) work(ctx context.Context) {
	for ctx.Err() == nil {
		key, shutDown := c.queue.Get()
		if shutDown {
			return
		}
		c.process(ctx, key)
		c.queue.Done(key)
	}
}

// process probes one data plane, reports the result and schedules the next probe.
func (c *controller) process(ctx context.Context, key cache.ObjectName) {
	dp, err := c.planes.get(types.NamespacedName(key))
	if err != nil { // a lister returns no other error than NotFound
		c.queue.Forget(key)
		c.results.Delete(key)
		return
	}
	connected, err := c.probe(ctx, dp)
	if err == nil {
		err = c.report(ctx, dp, connected)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		slog.Error("probe or report failed", "dataPlane", key, "err", err)
		c.queue.AddRateLimited(key)
	case connected.Status != metav1.ConditionTrue:
		c.queue.AddRateLimited(key)
	default:
		c.queue.Forget(key)
		c.queue.AddAfter(key, wait.Jitter(c.interval, jitter))
	}
}

// report records an Event if the status or reason of the condition has changed, and writes the
// condition if the status, reason or generation has changed. It ignores messages, which name ports
// and times and therefore differ from probe to probe.
//
// A data plane of OpenChoreo v1, which has a clusterAgent, gets no condition. It would hide
// status.agentConnection, which OpenChoreo writes every minute, even when this controller is gone,
// and from which readers derive Connected.
func (c *controller) report(ctx context.Context, dp *openchoreov1alpha1.DataPlane, connected metav1.Condition) error {
	isV1 := dp.Spec.ClusterAgent != nil
	before := meta.FindStatusCondition(dp.Status.Conditions, connected.Type)
	last, _ := c.results.Swap(cache.MetaObjectToName(dp), result{dp.UID, connected})
	if isV1 {
		before = nil
		if last, known := last.(result); known && last.uid == dp.UID {
			before = &last.connected
		}
	}
	changed := before == nil || before.Status != connected.Status || before.Reason != connected.Reason
	if !isV1 && (changed || before.ObservedGeneration != dp.Generation) {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		_, err := helpers.PatchConditions(ctx, c.client.DataPlanes(dp.Namespace), dp, []metav1.Condition{connected},
			helpers.PatchConditionsOptions{FieldManager: name})
		if apierrors.IsNotFound(err) || errors.Is(err, helpers.ErrReplaced) {
			return nil // the DataPlane was deleted, which the informer will report
		}
		if err != nil {
			return err
		}
	}
	if changed {
		c.record(dp, connected)
	}
	return nil
}

// record logs a result and records an Event.
func (c *controller) record(dp *openchoreov1alpha1.DataPlane, connected metav1.Condition) {
	slog.Info("probed", "dataPlane", cache.MetaObjectToName(dp), "connected", connected.Status,
		"reason", connected.Reason, "message", connected.Message)
	eventType, note := corev1.EventTypeNormal, connected.Message
	if connected.Status == metav1.ConditionFalse {
		eventType = corev1.EventTypeWarning
	}
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "")
	}
	var regarding runtime.Object = dp
	if dp.Namespace == "" {
		regarding = &openchoreov1alpha1.ClusterDataPlane{ObjectMeta: dp.ObjectMeta}
	}
	c.recorder.Eventf(regarding, nil, eventType, connected.Reason, "Probe", "%s", note)
}

// reasonNoCredentials is a reason of the condition Connected. All others are values of
// remote.Reachability.
const reasonNoCredentials = "NoCredentials"

// probe asks the cluster of a data plane whether it is ready, for up to 15 s, and returns the
// condition Connected. It returns an error if the result says nothing about the cluster: ctx
// has ended, or the data plane was changed or deleted during the probe.
func (c *controller) probe(ctx context.Context, dp *openchoreov1alpha1.DataPlane) (connected metav1.Condition, err error) {
	connected.Type = openchoreov1alpha1.DataPlaneConditionConnected
	connected.Status = metav1.ConditionFalse
	defer func() {
		if err == nil {
			c.metrics.probes.WithLabelValues(connected.Reason).Inc()
		}
	}()

	cluster, err := c.clusters.Get(types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name})
	switch {
	case errors.Is(err, helpers.ErrNoCredentials):
		// Later OpenChoreo releases keep no credentials in the spec, and there is no --gateway.
		connected.Status, connected.Reason, connected.Message = metav1.ConditionUnknown, reasonNoCredentials, err.Error()
		return connected, nil
	case remote.Classify(err) == remote.ReachabilityInvalidCredentials:
		connected.Reason, connected.Message = string(remote.ReachabilityInvalidCredentials), err.Error()
		return connected, nil
	case err != nil:
		return connected, err
	}

	start := time.Now()
	err = cluster.Probe(ctx)
	reachability := remote.Classify(err)
	switch {
	case ctx.Err() != nil:
		return connected, ctx.Err()
	case errors.Is(err, remote.ErrRotated), reachability == remote.ReachabilityClosed:
		return connected, err
	case err == nil:
		connected.Status, connected.Message = metav1.ConditionTrue, "the API server answers"
	default:
		connected.Message = err.Error() // holds no secrets
	}
	connected.Reason = string(reachability)
	c.metrics.duration.WithLabelValues(connected.Reason).Observe(time.Since(start).Seconds())
	return connected, nil
}
