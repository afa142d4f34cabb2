// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package shards

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// candidacy is this replica's part in the election for a shard, from when it stands until the
// Lease is released.
type candidacy struct {
	shard int
	term  Term
	leave context.CancelFunc // ends the election

	// Guarded by Replica.mu:
	ending   bool      // its runs were canceled
	ledSince time.Time // when it won; zero before, and after its runs have ended
}

func (c *candidacy) leads() bool { return !c.ledSince.IsZero() }

// stand makes this replica a candidate for a shard. seen is the shard's Lease, which nobody holds.
// The caller holds r.mu.
func (r *Replica) stand(ctx context.Context, shard int, seen lease) {
	c := &candidacy{shard: shard, term: r.NewTerm(shard)}
	ctx, c.leave = context.WithCancel(context.WithoutCancel(ctx))
	r.candidacies[shard] = c
	r.work.Add(1)
	go r.lead(ctx, c, seen)
}

// yieldShard ends the runs of a shard, and then the election, which renews the Lease until then.
// The caller holds r.mu.
func (r *Replica) yieldShard(c *candidacy, cause error) {
	if c.ending {
		return
	}
	c.ending = true
	c.term.CancelRuns(cause)
	go func() {
		c.term.Wait()
		c.leave()
	}()
}

// loseShard ends the runs of a shard at once, because another replica may lead it. The caller
// holds r.mu.
func (r *Replica) loseShard(c *candidacy) {
	r.yieldShard(c, ErrLost)
	c.term.AbandonRuns()
}

// lead stands for a shard and leads it, once, until the shard is yielded or the Lease is lost.
func (r *Replica) lead(ctx context.Context, c *candidacy, seen lease) {
	defer r.work.Done()
	if seen.expired() && seen.holder() != "" {
		// The Lease has expired, but an election would first watch it for another LeaseDuration.
		freed := seen.DeepCopy()
		freed.Spec.HolderIdentity = new(string)
		_, _ = r.leases.Update(ctx, freed, metav1.UpdateOptions{}) // fails if it was renewed
	}
	lock := r.elect(ctx, r.shardLease(c.shard), func() {
		r.mu.Lock()
		if !c.ending {
			c.ledSince = time.Now()
		}
		r.mu.Unlock()
		c.term.Start()
	})
	r.mu.Lock()
	r.yieldShard(c, ErrLost)
	r.mu.Unlock()
	abandon := time.AfterFunc(r.LeaseDuration-r.renewDeadline()-r.retryPeriod(), c.term.AbandonRuns) // before the Lease expires
	c.term.Wait()
	abandon.Stop()
	r.mu.Lock()
	c.ledSince = time.Time{}
	r.mu.Unlock()
	c.term.End()
	r.release(ctx, lock)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.candidacies, c.shard)
	r.wakeUp()
}

var errNoAnswer = errors.New("the API server doesn't answer")

// elect takes part in the election for a Lease, once. It returns when ctx ends, when the Lease is
// lost, or when it isn't won within the renew deadline: client-go sets no limit for that. It
// doesn't release the Lease, because runs have not ended when it is lost.
func (r *Replica) elect(ctx context.Context, lease string, won func()) resourcelock.Interface {
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
	if err != nil { // the options are invalid
		r.fail(err)
	} else {
		elector.Run(ctx)
	}
	return lock
}

// release releases a Lease that this replica still holds. If the requests fail for the renew
// deadline, the Lease expires instead.
func (r *Replica) release(ctx context.Context, lock resourcelock.Interface) {
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
