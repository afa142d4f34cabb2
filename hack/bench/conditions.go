// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreoscheme "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

const (
	statusNamespace = "statuses"
	statusCallers   = 8 // each patches a different object, at the same time
)

// patchFunc sets a condition of one object.
type patchFunc func(ctx context.Context, c metav1.Condition) error

// newPatchFunc reads an object and returns its patchFunc.
type newPatchFunc func(ctx context.Context, in *input, name string) (patchFunc, error)

func statusRows() []row {
	return []row{{
		Name: "status", Title: fmt.Sprintf("a patch of a condition, which keeps the conditions of others, %d at once", statusCallers),
		Metrics: []metric{{Name: "rate", Unit: "/s", More: true}, {Name: "cpu", Unit: "s"}},
		plane:   true, rounds: 7,
		prepare: fillWithDataPlanes(statusNamespace, statusCallers),
		Subjects: []subject{
			{Name: "sdk", How: "helpers.PatchConditions", measure: patchStatuses(statusSDK)},
			{Name: "controller-runtime", How: "client.Status().Patch, MergeFromWithOptimisticLock", measure: patchStatuses(statusControllerRuntime)},
			{Name: "dynamic", How: "merge patch with a resource version", measure: patchStatuses(statusDynamic)},
		},
	}}
}

func patchStatuses(newPatch newPatchFunc) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		duration := 3 * time.Second
		if in.Quick {
			duration = time.Second
		}
		var n atomic.Int64
		// The status is always True, so that the transition time stays; each message is new.
		condition := func() metav1.Condition {
			return metav1.Condition{
				Type: openchoreov1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue, Reason: "Reconciled",
				Message: fmt.Sprintf("looked at %d-%d", time.Now().UnixNano(), n.Add(1)),
			}
		}
		var patches [statusCallers]patchFunc
		for caller := range patches {
			var err error
			if patches[caller], err = newPatch(ctx, in, objectName(caller)); err != nil {
				return nil, err
			}
			if err := patches[caller](ctx, condition()); err != nil { // connects
				return nil, err
			}
		}
		n.Store(0)
		cpu, started := cpuTime(), time.Now()
		if err := parallel(ctx, statusCallers, statusCallers, func(ctx context.Context, i int) (err error) {
			for err == nil && time.Since(started) < duration {
				err = patches[i](ctx, condition())
			}
			return err
		}); err != nil {
			return nil, err
		}
		total := float64(n.Load())
		return values{"rate": total / time.Since(started).Seconds(), "cpu": (cpuTime() - cpu) / total}, nil
	}
}

func statusSDK(ctx context.Context, in *input, name string) (patchFunc, error) {
	objects := openchoreoclient.NewForConfigOrDie(in.Server.config()).OpenChoreoV1alpha1().DataPlanes(statusNamespace)
	current, err := objects.Get(ctx, name, metav1.GetOptions{})
	return func(ctx context.Context, c metav1.Condition) (err error) {
		current, err = helpers.PatchConditions(ctx, objects, current, []metav1.Condition{c}, helpers.PatchConditionsOptions{})
		return err
	}, err
}

func newControllerRuntimeClient(in *input) (ctrlclient.Client, error) {
	return ctrlclient.New(in.Server.config(), ctrlclient.Options{Scheme: openchoreoscheme.Scheme})
}

func statusControllerRuntime(ctx context.Context, in *input, name string) (patchFunc, error) {
	client, err := newControllerRuntimeClient(in)
	if err != nil {
		return nil, err
	}
	dp := &openchoreov1alpha1.DataPlane{}
	err = client.Get(ctx, ctrlclient.ObjectKey{Namespace: statusNamespace, Name: name}, dp)
	return func(ctx context.Context, c metav1.Condition) error {
		patch := ctrlclient.MergeFromWithOptions(dp.DeepCopy(), ctrlclient.MergeFromWithOptimisticLock{})
		c.ObservedGeneration = dp.Generation
		meta.SetStatusCondition(&dp.Status.Conditions, c)
		return client.Status().Patch(ctx, dp, patch)
	}, err
}

func statusDynamic(ctx context.Context, in *input, name string) (patchFunc, error) {
	resource := openchoreov1alpha1.SchemeGroupVersion.WithResource("dataplanes")
	objects := dynamic.NewForConfigOrDie(in.Server.config()).Resource(resource).Namespace(statusNamespace)
	current, err := objects.Get(ctx, name, metav1.GetOptions{})
	return func(ctx context.Context, want metav1.Condition) error {
		conditions, _, err := unstructured.NestedSlice(current.Object, "status", "conditions")
		if err != nil {
			return err
		}
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == want.Type {
				c["message"], c["observedGeneration"] = want.Message, current.GetGeneration()
			}
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"resourceVersion": current.GetResourceVersion()},
			"status":   map[string]any{"conditions": conditions},
		})
		if err != nil {
			return err
		}
		current, err = objects.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	}, err
}

const (
	waitNamespace = "waits"
	waitCount     = 10
	// waitSpread is the time over which the objects become ready, at any time between two polls.
	waitSpread = 2 * time.Second
	// waitPoll is the interval in the examples of wait.PollUntilContextTimeout.
	waitPoll = time.Second
)

// waiter returns when an object is ready. It calls waiting once it can't miss the change. c is already
// connected.
type waiter func(ctx context.Context, c *waitClients, name string, waiting func()) error

type waitClients struct {
	server            *server
	objects           openchoreotyped.DataPlaneInterface
	controllerRuntime ctrlclient.Client
}

