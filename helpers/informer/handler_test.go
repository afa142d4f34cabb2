// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package informer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
)

func state(uid types.UID, ready metav1.ConditionStatus) *v1alpha1.DataPlane {
	return &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod", UID: uid},
		Status:     v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{{Type: "Ready", Status: ready, Reason: "Tested"}}},
	}
}

// record returns functions that append their calls to events.
func record(events *[]string) informer.Funcs {
	note := func(format string, args ...any) { *events = append(*events, fmt.Sprintf(format, args...)) }
	return informer.Funcs{
		OnAdd:      func(_ *v1alpha1.DataPlane, initial bool) { note("add %t", initial) },
		OnUpdate:   func(_, _ *v1alpha1.DataPlane) { note("update") },
		OnDelete:   func(dp *v1alpha1.DataPlane) { note("delete %s", dp.UID) },
		OnReady:    func(dp *v1alpha1.DataPlane) { note("ready %s", dp.UID) },
		OnNotReady: func(dp *v1alpha1.DataPlane) { note("not ready %s", dp.UID) },
	}
}

func TestHandler(t *testing.T) {
	up, down := state("1", metav1.ConditionTrue), state("1", metav1.ConditionFalse)
	stale := up.DeepCopy()
	stale.Generation, stale.Status.Conditions[0].ObservedGeneration = 2, 1
	other := state("2", metav1.ConditionTrue)
	other.Name = "test"
	add := func(dp *v1alpha1.DataPlane) func(cache.ResourceEventHandler) {
		return func(h cache.ResourceEventHandler) { h.OnAdd(dp, true) }
	}

	for name, test := range map[string]struct {
		before func(cache.ResourceEventHandler)
		event  func(cache.ResourceEventHandler)
		want   []string
	}{
		"ready at the start":       {nil, func(h cache.ResourceEventHandler) { h.OnAdd(up, true) }, []string{"add true", "ready 1"}},
		"not ready when it comes":  {nil, func(h cache.ResourceEventHandler) { h.OnAdd(down, false) }, []string{"add false"}},
		"becomes ready":            {add(down), func(h cache.ResourceEventHandler) { h.OnUpdate(down, up) }, []string{"update", "ready 1"}},
		"is not ready any more":    {add(up), func(h cache.ResourceEventHandler) { h.OnUpdate(up, down) }, []string{"update", "not ready 1"}},
		"is out of date":           {add(up), func(h cache.ResourceEventHandler) { h.OnUpdate(up, stale) }, []string{"update", "not ready 1"}},
		"resync of a ready one":    {add(up), func(h cache.ResourceEventHandler) { h.OnUpdate(up, up) }, []string{"update"}},
		"resync of another":        {add(down), func(h cache.ResourceEventHandler) { h.OnUpdate(down, down) }, []string{"update"}},
		"deleted when ready":       {add(up), func(h cache.ResourceEventHandler) { h.OnDelete(up) }, []string{"delete 1", "not ready 1"}},
		"deleted when not ready":   {add(down), func(h cache.ResourceEventHandler) { h.OnDelete(down) }, []string{"delete 1"}},
		"another's readiness":      {add(up), func(h cache.ResourceEventHandler) { h.OnAdd(other, false) }, []string{"add false", "ready 2"}},
		"deleted, then made again": {add(up), func(h cache.ResourceEventHandler) { h.OnDelete(up); h.OnAdd(up, false) }, []string{"delete 1", "not ready 1", "add false", "ready 1"}},
		"replaced while unwatched": {add(up), func(h cache.ResourceEventHandler) { h.OnUpdate(up, state("2", "True")) }, []string{"update", "not ready 1", "ready 2"}},
		"replaced by one that is not ready": {
			add(up), func(h cache.ResourceEventHandler) { h.OnUpdate(up, state("2", "False")) }, []string{"update", "not ready 1"},
		},
		"deleted while unwatched": {add(up), func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod", Obj: up})
		}, []string{"delete 1", "not ready 1"}},
		"deleted while unwatched, without an object": {add(up), func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod"})
			h.OnAdd(state("2", "True"), false)
			h.OnDelete(state("2", "True"))
		}, []string{"delete 1", "not ready 1", "add false", "ready 2", "delete 2", "not ready 2"}},
		"deleted while unwatched, with a nil object": {add(up), func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod", Obj: (*v1alpha1.DataPlane)(nil)})
		}, []string{"delete 1", "not ready 1"}},
		"deleted while unwatched, with another object": {add(up), func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod", Obj: cache.DeletedFinalStateUnknown{Key: "default/prod", Obj: up}})
		}, []string{"delete 1", "not ready 1"}},
		"deleted while unwatched, and not ready": {add(down), func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod"})
			h.OnAdd(up, false)
		}, []string{"delete 1", "add false", "ready 1"}},
		"deleted twice": {add(up), func(h cache.ResourceEventHandler) {
			h.OnDelete(up)
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod"})
		}, []string{"delete 1", "not ready 1"}},
		"deleted while unwatched, and of another namespace": {add(up), func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "other/prod"})
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "prod"})
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "a/b/c"})
		}, nil},
		"replaced without a deletion": {
			add(up), func(h cache.ResourceEventHandler) { h.OnAdd(state("2", "True"), false) }, []string{"add false", "not ready 1", "ready 2"},
		},
		"other objects": {nil, func(h cache.ResourceEventHandler) {
			h.OnAdd("x", false)
			h.OnUpdate("x", up)
			h.OnUpdate(up, nil)
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "prod"})
			h.OnAdd((*v1alpha1.DataPlane)(nil), false)
			h.OnDelete((*v1alpha1.DataPlane)(nil))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			h, silent := informer.Handler(record(&got)), informer.Handler(informer.Funcs{})
			if test.before != nil {
				test.before(h)
				test.before(silent)
				got = nil
			}
			test.event(h)
			assert.Equal(t, test.want, got)
			test.event(silent)
		})
	}
}

