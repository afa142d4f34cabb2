// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreoscheme "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
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
