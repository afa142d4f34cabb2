// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/shards"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// Fleet calls a function for each data plane of its informers. One such call is a run.
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
// abandons it: it closes the run's Cluster, so that the run can't reach the data plane, and
// goes on without it. Two runs for one data plane never have an open Cluster at the same time.
//
// When a run returns an error, or no Cluster can be made of the DataPlane, the Fleet waits,
// see [Backoff], and tries again. A panic, also of ConfigFor, counts as an error, a
// [*PanicError]. When a run returns nil, the data plane is done: there is no other run until
// the DataPlane is replaced, has another API server, or Options.RestartOn asks for it.
//
// Runs don't wait for each other, unless Options.StartLimit makes them.
type Fleet struct {
	run       func(context.Context, *remote.Cluster) error
	options   Options
	informers []*informer
	starting  chan struct{} // holds one for each run that starts, when that is limited

	observing sync.Mutex // held while an object is compared with the one before

	mu      sync.Mutex
	running bool
	fail    context.CancelCauseFunc // ends Run with an error
	terms   map[int]*term           // that have started, by shard
	planes  map[types.NamespacedName]*plane
	overdue map[types.NamespacedName]int // runs that were abandoned and have not returned
	replica *shards.Replica              // nil without Sharding
	syncing bool                         // Sharding waits for the informers
}

// New returns a Fleet that calls run for the objects of informers, which are those of DataPlanes,
// of ClusterDataPlanes (as [v1alpha1.ClusterDataPlane.AsDataPlane]), or of both. No object may be
// in two of them. run is called from many goroutines at once and must not be nil. The caller
// starts the informers and keeps them running while the Fleet runs. They must keep the
// credentials of their objects, so don't drop secrets from them.
//
// An informer that can't list, because its kind isn't installed or a right is missing, keeps
// nothing from the objects of the others; [Status] says why.
//
// Call New before the informers start: it sets their watch error handlers, so that Status can
// say why they can't list. Like client-go's own, it logs each error. An informer has one handler: if
// you set another after New, or make a second Fleet of the informer, the first Fleet doesn't learn
// its errors. With [Sharding], that Fleet then takes no shard while the informer can't list.
func New(run func(context.Context, *remote.Cluster) error, opts Options, informers ...cache.SharedIndexInformer) *Fleet {
	f := &Fleet{run: run, options: opts.withDefaults(), overdue: map[types.NamespacedName]int{}}
	if opts.StartLimit > 0 {
		f.starting = make(chan struct{}, opts.StartLimit)
	}
	for _, i := range informers {
		f.informers = append(f.informers, newInformer(i))
	}
	return f
}

// Run runs the Fleet until ctx ends. Then it ends all runs and returns when each has
// returned or was abandoned. It returns nil, or an [ErrOverdue] that names the data planes
// whose runs have not returned by then.
//
// It returns an error at once if the options are wrong, and ends with one if an informer
// stops before ctx ends or holds objects of another type, or if a right that [Sharding]
// needs is missing. A Fleet may be run again after Run has returned, not before.
func (f *Fleet) Run(ctx context.Context) error {
	if err := f.options.validate(); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	if len(f.informers) == 0 {
		return errors.New("fleet: informers: at least one is required")
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
	var lead func()
	if f.options.Sharding == nil {
		lead = f.leadAll(running)
	} else {
		lead = f.leadShards(running)
	}
	f.mu.Unlock()

	stop := f.observe()
	var watching wait.Group
	watching.Start(func() { f.endWithInformers(ctx, running) })
	lead()
	watching.Wait()
	stop()
	var err error
	// errors.Is doesn't find a slice, such as Kubernetes' Aggregate, in itself.
	if cause := context.Cause(running); !reflect.DeepEqual(cause, context.Cause(ctx)) { //nolint:govet // they are the same value, not alike
		err = cause
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = false
	if len(f.overdue) > 0 {
		var names []string
		for key := range f.overdue {
			names = append(names, dataplane.Name(key.Namespace, key.Name))
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

// leadAll returns a function that runs all data planes until ctx ends. It needs the lock.
func (f *Fleet) leadAll(ctx context.Context) func() {
	all := f.newTerm(ctx, 0)
	f.terms[0] = all
	return func() {
		<-ctx.Done()
		all.CancelRuns(context.Cause(ctx))
		all.Wait()
	}
}

// leadShards returns a function that runs the data planes of the shards that fall to this
// replica until ctx ends. It needs the lock.
func (f *Fleet) leadShards(ctx context.Context) func() {
	replica := shards.New(f.options.Sharding.options(func(shard int) shards.Term { return f.newTerm(ctx, shard) }))
	f.replica, f.syncing = replica, true
	return func() {
		f.awaitSync(ctx) // before it, this replica would leave data planes without a run
		f.mu.Lock()
		f.syncing = false
		f.mu.Unlock()
		if err := replica.Run(ctx); err != nil {
			f.endWith(err)
		}
	}
}

// shardOf returns the shard of a data plane. Without Sharding, there is only shard 0.
func (f *Fleet) shardOf(key cache.ObjectName) int {
	if f.options.Sharding == nil {
		return 0
	}
	return shards.Of(key.String(), f.options.Sharding.Shards)
}
