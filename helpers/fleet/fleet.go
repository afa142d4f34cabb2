// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Fleet calls a function for each data plane of an informer. One such call is a run.
//
// Each run has its own [remote.Cluster], which is closed when the run has returned. The
// context of a run ends, with a cause that errors.Is finds,
//
//   - with [helpers.ErrDeleted] when the DataPlane is gone; while it only waits for
//     finalizers, the run goes on;
//   - with [helpers.ErrReplaced] when another object has its name;
//   - with [ErrCredentialsChanged] when its credentials change, or with
//     [ErrDataPlaneChanged] when Options.RestartOn asks for it; a new run follows;
//   - with [ErrNotSelected] when Options.Filter no longer selects it;
//   - with [ErrStopped], and the cause of Run's own context, when that has ended.
//
// A run must return when its context ends. If it doesn't within Options.StopGrace, the Fleet
// gives it up: it closes the run's Cluster, so that the run can't reach the data plane, and
// goes on without it. Two runs for one data plane never have an open Cluster at the same time.
//
// When a run returns an error, the Fleet waits, see [Backoff], and starts another. A panic
// counts as an error, a [*PanicError]. When a run returns nil, the data plane is done: there
// is no other run until the DataPlane changes in one of the ways above. The same holds when a
// Cluster can't be made of the DataPlane; its error is in the [Status].
//
// Runs don't wait for each other, unless Options.StartLimit makes them.
type Fleet struct {
	informer cache.SharedIndexInformer
	run      func(context.Context, *remote.Cluster) error
	options  Options
	starting chan struct{} // holds one for each run that starts, when that is limited

	mu      sync.Mutex
	running bool
	members map[types.NamespacedName]*member
	overdue map[types.NamespacedName]int // runs that were given up and have not returned
	loops   sync.WaitGroup               // one for each member
}

// These end the context of a run, beside [helpers.ErrDeleted] and [helpers.ErrReplaced].
var (
	// ErrCredentialsChanged reports that a DataPlane has other credentials, or another API
	// server.
	ErrCredentialsChanged = errors.New("credentials of the data plane have changed")
	// ErrDataPlaneChanged reports a change for which Options.RestartOn returned true.
	ErrDataPlaneChanged = errors.New("data plane has changed")
	// ErrNotSelected reports that Options.Filter no longer selects the DataPlane.
	ErrNotSelected = errors.New("data plane is no longer selected")
	// ErrStopped reports that the context of Run has ended.
	ErrStopped = errors.New("fleet is stopped")
)

// ErrOverdue reports that a run did not return in time and was given up.
var ErrOverdue = errors.New("run did not return in time")

// PanicError is the error of a run that panicked.
type PanicError struct {
	// Value is the value of the panic.
	Value any
	// Stack is the stack of the goroutine that panicked, as debug.Stack formats it.
	Stack []byte
}

// Error shows Value but not Stack.
func (e *PanicError) Error() string { return fmt.Sprintf("run panicked: %v", e.Value) }

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// New returns a Fleet that calls run for the DataPlanes of an informer. run is called from
// many goroutines at once and must not be nil. The caller starts the informer and keeps it
// running while the Fleet runs. The informer must keep the credentials of its objects, so
// don't drop secrets from them.
func New(informer cache.SharedIndexInformer, run func(context.Context, *remote.Cluster) error, opts Options) *Fleet {
	f := &Fleet{informer: informer, run: run, options: opts.withDefaults()}
	if opts.StartLimit > 0 {
		f.starting = make(chan struct{}, opts.StartLimit)
	}
	return f
}

// Run runs the Fleet until ctx ends. Then it ends all runs and returns when each has
// returned or was given up. It returns nil, or an [ErrOverdue] that names the data planes
// whose runs have not returned by then. A Fleet may be run again after Run has returned, not
// before.
func (f *Fleet) Run(ctx context.Context) error {
	f.mu.Lock()
	if f.running {
		f.mu.Unlock()
		return errors.New("fleet runs already")
	}
	f.running = true
	f.members, f.overdue = map[types.NamespacedName]*member{}, map[types.NamespacedName]int{}
	f.mu.Unlock()

	runs, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	observe := func(obj any) { f.observe(runs, obj) }
	registration, err := f.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: observe, UpdateFunc: func(_, obj any) { observe(obj) }, DeleteFunc: observe,
	})
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running = false
		return fmt.Errorf("fleet: watch data planes: %w", err)
	}
	<-ctx.Done()
	f.mu.Lock() // no loop begins after this
	stop(fmt.Errorf("%w: %w", ErrStopped, context.Cause(ctx)))
	f.mu.Unlock()
	err = f.informer.RemoveEventHandler(registration)
	f.loops.Wait()

	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = false
	if len(f.overdue) > 0 {
		var names []string
		for key := range maps.Keys(f.overdue) {
			names = append(names, key.String())
		}
		slices.Sort(names)
		err = errors.Join(err, fmt.Errorf("fleet: %w: %s", ErrOverdue, strings.Join(names, ", ")))
	}
	return err
}

// observe updates a member to the object that the informer has now, which may be newer than
// that of the event. The informer calls it for one event at a time, and perhaps still once
// after Run has returned.
func (f *Fleet) observe(runs context.Context, obj any) {
	name, err := cache.DeletionHandlingObjectToName(obj)
	if err != nil {
		return
	}
	key := types.NamespacedName{Namespace: name.Namespace, Name: name.Name}
	obj, _, err = f.informer.GetIndexer().GetByKey(name.String())
	if err != nil {
		return
	}
	dp, _ := obj.(*v1alpha1.DataPlane)

	// The options call functions of the user, so not with the lock held.
	var before *v1alpha1.DataPlane
	wasSelected := false
	f.mu.Lock()
	if m := f.members[key]; m != nil && m.dp != nil && dp != nil && m.dp.UID == dp.UID {
		before, wasSelected = m.dp, m.selected
	}
	f.mu.Unlock()
	selected := dp != nil && (f.options.Filter == nil || f.options.Filter(dp, wasSelected))
	changed := before != nil && before != dp && f.options.RestartOn != nil && f.options.RestartOn(before, dp)

	f.mu.Lock()
	defer f.mu.Unlock()
	if runs.Err() != nil {
		return
	}
	m := f.members[key]
	if m == nil {
		if !selected {
			return
		}
		m = &member{fleet: f, key: key, wake: make(chan struct{}, 1)}
		f.members[key] = m
		f.loops.Add(1)
		go func() {
			defer f.loops.Done()
			m.loop(runs)
		}()
	}
	if cause := m.update(dp, selected, changed); cause != nil && m.cancel != nil {
		m.cancel(cause)
	}
	select {
	case m.wake <- struct{}{}:
	default: // it is awake
	}
}

// acquireStart waits until one more run may start. The caller calls started when it has.
func (f *Fleet) acquireStart(ctx context.Context) (started func(), _ error) {
	if f.starting == nil {
		return func() {}, nil
	}
	select {
	case f.starting <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	release := sync.OnceFunc(func() { <-f.starting })
	if f.options.StartTimeout < 0 {
		return release, nil
	}
	timer := time.AfterFunc(f.options.StartTimeout, release)
	return func() { timer.Stop(); release() }, nil
}

type startedKey struct{}

// MarkStarted tells the Fleet that the run with this context has done its initial work, such
// as filling caches; see Options.StartLimit and [Backoff]. It does nothing with another context.
func MarkStarted(ctx context.Context) {
	if started, ok := ctx.Value(startedKey{}).(func()); ok {
		started()
	}
}
