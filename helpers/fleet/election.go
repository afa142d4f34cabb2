// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// begin takes part in the election for a shard, until its term ends. It needs the lock.
func (r *replica) begin(shard int) {
	t := newTerm(shard)
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	r.terms[shard] = t
	go r.run(ctx, t)
}

// end ends the runs of a shard, and then the election, which renews the Lease until then. It
// needs the lock.
func (r *replica) end(t *term, cause error) {
	if t.ctx.Err() != nil {
		return
	}
	r.fleet.drop(t, cause)
	go func() {
		t.planes.Wait()
		t.stop()
	}()
}

// lose ends the runs of a shard whose Lease is no longer renewed. It needs the lock.
func (r *replica) lose(t *term) {
	r.end(t, ErrShardLost)
	time.AfterFunc(r.LeaseDuration-r.renewDeadline()-r.retryPeriod(), t.cut)
}

// run leads a shard once, until ctx ends or the Lease is lost.
func (r *replica) run(ctx context.Context, t *term) {
	f := r.fleet
	r.elect(ctx, r.leaseName(t.shard), func() { r.lead(t) })
	f.mu.Lock()
	r.lose(t)
	f.mu.Unlock()
	t.planes.Wait()
	if t.leads() && f.options.Hooks.OnShardLost != nil {
		f.options.Hooks.OnShardLost(t.shard, context.Cause(t.ctx))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(r.terms, t.shard)
	r.again() // it frees the Lease
}

// elect takes part in the election for a Lease, once, until ctx ends or the Lease is lost. It
// doesn't release the Lease, because runs have not ended when it is lost.
func (r *replica) elect(ctx context.Context, lease string, won func()) {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: r.Namespace, Name: lease},
			Client:     r.Leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: r.identity},
		},
		Name:          lease,
		LeaseDuration: r.LeaseDuration, RenewDeadline: r.renewDeadline(), RetryPeriod: r.retryPeriod(),
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { won() },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil { // validate has missed something
		r.fleet.fail(err)
		return
	}
	elector.Run(ctx)
}

// lead starts the runs of a shard.
func (r *replica) lead(t *term) {
	f := r.fleet
	f.mu.Lock()
	if t.ctx.Err() != nil {
		f.mu.Unlock()
		return
	}
	t.led = time.Now()
	t.planes.Add(1) // the term does not end before the hook
	defer t.planes.Done()
	f.mu.Unlock()
	if f.options.Hooks.OnShardGained != nil {
		f.options.Hooks.OnShardGained(t.shard)
	}
	f.gain(t)
}

func (t *term) leads() bool { return !t.led.IsZero() }