func waitRows() []row {
	return []row{{
		Name:    "wait",
		Title:   fmt.Sprintf("from sending the status Ready=True to the end of a wait for it, %d waits at once", waitCount),
		Metrics: []metric{{Name: "p50", Unit: "s"}, {Name: "worst", Unit: "s"}, {Name: "cpu", Unit: "s"}},
		plane:   true, rounds: 5,
		prepare: fillWithDataPlanes(waitNamespace, waitCount),
		drive:   makeReady,
		Subjects: []subject{
			{Name: "sdk", How: "await.For", measure: measureWaits(waitSDK)},
			{Name: "controller-runtime", How: fmt.Sprintf("client.Get in wait.PollUntilContextCancel, every %s", waitPoll), measure: measureWaits(waitPolling)},
			{Name: "kubectl", How: "kubectl wait --for=condition=Ready, a process for each wait", measure: measureWaits(waitKubectl)},
			{Name: "floor", How: "a bare watch that reads only the condition", measure: measureWaits(waitWatching)},
		},
	}}
}

// measureWaits waits for all objects, which the parent then makes ready.
func measureWaits(wait waiter) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		client, err := newControllerRuntimeClient(in)
		if err != nil {
			return nil, err
		}
		c := &waitClients{in.Server, openchoreoclient.NewForConfigOrDie(in.Server.config()).OpenChoreoV1alpha1().DataPlanes(waitNamespace), client}
		for i := range waitCount {
			if err := patchReady(ctx, c.objects, i, metav1.ConditionFalse); err != nil {
				return nil, err
			}
		}
		if err := client.Get(ctx, ctrlclient.ObjectKey{Namespace: waitNamespace, Name: objectName(0)}, &openchoreov1alpha1.DataPlane{}); err != nil {
			return nil, err
		}
		var waiting, done sync.WaitGroup
		errs := make([]error, waitCount)
		var ended [waitCount]time.Time
		cpu := cpuTime()
		for i := range waitCount {
			waiting.Add(1)
			isWaiting := sync.OnceFunc(waiting.Done)
			done.Go(func() {
				defer isWaiting()
				errs[i] = wait(ctx, c, objectName(i), isWaiting)
				ended[i] = time.Now()
			})
		}
		waiting.Wait()
		sent, err := in.drive()
		done.Wait()
		if err := errors.Join(append(errs, err)...); err != nil {
			return nil, err
		}
		cpu = cpuTime() - cpu
		took := make([]float64, waitCount)
		for i := range took {
			if took[i] = ended[i].Sub(sent[i]).Seconds(); took[i] < 0 {
				return nil, fmt.Errorf("the wait for %s ended before the write", objectName(i))
			}
		}
		return values{"p50": median(took), "worst": slices.Max(took), "cpu": cpu / waitCount}, nil
	}
}

func makeReady(ctx context.Context, f *fixture) ([]time.Time, error) {
	return spread(waitSpread, waitCount, func(i int) error {
		return patchReady(ctx, f.openchoreo.OpenChoreoV1alpha1().DataPlanes(waitNamespace), i, metav1.ConditionTrue)
	})
}

// patchReady writes the only condition, Ready.
func patchReady(ctx context.Context, objects openchoreotyped.DataPlaneInterface, i int, status metav1.ConditionStatus) error {
	patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","status":%q,"reason":"Reconciled","message":"",`+
		`"observedGeneration":1,"lastTransitionTime":"2023-11-14T22:13:20Z"}]}}`, status)
	_, err := objects.Patch(ctx, objectName(i), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

func waitSDK(ctx context.Context, c *waitClients, name string, waiting func()) error {
	_, err := await.For(ctx, openTeller{c.objects, waiting}, name, await.True(openchoreov1alpha1.DataPlaneConditionReady))
	return err
}

// openTeller calls opened when the API server has accepted a watch.
type openTeller struct {
	await.Client[*openchoreov1alpha1.DataPlane]
	opened func()
}

func (o openTeller) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	watcher, err := o.Client.Watch(ctx, opts)
	if err == nil {
		o.opened()
	}
	return watcher, err
}

func waitWatching(ctx context.Context, c *waitClients, name string, waiting func()) error {
	dp, err := c.objects.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	watcher, err := c.objects.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: dp.ResourceVersion})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	waiting()
	for event := range watcher.ResultChan() {
		if dp, ok := event.Object.(*openchoreov1alpha1.DataPlane); ok &&
			meta.IsStatusConditionTrue(dp.Status.Conditions, openchoreov1alpha1.DataPlaneConditionReady) {
			return nil
		}
	}
	return errors.New("the watch has ended")
}

func waitPolling(ctx context.Context, c *waitClients, name string, waiting func()) error {
	return wait.PollUntilContextCancel(ctx, waitPoll, true, func(ctx context.Context) (bool, error) {
		var dp openchoreov1alpha1.DataPlane
		err := c.controllerRuntime.Get(ctx, ctrlclient.ObjectKey{Namespace: waitNamespace, Name: name}, &dp)
		waiting()
		return meta.IsStatusConditionTrue(dp.Status.Conditions, openchoreov1alpha1.DataPlaneConditionReady), err
	})
}

// waitKubectl calls waiting when kubectl's log shows that its watch is open.
func waitKubectl(ctx context.Context, c *waitClients, name string, waiting func()) error {
	cmd := exec.CommandContext(ctx, c.server.Kubectl, "wait", "--for=condition=Ready", "--timeout=60s", "--namespace="+waitNamespace, "--v=6", "dataplane/"+name)
	cmd.Env = c.server.KubectlEnv
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var log bytes.Buffer
	for lines := bufio.NewScanner(io.TeeReader(stderr, &log)); lines.Scan(); {
		if line := lines.Text(); strings.Contains(line, "watch=true") && strings.Contains(line, "200") {
			waiting()
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("kubectl wait: %w: %s", err, log.String())
	}
	return nil
}
