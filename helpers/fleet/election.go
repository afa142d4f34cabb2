// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lease is a Lease that a replica sees. As in leader election, each trusts only its own clock:
// since is when this one first saw it as it is.
type lease struct {
	*coordinationv1.Lease
	since time.Time
}

// record returns what the Lease says; nothing if there is none.
func (l lease) record() resourcelock.LeaderElectionRecord {
	if l.Lease == nil {
		return resourcelock.LeaderElectionRecord{}
	}
	return *resourcelock.LeaseSpecToLeaderElectionRecord(&l.Spec)
}

func (l lease) holder() string { return l.record().HolderIdentity }

func (l lease) expired() bool {
	return time.Since(l.since) > time.Duration(l.record().LeaseDurationSeconds)*time.Second
}

var errNoAnswer = errors.New("the API server doesn't answer")

// begin takes part in the election for a shard, until its term ends. seen is the Lease, which
// nobody holds. It needs the lock.
func (r *replica) begin(ctx context.Context, shard int, seen lease) {
	t := newTerm(ctx, shard)
	ctx, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.terms[shard] = t
	r.work.Add(1)
	go r.runShard(ctx, t, seen)
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

// cut ends the runs of a shard at once, because another replica may run them. It needs the lock.
func (r *replica) cut(t *term) {
	r.end(t, ErrShardLost)
	t.abort()
}

// runShard leads a shard once, until ctx ends or the Lease is lost.
func (r *replica) runShard(ctx context.Context, t *term, seen lease) {
	defer r.work.Done()
	f := r.fleet
	if seen.expired() && seen.holder() != "" {
		// It has expired, but an election would watch it for as long again first.
		freed := seen.DeepCopy()
		freed.Spec.HolderIdentity = new(string)
		_, _ = r.leases.Update(ctx, freed, metav1.UpdateOptions{}) // unless it was renewed
	}
	lock := r.elect(ctx, r.leaseName(t.shard), func() { r.won(t) })
	f.mu.Lock()
	r.end(t, ErrShardLost)
	f.mu.Unlock()
	time.AfterFunc(r.LeaseDuration-r.renewDeadline()-r.retryPeriod(), t.abort) // before the Lease expires
	t.planes.Wait()
	f.mu.Lock()
	led := t.isLeader()
	t.led = time.Time{}
	f.mu.Unlock()
	if led && f.options.Hooks.OnShardLost != nil {
		f.options.Hooks.OnShardLost(t.shard, context.Cause(t.ctx))
	}
	r.release(ctx, lock)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(r.terms, t.shard)
	wakeUp(r.wake)
}

// elect takes part in the election for a Lease, once. It returns when ctx ends, the Lease is
// lost, or it isn't won within the renew deadline: client-go would wait for a lost answer for
// ever. It doesn't release the Lease, because runs have not ended when it is lost.
func (r *replica) elect(ctx context.Context, lease string, won func()) resourcelock.Interface {
	lock := &notingLock{&resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: r.Namespace, Name: lease},
		Client:     r.leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: r.identity},
	}, r, lease}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	trying := time.AfterFunc(r.renewDeadline(), func() { cancel(errNoAnswer) })
	defer trying.Stop()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: lease,
		LeaseDuration: r.LeaseDuration, RenewDeadline: r.renewDeadline(), RetryPeriod: r.retryPeriod(),
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {
				if trying.Stop() {
					won()
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil { // validate has missed something
		r.fleet.endWith(err)
	} else {
		elector.Run(ctx)
	}
	return lock
}

// release lets go of a Lease if this replica still has it. Otherwise, or if that can't be done
// soon, it expires.
func (r *replica) release(ctx context.Context, lock resourcelock.Interface) {
	_ = wait.PollUntilContextTimeout(context.WithoutCancel(ctx), r.retryPeriod(), r.renewDeadline(), true, func(ctx context.Context) (bool, error) {
		record, _, err := lock.Get(ctx)
		if err != nil {
			return apierrors.IsNotFound(err), nil
		}
		if record.HolderIdentity != r.identity {
			return true, nil
		}
		record.HolderIdentity = ""
		return lock.Update(ctx, *record) == nil, nil
	})
}

// won starts the runs of a shard.
func (r *replica) won(t *term) {
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

func (t *term) isLeader() bool { return !t.led.IsZero() }
