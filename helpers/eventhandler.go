// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// EventHandlerFuncs are what [EventHandler] calls; each may be nil. The objects belong to
// the informer's cache: copy one before changing it.
type EventHandlerFuncs struct {
	// OnAdd is called for a DataPlane that is new to the informer. initial says that it
	// was there when the informer started.
	OnAdd func(dp *v1alpha1.DataPlane, initial bool)
	// OnUpdate is called for every change, and on every resync with twice the same.
	OnUpdate func(before, after *v1alpha1.DataPlane)
	// OnDelete is called with the last state that the informer knows, which may not be
	// the last that there was.
	OnDelete func(last *v1alpha1.DataPlane)

	// Evaluate holds the options by which OnReady and OnNotReady read the Ready condition,
	// such as [StatusGenerationOnly] for OpenChoreo v0.12 and later.
	Evaluate []EvaluateOption
	// OnReady is called when the Ready condition of a DataPlane has become True, as
	// [EvaluateCondition] says: after OnAdd for one that is when it comes, and after OnUpdate.
	OnReady func(dp *v1alpha1.DataPlane)
	// OnNotReady is called when a DataPlane that was ready no longer is, with what it is
	// now: after OnUpdate, and with the last known state after OnDelete.
	OnNotReady func(dp *v1alpha1.DataPlane)
}

// EventHandler returns a handler for an informer of DataPlanes that calls typed functions,
// unwraps what was deleted while nobody watched, and tells when readiness changes. It
// ignores what is no DataPlane. A DataPlane that was deleted and recreated unwatched comes
// as one update; it is not ready in between.
func EventHandler(h EventHandlerFuncs) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, initial bool) {
			dp, ok := obj.(*v1alpha1.DataPlane)
			if !ok || dp == nil {
				return
			}
			if h.OnAdd != nil {
				h.OnAdd(dp, initial)
			}
			h.transition(nil, dp)
		},
		UpdateFunc: func(oldObj, newObj any) {
			before, _ := oldObj.(*v1alpha1.DataPlane)
			after, _ := newObj.(*v1alpha1.DataPlane)
			if before == nil || after == nil {
				return
			}
			if h.OnUpdate != nil {
				h.OnUpdate(before, after)
			}
			if before.UID != after.UID {
				h.transition(before, nil)
				before = nil
			}
			h.transition(before, after)
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			dp, ok := obj.(*v1alpha1.DataPlane)
			if !ok || dp == nil {
				return
			}
			if h.OnDelete != nil {
				h.OnDelete(dp)
			}
			h.transition(dp, nil)
		},
	}
}

// transition compares two states of which one may be nil, for an object that is not there.
func (h EventHandlerFuncs) transition(before, after *v1alpha1.DataPlane) {
	was, is := h.isReady(before), h.isReady(after)
	switch {
	case is && !was && h.OnReady != nil:
		h.OnReady(after)
	case was && !is && h.OnNotReady != nil:
		if after == nil {
			after = before
		}
		h.OnNotReady(after)
	}
}

func (h EventHandlerFuncs) isReady(dp *v1alpha1.DataPlane) bool {
	return EvaluateCondition(dp, v1alpha1.DataPlaneConditionReady, h.Evaluate...).Status == metav1.ConditionTrue
}
