// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package informer has a typed event handler and two transforms for informers of
// DataPlanes.
//
//	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
//	if err := dataPlanes.SetTransform(informer.StripManagedFields); err != nil {
//		return err
//	}
//	_, err := dataPlanes.AddEventHandler(informer.Handler(informer.Funcs{
//		OnReady:    func(dp *v1alpha1.DataPlane) { queue.Add(cache.MetaObjectToName(dp)) },
//		OnNotReady: func(dp *v1alpha1.DataPlane) { queue.Add(cache.MetaObjectToName(dp)) },
//	}))
package informer

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Funcs are the functions that a [Handler] calls. Each may be nil. The objects belong to
// the informer's cache: copy one before you modify it.
type Funcs struct {
	// OnAdd is called for a DataPlane that is new to the informer. initial reports whether
	// it existed when the informer started.
	OnAdd func(dp *v1alpha1.DataPlane, initial bool)
	// OnUpdate is called for every change. On a resync, before and after are the same.
	OnUpdate func(before, after *v1alpha1.DataPlane)
	// OnDelete is called with the last state that the informer has seen, which may not be
	// the last one there was.
	OnDelete func(last *v1alpha1.DataPlane)

	// OnReady is called after OnAdd or OnUpdate if a DataPlane has become ready, or is ready
	// when the informer first sees it.
	OnReady func(dp *v1alpha1.DataPlane)
	// OnNotReady is called after OnUpdate if a DataPlane has stopped being ready, and after
	// OnDelete, with the last known state, if it was ready.
	OnNotReady func(dp *v1alpha1.DataPlane)
}

// Handler returns an event handler for one informer of DataPlanes. It calls typed
// functions, also for objects that were deleted while the watch was interrupted, and tells
// when readiness changes. [helpers.IsReady] decides that, with the given options. Add it
// once: it isn't safe for concurrent use, and an informer calls it from one goroutine.
//
// Readiness is evaluated at each event. An option that depends on time, such as
// [helpers.StableFor], therefore needs an informer with a resync period: OnReady is called
// at the first event or resync after that time.
//
// A DataPlane that was deleted and recreated while the watch was interrupted comes as one
// update; if it was ready, OnNotReady is called in between. Handler ignores other objects.
func Handler(funcs Funcs, opts ...helpers.EvaluateOption) cache.ResourceEventHandler {
	return &handler{funcs: funcs, opts: opts, ready: map[types.NamespacedName]bool{}}
}

type handler struct {
	funcs Funcs
	opts  []helpers.EvaluateOption

	ready map[types.NamespacedName]bool // the DataPlanes that were ready at the last event
}

// OnAdd implements cache.ResourceEventHandler.
func (h *handler) OnAdd(obj any, initial bool) {
	dp, _ := obj.(*v1alpha1.DataPlane)
	if dp == nil {
		return
	}
	if h.funcs.OnAdd != nil {
		h.funcs.OnAdd(dp, initial)
	}
	h.setReady(dp, helpers.IsReady(dp, h.opts...))
}

// OnUpdate implements cache.ResourceEventHandler.
func (h *handler) OnUpdate(oldObj, newObj any) {
	before, _ := oldObj.(*v1alpha1.DataPlane)
	after, _ := newObj.(*v1alpha1.DataPlane)
	if before == nil || after == nil {
		return
	}
	if h.funcs.OnUpdate != nil {
		h.funcs.OnUpdate(before, after)
	}
	if before.UID != after.UID {
		h.setReady(before, false)
	}
	h.setReady(after, helpers.IsReady(after, h.opts...))
}

// OnDelete implements cache.ResourceEventHandler.
func (h *handler) OnDelete(obj any) {
	if unseen, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unseen.Obj
	}
	dp, _ := obj.(*v1alpha1.DataPlane)
	if dp == nil {
		return
	}
	if h.funcs.OnDelete != nil {
		h.funcs.OnDelete(dp)
	}
	h.setReady(dp, false)
}

// setReady remembers whether dp is ready, and calls OnReady or OnNotReady if that is new.
func (h *handler) setReady(dp *v1alpha1.DataPlane, ready bool) {
	key := types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}
	was := h.ready[key]
	if ready {
		h.ready[key] = true
	} else {
		delete(h.ready, key)
	}
	switch {
	case ready && !was && h.funcs.OnReady != nil:
		h.funcs.OnReady(dp)
	case was && !ready && h.funcs.OnNotReady != nil:
		h.funcs.OnNotReady(dp)
	}
}
