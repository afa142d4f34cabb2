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
	ending bool // its runs were canceled
	leads  bool // it has won, and its runs have not ended
}

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
		c.leads = !c.ending
		r.mu.Unlock()
		c.term.Start()
	})
	r.mu.Lock()
	r.yieldShard(c, ErrLost)
	r.mu.Unlock()
	expiry := lock.renewed.Add(r.LeaseDuration) // long ago if this replica doesn't hold the Lease
	abandon := time.AfterFunc(time.Until(expiry), c.term.AbandonRuns)
	c.term.Wait()
	abandon.Stop()
	r.mu.Lock()
	c.leads = false
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
func (r *Replica) elect(ctx context.Context, lease string, won func()) *electionLock {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lock := &electionLock{LeaseLock: resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: r.Namespace, Name: lease},
		Client:     r.leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: r.identity},
	}, replica: r, end: cancel}
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

// release releases a Lease, if this replica still holds it. If the requests fail for the renew
// deadline, the Lease expires instead.
func (r *Replica) release(ctx context.Context, lock *electionLock) {
	_ = wait.PollUntilContextTimeout(context.WithoutCancel(ctx), r.retryPeriod(), r.renewDeadline(), true, func(ctx context.Context) (bool, error) {
		record, _, err := lock.Get(ctx)
		if err == nil && record.HolderIdentity == r.identity {
			record.HolderIdentity = ""
			err = lock.Update(ctx, *record)
		}
		return err == nil || errors.Is(err, errNotHeld) || apierrors.IsNotFound(err), nil
	})
}

var errNotHeld = errors.New("this replica no longer holds the Lease")

// electionLock is the Lease of an election. It notes the errors of requests, which client-go only
// logs. It ends the election when this replica no longer holds the Lease. Otherwise client-go would
// take back a Lease that another replica has taken and then released or deleted, and the runs would
// continue as if nothing had happened.
type electionLock struct {
	resourcelock.LeaseLock
	replica *Replica
	end     context.CancelCauseFunc // ends the election
	renewed time.Time               // when the last successful write was sent; zero when the Lease isn't held
}

func (l *electionLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.LeaseLock.Get(ctx)
	gone := apierrors.IsNotFound(err)
	switch {
	case err != nil && !gone:
		l.replica.note(ctx, l.LeaseMeta.Name, err)
	case !l.renewed.IsZero() && (gone || record.HolderIdentity != l.Identity()):
		l.replica.note(ctx, l.LeaseMeta.Name, nil)
		l.renewed = time.Time{}
		l.end(errNotHeld)
		return nil, nil, errNotHeld
	case !gone && record.HolderIdentity != "" && record.HolderIdentity != l.Identity():
		l.replica.note(ctx, l.LeaseMeta.Name, nil) // somebody else holds the Lease, so no write follows
	}
	return record, raw, err // if a write follows, its result is noted
}

func (l *electionLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	sent := time.Now()
	err := l.LeaseLock.Create(ctx, record)
	l.wrote(ctx, sent, err)
	return err
}

func (l *electionLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	sent := time.Now()
	err := l.LeaseLock.Update(ctx, record)
	l.wrote(ctx, sent, err)
	return err
}

func (l *electionLock) wrote(ctx context.Context, sent time.Time, err error) {
	if err == nil {
		l.renewed = sent
	}
	l.replica.note(ctx, l.LeaseMeta.Name, err)
}
