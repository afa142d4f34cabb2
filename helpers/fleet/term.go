// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/client-go/tools/cache"
)

// term is the time during which the data planes of a shard may have runs in this Fleet.
type term struct {
	fleet     *Fleet
	shard     int
	ctx       context.Context // the parent of its runs' contexts; doesn't end with Run's
	cancel    context.CancelCauseFunc
	abandoned context.Context
	abandon   context.CancelFunc
	loops     sync.WaitGroup // one for each plane
	started   bool           // guarded by Fleet.mu
}

func (f *Fleet) newTerm(ctx context.Context, shard int) *term {
	t := &term{fleet: f, shard: shard}
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	t.abandoned, t.abandon = context.WithCancel(context.Background())
	return t
}

// Start starts the runs of the shard's data planes, unless CancelRuns was called before.
func (t *term) Start() {
	f := t.fleet
	f.mu.Lock()
	t.started = t.ctx.Err() == nil
	if !t.started {
		f.mu.Unlock()
		return
	}
	t.loops.Add(1) // the term doesn't end before the hook has returned
	defer t.loops.Done()
	f.mu.Unlock()
	if f.options.Hooks.OnShardGained != nil {
		f.options.Hooks.OnShardGained(t.shard)
	}
	f.mu.Lock()
	started := t.ctx.Err() == nil
	if started {
		f.terms[t.shard] = t
	}
	f.mu.Unlock()
	if !started {
		return
	}
	for _, i := range f.informers {
		for _, key := range i.GetIndexer().ListKeys() {
			if name, err := cache.ParseObjectName(key); err == nil && f.shardOf(name) == t.shard {
				f.refresh(i, name)
			}
		}
	}
}

// CancelRuns ends the contexts of the runs, with ErrShardLost or with ErrStopped and the cause. No
// run starts afterwards.
func (t *term) CancelRuns(cause error) {
	if !errors.Is(cause, ErrShardLost) {
		cause = fmt.Errorf("%w: %w", ErrStopped, cause)
	}
	t.fleet.mu.Lock()
	defer t.fleet.mu.Unlock()
	if t.fleet.terms[t.shard] == t {
		delete(t.fleet.terms, t.shard)
	}
	t.cancel(cause)
}

// AbandonRuns abandons the canceled runs that have not returned.
func (t *term) AbandonRuns() { t.abandon() }

// Wait waits until all runs have returned or were abandoned.
func (t *term) Wait() { t.loops.Wait() }

// End calls OnShardLost if OnShardGained was called.
func (t *term) End() {
	t.fleet.mu.Lock()
	started := t.started
	t.fleet.mu.Unlock()
	if started && t.fleet.options.Hooks.OnShardLost != nil {
		t.fleet.options.Hooks.OnShardLost(t.shard, context.Cause(t.ctx))
	}
}
