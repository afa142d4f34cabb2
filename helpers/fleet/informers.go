// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// object is a DataPlane or ClusterDataPlane. AsDataPlane copies a ClusterDataPlane, so it is called
// once for each object.
type object interface {
	AsDataPlane() *v1alpha1.DataPlane
}

// informer is an informer of a Fleet, with its last error.
type informer struct {
	cache.SharedIndexInformer
	startedBefore bool // it was started before New, which couldn't set its error handler

	mu     sync.Mutex
	kind   string // "" until it is known
	err    error
	failed time.Time
}

func newInformer(inner cache.SharedIndexInformer) *informer {
	i := &informer{SharedIndexInformer: inner}
	i.startedBefore = inner.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		i.note(err, r.TypeDescription())
		cache.DefaultWatchErrorHandler(ctx, r, err)
	}) != nil
	return i
}

// note keeps for Status the error, unless it is nil, and the kind, taken from a type such as
// *v1alpha1.DataPlane.
func (i *informer) note(err error, typ string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kind = typ[strings.LastIndex(typ, ".")+1:]
	if err != nil {
		i.err, i.failed = err, time.Now()
	}
}

// unavailable returns whether the informer can't list because its kind isn't installed or a right
// is missing, perhaps for ever.
func (i *informer) unavailable() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.HasSynced() && (apierrors.IsNotFound(i.err) || apierrors.IsForbidden(i.err))
}

// awaitSync waits until every informer has listed or is unavailable, and at least one has listed.
// The objects of an unavailable informer come later, as events.
func (f *Fleet) awaitSync(ctx context.Context) {
	cache.WaitForCacheSync(ctx.Done(), func() bool {
		synced := false
		for _, i := range f.informers {
			switch {
			case i.HasSynced():
				synced = true
			case !i.unavailable():
				return false
			}
		}
		return synced
	})
}

// endWithInformers polls the informers and ends Run when one has stopped. An informer that stops
// because ctx has ended is no error, even if running has not ended yet.
func (f *Fleet) endWithInformers(ctx, running context.Context) {
	wait.UntilWithContext(running, func(context.Context) {
		for _, i := range f.informers {
			if i.IsStopped() && ctx.Err() == nil {
				f.endWith(errors.New("the informer has stopped"))
			}
		}
	}, time.Second)
}

// observe handles the events of the informers until stop is called.
func (f *Fleet) observe() (stop func()) {
	var stops []func()
	for _, i := range f.informers {
		handle := func(obj any) {
			name, err := cache.DeletionHandlingObjectToName(obj)
			if err != nil {
				f.endWith(fmt.Errorf("informer holds a %T: %w", obj, err))
				return
			}
			f.refresh(i, name)
		}
		registration, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: handle, UpdateFunc: func(_, obj any) { handle(obj) }, DeleteFunc: handle,
		})
		if err != nil {
			f.endWith(fmt.Errorf("watch data planes: %w", err))
			continue
		}
		stops = append(stops, func() { _ = i.RemoveEventHandler(registration) }) // fails if there is none
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// refresh updates a plane to the informer's object, which may be newer than an event.
func (f *Fleet) refresh(i *informer, name cache.ObjectName) {
	f.observing.Lock()
	defer f.observing.Unlock()
	key := types.NamespacedName{Namespace: name.Namespace, Name: name.Name}
	stored, exists, err := i.GetIndexer().GetByKey(name.String())
	obj, ok := stored.(object)
	if err != nil || exists && !ok {
		f.endWith(fmt.Errorf("informer holds a %T, not a *v1alpha1.DataPlane or *v1alpha1.ClusterDataPlane", stored))
		return
	}
	if exists {
		i.note(nil, fmt.Sprintf("%T", stored))
	}
	shard := f.shardOf(name)

	// Filter and RestartOn are the user's functions, so the lock isn't held while they run.
	var before, dp *v1alpha1.DataPlane
	wasSelected := false
	f.mu.Lock()
	t, p := f.terms[shard], f.planes[key]
	if p != nil && p.dp != nil && exists {
		if p.object == obj {
			dp = p.dp
		}
		before, wasSelected = p.dp, p.selected
	}
	hasRun := p != nil && p.run != nil
	f.mu.Unlock()
	if t == nil && !hasRun {
		return
	}
	if dp == nil && exists {
		dp = obj.AsDataPlane()
	}
	if before != nil && before.UID != dp.UID {
		before, wasSelected = nil, false
	}
	selected := dp != nil && (f.options.Filter == nil || f.options.Filter(dp, wasSelected))
	changed := before != nil && before != dp && f.options.RestartOn != nil && f.options.RestartOn(before, dp)

	f.mu.Lock()
	defer f.mu.Unlock()
	p = f.planes[key]
	if t == nil || f.terms[shard] != t { // the term ends, but its runs follow rotations until they return
		if p != nil && p.run != nil && dp != nil {
			p.object, p.dp = obj, dp
			wakeUp(p.wake)
		}
		return
	}
	if p == nil {
		if !selected {
			return
		}
		p = &plane{fleet: f, term: t, key: key, wake: make(chan struct{}, 1)}
		f.planes[key] = p
		t.loops.Add(1)
		go p.loop()
	}
	if cause := p.update(obj, dp, selected, changed); cause != nil && p.run != nil {
		p.run.cancel(cause)
	}
	wakeUp(p.wake)
}
