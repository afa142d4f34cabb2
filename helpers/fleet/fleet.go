// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Fleet calls a function for each data plane of an informer. One such call is a run.
//
// Each run has its own [remote.Cluster]. When the credentials of the DataPlane change, the
// run goes on, and the Cluster uses the new ones; if they can't be used, its requests fail
// until the DataPlane is mended. The Cluster is closed when the run has returned. The
// context of a run ends, with a cause that errors.Is finds,
//
//   - with [helpers.ErrDeleted] when the DataPlane is gone; while it only waits for
//     finalizers, the run goes on;
//   - with [helpers.ErrReplaced] when another object has its name;
//   - with [remote.ErrServerChanged] when it has another API server, or with
//     [ErrDataPlaneChanged] when Options.RestartOn asks for it; a new run follows;
//   - with [ErrNotSelected] when Options.Filter no longer selects it;
//   - with [ErrShardLost] when another replica takes it over, see [Sharding];
//   - with [ErrStopped], and the reason, when the Fleet ends.
//
// A run must return when its context ends. If it doesn't within Options.StopGrace, the Fleet
// gives it up: it closes the run's Cluster, so that the run can't reach the data plane, and
// goes on without it. Two runs for one data plane never have an open Cluster at the same time.
//
// When a run returns an error, or no Cluster can be made of the DataPlane, the Fleet waits,
// see [Backoff], and tries again. A panic, also of ConfigFor, counts as an error, a
// [*PanicError]. When a run returns nil, the data plane is done: there is no other run until
// the DataPlane is replaced, has another API server, or Options.RestartOn asks for it.
//
// Runs don't wait for each other, unless Options.StartLimit makes them.
type Fleet struct {
	informer cache.SharedIndexInformer
	run      func(context.Context, *remote.Cluster) error
	options  Options
	starting chan struct{} // holds one for each run that starts, when that is limited

	observing sync.Mutex // held while an object is compared with the one before

	deaf bool // to the errors of the informer, which has started before New

	mu      sync.Mutex
	running bool
	fail    context.CancelCauseFunc // ends Run with an error
	terms   map[int]*term           // by shard; without Sharding, all data planes are one
	planes  map[types.NamespacedName]*plane
	overdue map[types.NamespacedName]int // runs that were given up and have not returned
	replica *replica                     // nil without Sharding

	informerError     string
	informerErrorTime time.Time
}

// New returns a Fleet that calls run for the DataPlanes of an informer. run is called from
// many goroutines at once and must not be nil. The caller starts the informer and keeps it
// running while the Fleet runs. The informer must keep the credentials of its objects, so
// don't drop secrets from them.
//
// Call New before the informer starts: it sets the informer's watch error handler, so that
// [Status] can say why the informer can't list. Like client-go's own, it logs each error. To
// use another handler, set that after New. An informer has one handler: of several Fleets of one
// informer, the Status of the last one has its errors.
func New(informer cache.SharedIndexInformer, run func(context.Context, *remote.Cluster) error, opts Options) *Fleet {
	f := &Fleet{informer: informer, run: run, options: opts.withDefaults(), overdue: map[types.NamespacedName]int{}}
	if opts.StartLimit > 0 {
		f.starting = make(chan struct{}, opts.StartLimit)
	}
	err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		f.noteInformerError(err.Error())
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
	if err != nil {
		f.deaf = true
	}
	return f
}

// Run runs the Fleet until ctx ends. Then it ends all runs and returns when each has
// returned or was given up. It returns nil, or an [ErrOverdue] that names the data planes
// whose runs have not returned by then.
//
// It returns an error at once if the options are wrong, and ends with one if the informer
// stops before ctx ends or holds objects of another type, or if a right that [Sharding]
// needs is missing. A Fleet may be run again after Run has returned, not before.
func (f *Fleet) Run(ctx context.Context) error {
	if err := f.options.validate(); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	f.mu.Lock()
	if f.running {
		f.mu.Unlock()
		return errors.New("fleet: runs already")
	}
	f.running, f.fail = true, fail
	f.planes, f.terms = map[types.NamespacedName]*plane{}, map[int]*term{}
	all := newTerm(ctx, 0)
	if f.options.Sharding == nil {
		f.terms[0] = all
	}
	f.mu.Unlock()

	registration, err := f.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: f.observe, UpdateFunc: func(_, obj any) { f.observe(obj) }, DeleteFunc: f.observe,
	})
	if err != nil {
		fail(fmt.Errorf("watch data planes: %w", err))
	}
	var watching wait.Group
	watching.Start(func() { f.watchInformer(ctx, running) })
	if f.options.Sharding != nil {
		f.runShards(running)
	} else {
		f.runAll(running, all)
	}
	watching.Wait()
	_ = f.informer.RemoveEventHandler(registration) // fails if there is none
	err = nil
	if cause := context.Cause(running); !errors.Is(cause, context.Cause(ctx)) {
		err = cause
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = false
	if len(f.overdue) > 0 {
		var names []string
		for key := range f.overdue {
			names = append(names, key.String())
		}
		slices.Sort(names)
		err = errors.Join(err, fmt.Errorf("%w: %s", ErrOverdue, strings.Join(names, ", ")))
	}
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// endWith ends Run with an error.
func (f *Fleet) endWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail(err)
}