func TestHandlerReportsReadinessThatDependsOnTime(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	up := state("1", metav1.ConditionTrue)
	up.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now)
	down := state("1", metav1.ConditionFalse)

	var got []string
	h := informer.Handler(record(&got), helpers.StableFor(time.Minute, func() time.Time { return now }))
	h.OnAdd(down, false)
	h.OnUpdate(down, up)
	now = now.Add(59 * time.Second)
	h.OnUpdate(up, up)
	assert.Equal(t, []string{"add false", "update", "update"}, got)
	now = now.Add(time.Second)
	h.OnUpdate(up, up)
	assert.Equal(t, []string{"add false", "update", "update", "update", "ready 1"}, got)
	h.OnUpdate(up, up)
	h.OnDelete(up)
	assert.Equal(t, []string{"update", "delete 1", "not ready 1"}, got[5:])
}

func TestHandlerReadsReadyByItsOptions(t *testing.T) {
	var got []string
	h := informer.Handler(record(&got), helpers.RequireObserved())
	h.OnAdd(state("1", metav1.ConditionTrue), false)
	assert.Equal(t, []string{"add false"}, got)
}

func TestHandlerTakesClusterDataPlanes(t *testing.T) {
	cluster := func(ready metav1.ConditionStatus) *v1alpha1.ClusterDataPlane {
		return &v1alpha1.ClusterDataPlane{
			ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "1"},
			Status:     v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{{Type: "Ready", Status: ready, Reason: "Tested"}}},
		}
	}
	var got []string
	h := informer.Handler(record(&got))
	h.OnAdd(cluster("True"), true)
	h.OnUpdate(cluster("True"), cluster("False"))
	h.OnUpdate(cluster("False"), cluster("True"))
	h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default"})
	h.OnAdd((*v1alpha1.ClusterDataPlane)(nil), false)
	assert.Equal(t, []string{
		"add true", "ready 1", "update", "not ready 1", "update", "ready 1", "delete 1", "not ready 1",
	}, got)
}
