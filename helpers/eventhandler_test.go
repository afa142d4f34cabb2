// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func TestEventHandler(t *testing.T) {
	state := func(uid types.UID, status metav1.ConditionStatus) *v1alpha1.DataPlane {
		return &v1alpha1.DataPlane{
			ObjectMeta: metav1.ObjectMeta{Name: "prod", UID: uid},
			Status:     v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{condition(ready, status, 0)}},
		}
	}
	up, down := state("1", metav1.ConditionTrue), state("1", metav1.ConditionFalse)
	stale := up.DeepCopy()
	stale.Generation = 2
	stale.Status.Conditions[0].ObservedGeneration = 1

	for name, test := range map[string]struct {
		event func(cache.ResourceEventHandler)
		want  []string
	}{
		"ready at the start":  {func(h cache.ResourceEventHandler) { h.OnAdd(up, true) }, []string{"add true", "ready"}},
		"comes not ready":     {func(h cache.ResourceEventHandler) { h.OnAdd(down, false) }, []string{"add false"}},
		"becomes ready":       {func(h cache.ResourceEventHandler) { h.OnUpdate(down, up) }, []string{"update", "ready"}},
		"stops being ready":   {func(h cache.ResourceEventHandler) { h.OnUpdate(up, down) }, []string{"update", "not ready"}},
		"is out of date":      {func(h cache.ResourceEventHandler) { h.OnUpdate(up, stale) }, []string{"update", "not ready"}},
		"resync, ready":       {func(h cache.ResourceEventHandler) { h.OnUpdate(up, up) }, []string{"update"}},
		"resync, not ready":   {func(h cache.ResourceEventHandler) { h.OnUpdate(down, down) }, []string{"update"}},
		"deleted, ready":      {func(h cache.ResourceEventHandler) { h.OnDelete(up) }, []string{"delete", "not ready"}},
		"deleted, not ready":  {func(h cache.ResourceEventHandler) { h.OnDelete(down) }, []string{"delete"}},
		"recreated unwatched": {func(h cache.ResourceEventHandler) { h.OnUpdate(up, state("2", metav1.ConditionTrue)) }, []string{"update", "not ready", "ready"}},
		"deleted unwatched": {
			func(h cache.ResourceEventHandler) { h.OnDelete(cache.DeletedFinalStateUnknown{Key: "prod", Obj: up}) },
			[]string{"delete", "not ready"},
		},
		"something else": {func(h cache.ResourceEventHandler) {
			h.OnAdd("x", false)
			h.OnUpdate("x", up)
			h.OnUpdate(up, nil)
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "prod"})
			h.OnAdd((*v1alpha1.DataPlane)(nil), false)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			note := func(what string) { got = append(got, what) }
			test.event(EventHandler(EventHandlerFuncs{
				OnAdd:      func(_ *v1alpha1.DataPlane, initial bool) { note(fmt.Sprint("add ", initial)) },
				OnUpdate:   func(_, _ *v1alpha1.DataPlane) { note("update") },
				OnDelete:   func(*v1alpha1.DataPlane) { note("delete") },
				OnReady:    func(dp *v1alpha1.DataPlane) { note("ready"); assert.True(t, IsReady(dp)) },
				OnNotReady: func(dp *v1alpha1.DataPlane) { note("not ready"); assert.NotNil(t, dp) },
			}))
			assert.Equal(t, test.want, got)
			test.event(EventHandler(EventHandlerFuncs{}))
		})
	}
}
