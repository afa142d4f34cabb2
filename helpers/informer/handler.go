// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package informer has a typed event handler and two transforms for informers of
// DataPlanes and ClusterDataPlanes.
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
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Funcs are the functions that a [Handler] calls. Each may be nil. The objects belong to
// the informer's cache: copy one before you modify it.
type Funcs struct {
	// OnAdd is called for a DataPlane that is new to the handler. initial reports whether the
	// informer knew it when the handler was added, or found it when the informer started.
	OnAdd func(dp *v1alpha1.DataPlane, initial bool)
	// OnUpdate is called for every change. On a resync, before and after have the same resource version.
	OnUpdate func(before, after *v1alpha1.DataPlane)
	// OnDelete is called with the last state that the informer has seen, which may be older
	// than the deletion.
	OnDelete func(last *v1alpha1.DataPlane)

	// OnReady is called after OnAdd or OnUpdate if a DataPlane has become ready, or is ready
	// when the informer first sees it.
	OnReady func(dp *v1alpha1.DataPlane)
	// OnNotReady is called after OnUpdate if a DataPlane is no longer ready, and after
	// OnDelete if it was ready, with the last known state, which is then ready.
	OnNotReady func(dp *v1alpha1.DataPlane)
}

// Handler returns an event handler for one informer of DataPlanes or ClusterDataPlanes. It passes
// a ClusterDataPlane as [v1alpha1.ClusterDataPlane.AsDataPlane] returns it. It calls OnDelete even
// for an object that was deleted while the watch was interrupted, and reports changes of
// readiness, which [helpers.IsReady] decides with opts. Add it once: it isn't safe for concurrent
// use, and an informer calls it from one goroutine.
//
// Calls of OnReady and OnNotReady alternate for each object. Handler keeps the last state of each
// DataPlane, since the tombstone of an unseen deletion may hold only the key.
//
// Readiness is evaluated at each event. The options that depend on time, [helpers.StableFor] and
// [helpers.HeartbeatWithin], therefore need an informer with a resync period: OnReady or OnNotReady
// is called at the first event or resync after that time.
//
// A DataPlane that was deleted and recreated while the watch was interrupted comes as one update.
// OnNotReady is then called for the old object if it was ready, before any OnReady for the new
// one. Handler ignores objects of other kinds.
func Handler(funcs Funcs, opts ...helpers.EvaluateOption) cache.ResourceEventHandler {
	return &handler{funcs: funcs, opts: opts, known: map[cache.ObjectName]state{}}
}

type handler struct {
	funcs Funcs
	opts  []helpers.EvaluateOption

	known map[cache.ObjectName]state
}

// state is the last state of a DataPlane.
type state struct {
	dp    *v1alpha1.DataPlane
	ready bool
}

// dataPlane returns nil for objects of other kinds.
func dataPlane(obj any) *v1alpha1.DataPlane {
	object, ok := obj.(interface{ AsDataPlane() *v1alpha1.DataPlane })
	if !ok {
		return nil
	}
	return object.AsDataPlane()
}

// OnAdd implements cache.ResourceEventHandler.
func (h *handler) OnAdd(obj any, initial bool) {
	dp := dataPlane(obj)
	if dp == nil {
		return
	}
	if h.funcs.OnAdd != nil {
		h.funcs.OnAdd(dp, initial)
	}
	h.see(dp)
}

// OnUpdate implements cache.ResourceEventHandler.
func (h *handler) OnUpdate(oldObj, newObj any) {
	before, after := dataPlane(oldObj), dataPlane(newObj)
	if before == nil || after == nil {
		return
	}
	if h.funcs.OnUpdate != nil {
		h.funcs.OnUpdate(before, after)
	}
	h.see(after)
}

// OnDelete implements cache.ResourceEventHandler.
func (h *handler) OnDelete(obj any) {
	var name cache.ObjectName
	tombstone, unseen := obj.(cache.DeletedFinalStateUnknown)
	if unseen {
		obj = tombstone.Obj
	}
	dp := dataPlane(obj)
	switch {
	case dp != nil:
		name = cache.MetaObjectToName(dp)
	case unseen:
		var err error
		if name, err = cache.ParseObjectName(tombstone.Key); err != nil {
			return
		}
		dp = h.known[name].dp
	}
	if dp == nil {
		return
	}
	if h.funcs.OnDelete != nil {
		h.funcs.OnDelete(dp)
	}
	h.setReady(dp, false)
	delete(h.known, name)
}

// see records the state of an object that exists, and may have replaced another.
func (h *handler) see(dp *v1alpha1.DataPlane) {
	if last := h.known[cache.MetaObjectToName(dp)].dp; last != nil && last.UID != dp.UID {
		h.setReady(last, false)
	}
	h.setReady(dp, helpers.IsReady(dp, h.opts...))
}

// setReady records dp, and calls OnReady or OnNotReady if its readiness has changed.
func (h *handler) setReady(dp *v1alpha1.DataPlane, ready bool) {
	name := cache.MetaObjectToName(dp)
	was := h.known[name].ready
	h.known[name] = state{dp, ready}
	switch {
	case ready && !was && h.funcs.OnReady != nil:
		h.funcs.OnReady(dp)
	case was && !ready && h.funcs.OnNotReady != nil:
		h.funcs.OnNotReady(dp)
	}
}
