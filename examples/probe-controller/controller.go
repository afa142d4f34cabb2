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
	"k8s.io/apimachinery/pkg/labels"
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
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions/openchoreo/v1alpha1"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

const (
	// jitter spreads the probes of clusters that were created together.
	jitter = 0.2
	// writeTimeout limits the writing of a condition, with all retries.
	writeTimeout = 10 * time.Second
	// maxNote is the longest note of an Event that the API server accepts, in bytes.
	maxNote = 1024
)

// controller probes data planes and writes their condition Connected.
type controller struct {
	dataPlanes openchoreolisters.DataPlaneLister
	client     openchoreotyped.DataPlanesGetter
	clusters   *remote.Cache[*remote.Cluster]
	recorder   events.EventRecorder
	metrics    *metrics
	queue      workqueue.TypedRateLimitingInterface[cache.ObjectName]
	interval   time.Duration
	leading    atomic.Bool
}

func newController(dataPlanes openchoreoinformers.DataPlaneInformer, client openchoreotyped.DataPlanesGetter,
	clusters *remote.Cache[*remote.Cluster], recorder events.EventRecorder, metrics *metrics, o options,
) (*controller, error) {
	c := &controller{
		dataPlanes: dataPlanes.Lister(), client: client, clusters: clusters, recorder: recorder, metrics: metrics, interval: o.interval,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](o.minBackoff, o.maxBackoff),
			workqueue.TypedRateLimitingQueueConfig[cache.ObjectName]{Name: "dataplanes"}),
	}
	_, err := dataPlanes.Informer().AddEventHandler(informer.Handler(informer.Funcs{
		OnAdd: func(dp *openchoreov1alpha1.DataPlane, _ bool) { c.enqueue(dp) },
		OnUpdate: func(before, after *openchoreov1alpha1.DataPlane) {
			// Changes of the status, such as those of this controller, need no probe.
			if before.UID != after.UID || before.Generation != after.Generation {
				c.enqueue(after)
			}
		},
	}))
	return c, err
}

// enqueue adds a data plane to be probed by the next free worker. A replica that doesn't lead has
// an empty queue; run fills it.
func (c *controller) enqueue(dp *openchoreov1alpha1.DataPlane) {
	if !c.leading.Load() {
		return
	}
	key := cache.MetaObjectToName(dp)
	c.queue.Forget(key) // the failures of the object before this change
	c.queue.Add(key)
}

// run works until ctx ends, and returns when all workers have ended. Call it once.
func (c *controller) run(ctx context.Context, workers int) {
	c.leading.Store(true)
	defer c.leading.Store(false)
	slog.Info("leading", "workers", workers)
	dataPlanes, _ := c.dataPlanes.List(labels.Everything()) // a lister returns no error
	for _, dp := range dataPlanes {
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
	dp, err := c.dataPlanes.DataPlanes(key.Namespace).Get(key.Name)
	if err != nil { // a lister returns no other error than NotFound
		c.queue.Forget(key)
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

// report writes the condition if its status, reason or generation is new, and records an Event
// if its status or reason is. It ignores messages, since they name ports and times and so
// differ from probe to probe.
func (c *controller) report(ctx context.Context, dp *openchoreov1alpha1.DataPlane, connected metav1.Condition) error {
	before := meta.FindStatusCondition(dp.Status.Conditions, connected.Type)
	changed := before == nil || before.Status != connected.Status || before.Reason != connected.Reason
	if !changed && before.ObservedGeneration == dp.Generation {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := helpers.PatchConditions(ctx, c.client.DataPlanes(dp.Namespace), dp, []metav1.Condition{connected},
		helpers.PatchConditionsOptions{FieldManager: name})
	if apierrors.IsNotFound(err) || errors.Is(err, helpers.ErrReplaced) {
		return nil // deleted meanwhile; the informer will report it
	}
	if err != nil || !changed {
		return err
	}
	slog.Info("probed", "dataPlane", cache.MetaObjectToName(dp), "connected", connected.Status,
		"reason", connected.Reason, "message", connected.Message)
	eventType := corev1.EventTypeNormal
	if connected.Status == metav1.ConditionFalse {
		eventType = corev1.EventTypeWarning
	}
	note := connected.Message
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "")
	}
	c.recorder.Eventf(dp, nil, eventType, connected.Reason, "Probe", "%s", note)
	return nil
}

// reasonNoCredentials is a reason of the condition Connected. All others are values of
// remote.Reachability.
const reasonNoCredentials = "NoCredentials"

// probe asks the cluster of a data plane whether it is ready, for up to 15 s, and returns the
// condition Connected. It returns an error if the result says nothing about the cluster: ctx
// has ended, or the DataPlane was changed or deleted meanwhile.
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
		// Later OpenChoreo releases keep no credentials in the spec.
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
