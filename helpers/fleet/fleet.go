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
// Each run has its own [remote.Cluster], which is closed when the run has returned. When the
// credentials of the DataPlane change, the run continues and its Cluster uses the new ones. If
// they can't be used, requests fail until the DataPlane is corrected. A run that stops follows such
// changes until it has returned.
//
// The context of a run ends with a cause that errors.Is finds:
//
//   - [helpers.ErrDeleted] when the DataPlane is gone. While the DataPlane waits for finalizers,
//     the run continues.
//   - [helpers.ErrReplaced] when another object has the DataPlane's name.
//   - [remote.ErrServerChanged] when the DataPlane has another API server. A new run follows.
//   - [ErrDataPlaneChanged] when Options.RestartOn returns true. A new run follows.
//   - [ErrNotSelected] when Options.Filter no longer selects the DataPlane.
//   - [ErrShardLost] when another replica takes over the DataPlane's shard; see [Sharding].
//   - [ErrStopped], and the reason, when the Fleet ends.
//
// A run must return when its context ends. If it doesn't within Options.StopGrace, the Fleet
// abandons it: it closes the run's Cluster, so that the run can't reach the data plane, and
// stops waiting. Two runs for one data plane never have an open Cluster at the same time.
//
// When a run returns an error, or no Cluster can be made from the DataPlane, the Fleet tries
// again after a pause; see [Backoff]. A panic, even in ConfigFor, becomes a [*PanicError]. When a
// run returns nil, the data plane is done: the next run follows only when the DataPlane is
// replaced, has another API server, or Options.RestartOn returns true. This is not stored: a replica
// that takes over the shard, and another call of Run, begin another run.
//
// Runs don't wait for each other, unless Options.StartLimit is set.
type Fleet struct {
	run       func(context.Context, *remote.Cluster) error
	options   Options
	informers []*informer
	starting  chan struct{} // has one token for each run that is starting; nil without StartLimit

	observing sync.Mutex // held while an object is compared with its previous version

	mu      sync.Mutex
	running bool
	fail    context.CancelCauseFunc // ends Run with an error
	terms   map[int]*term           // the terms that have started, by shard
	planes  map[types.NamespacedName]*plane
	overdue map[types.NamespacedName]int // how many abandoned runs have not returned
	replica *shards.Replica              // nil without Sharding
	syncing bool                         // with Sharding: Run waits for the informers
}

// New returns a Fleet that calls run for each object of informers, from many goroutines at once.
// run must not be nil. The informers are of DataPlanes, of ClusterDataPlanes (used as
// [v1alpha1.ClusterDataPlane.AsDataPlane]), or of both. They watch the same management cluster,
// since a Fleet knows data planes by namespace and name, and have no object in common. A nil
// informer is left out.
// The caller starts them and keeps them running while the Fleet runs. They must keep the
// credentials of their objects: don't use a transform that drops secrets.
//
// If one informer can't list, because its kind isn't installed or a right is missing, the
// objects of the others still have runs; [Status] shows the error.
//
// Call New before the informers start: it sets their watch error handlers, so that Status can
// show their errors. The handler logs each error, as client-go's own does. An informer has only
// one handler: after another is set, by you or by a second Fleet, the first Fleet no longer learns
// of errors. With [Sharding], it then takes no shard while the informer can't list.
func New(run func(context.Context, *remote.Cluster) error, opts Options, informers ...cache.SharedIndexInformer) *Fleet {
	f := &Fleet{run: run, options: opts.withDefaults(), overdue: map[types.NamespacedName]int{}}
	if opts.StartLimit > 0 {
		f.starting = make(chan struct{}, opts.StartLimit)
	}
	for _, i := range informers {
		if i != nil {
			f.informers = append(f.informers, newInformer(i))
		}
	}
	return f
}

// Run runs the Fleet until ctx ends. It then cancels all runs, and returns when each has returned
// or was abandoned: nil, or an [ErrOverdue] that names the data planes whose runs have not
// returned.
//
// It returns an error at once if the options are invalid. It ends with an error if an informer
// stops before ctx ends, if an informer holds objects of another type, or if a right that
// [Sharding] needs is missing. Run may be called again after it has returned.
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
		return errors.New("fleet: already running")
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

// leadAll returns a function that runs all data planes until ctx ends. The caller holds f.mu.
func (f *Fleet) leadAll(ctx context.Context) func() {
	all := f.newTerm(ctx, 0)
	f.terms[0] = all
	return func() {
		<-ctx.Done()
		all.CancelRuns(context.Cause(ctx))
		all.Wait()
	}
}

// leadShards returns a function that runs the data planes of this replica's shards until ctx ends.
// The caller holds f.mu.
func (f *Fleet) leadShards(ctx context.Context) func() {
	replica := shards.New(f.options.Sharding.options(func(shard int) shards.Term { return f.newTerm(ctx, shard) }))
	f.replica, f.syncing = replica, true
	return func() {
		f.awaitSync(ctx) // until then, it would lead shards and not run their data planes
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