// noteInformerError keeps the last error of the informer for Status.
func (f *Fleet) noteInformerError(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.informerError, f.informerErrorTime = text, time.Now()
}

// watchInformer ends Run when the informer has stopped, which no channel tells. If it stops
// because ctx has ended, that is no error, even if running has not ended yet.
func (f *Fleet) watchInformer(ctx, running context.Context) {
	wait.UntilWithContext(running, func(context.Context) {
		if f.informer.IsStopped() && ctx.Err() == nil {
			f.endWith(errors.New("the informer has stopped"))
		}
	}, time.Second)
}

// runAll runs all data planes until ctx ends.
func (f *Fleet) runAll(ctx context.Context, all *term) {
	<-ctx.Done()
	f.mu.Lock()
	f.drop(all, stopped(ctx))
	f.mu.Unlock()
	all.planes.Wait()
}

func stopped(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrStopped, context.Cause(ctx))
}

// term is a time in which the data planes of a shard have runs here.
type term struct {
	shard  int
	ctx    context.Context // of its runs
	end    context.CancelCauseFunc
	giveUp context.Context // ended when runs that have not returned are given up
	abort  func()          // ends it
	planes sync.WaitGroup  // one for each loop

	// With Sharding and the Fleet's lock:
	stop context.CancelFunc // ends the election that it lasts for
	led  time.Time          // when that was won; zero before
}

// newTerm returns a term that ends by itself, and not with ctx.
func newTerm(ctx context.Context, shard int) *term {
	t := &term{shard: shard}
	t.giveUp, t.abort = context.WithCancel(context.Background())
	t.ctx, t.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return t
}

// gain begins a term, unless it has ended.
func (f *Fleet) gain(t *term) {
	f.mu.Lock()
	gained := t.ctx.Err() == nil
	if gained {
		f.terms[t.shard] = t
	}
	f.mu.Unlock()
	if !gained {
		return
	}
	for _, key := range f.informer.GetIndexer().ListKeys() {
		if name, err := cache.ParseObjectName(key); err == nil && f.options.shardOf(name) == t.shard {
			f.refresh(name)
		}
	}
}

// drop ends a term: no run starts after it. It needs the lock.
func (f *Fleet) drop(t *term, cause error) {
	if f.terms[t.shard] == t {
		delete(f.terms, t.shard)
	}
	t.end(cause)
	for _, p := range f.planes {
		if p.term == t {
			wakeUp(p.wake)
		}
	}
}

// observe is called for an event of the informer.
func (f *Fleet) observe(obj any) {
	name, err := cache.DeletionHandlingObjectToName(obj)
	if err != nil {
		f.endWith(fmt.Errorf("informer holds a %T: %w", obj, err))
		return
	}
	f.refresh(name)
}

// refresh brings a plane up to date with what the informer has, which may be newer than an event.
func (f *Fleet) refresh(name cache.ObjectName) {
	f.observing.Lock()
	defer f.observing.Unlock()
	key := types.NamespacedName{Namespace: name.Namespace, Name: name.Name}
	obj, exists, err := f.informer.GetIndexer().GetByKey(name.String())
	dp, ok := obj.(*v1alpha1.DataPlane)
	if err != nil || exists && !ok {
		f.endWith(fmt.Errorf("informer holds a %T, not a *v1alpha1.DataPlane", obj))
		return
	}
	shard := f.options.shardOf(name)

	// The options call functions of the user, so not with the lock held.
	var before *v1alpha1.DataPlane
	wasSelected := false
	f.mu.Lock()
	t := f.terms[shard]
	if p := f.planes[key]; p != nil && p.dp != nil && dp != nil && p.dp.UID == dp.UID {
		before, wasSelected = p.dp, p.selected
	}
	f.mu.Unlock()
	if t == nil {
		return
	}
	selected := dp != nil && (f.options.Filter == nil || f.options.Filter(dp, wasSelected))
	changed := before != nil && before != dp && f.options.RestartOn != nil && f.options.RestartOn(before, dp)

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.terms[shard] != t {
		return
	}
	p := f.planes[key]
	if p == nil {
		if !selected {
			return
		}
		p = &plane{fleet: f, term: t, key: key, wake: make(chan struct{}, 1)}
		f.planes[key] = p
		t.planes.Add(1)
		go p.loop()
	}
	if cause := p.update(dp, selected, changed); cause != nil && p.cancel != nil {
		p.cancel(cause)
	}
	wakeUp(p.wake)
}

// acquireStart waits until one more run may start. The caller calls release when that
// has started or ended.
func (f *Fleet) acquireStart(ctx context.Context) (release func(), _ error) {
	if f.starting == nil {
		return func() {}, nil
	}
	select {
	case f.starting <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	once := sync.OnceFunc(func() { <-f.starting })
	if f.options.StartTimeout < 0 {
		return once, nil
	}
	timer := time.AfterFunc(f.options.StartTimeout, once)
	return func() { timer.Stop(); once() }, nil
}
