// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package shards

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// Options configure a [Replica]. All must be set.
type Options struct {
	// Leases is the client of the Leases, which are in Namespace and whose names begin with Name.
	Leases          coordinationv1client.LeasesGetter
	Namespace, Name string
	// Identity is the name of this replica. New makes it unique by a suffix.
	Identity string
	// Shards is the number of shards.
	Shards int
	// LeaseDuration is how long the Lease of a shard is kept for a replica that is gone.
	LeaseDuration time.Duration
	// NewTerm returns the term for a shard that this replica is a candidate for. It is called with
	// the Replica's lock held, so it must not call the Replica.
	NewTerm func(shard int) Term
}

// Term is the runs of a shard during one candidacy. CancelRuns and AbandonRuns may be called with
// the lock of the [Replica] held, so they must not call the Replica.
type Term interface {
	// Start is called when this replica leads the shard, perhaps after CancelRuns.
	Start()
	// CancelRuns ends the contexts of the runs, and keeps others from starting. It returns at
	// once. Of several causes, the first counts.
	CancelRuns(cause error)
	// AbandonRuns abandons the runs that have not returned. It is called after CancelRuns, perhaps
	// more than once, and perhaps even after End.
	AbandonRuns()
	// Wait returns when all runs have returned or were abandoned. It is called after CancelRuns,
	// and more than once. The Lease is held until then, unless it was lost.
	Wait()
	// End is called after Wait, when this replica no longer leads the shard, and before its Lease
	// is released.
	End()
}

// ErrLost is the cause of runs that end because another replica leads their shard, or may.
var ErrLost = errors.New("replica no longer leads the shard")

// RetryPeriod is the time between renewals of a Lease, and renewDeadline how long renewals may
// fail. The proportions are those of client-go's defaults: 15 s, 10 s and 2 s.
func RetryPeriod(leaseDuration time.Duration) time.Duration { return leaseDuration * 2 / 15 }

func (o Options) retryPeriod() time.Duration   { return RetryPeriod(o.LeaseDuration) }
func (o Options) renewDeadline() time.Duration { return o.LeaseDuration * 10 / 15 }

// Replica is this process, one of those that share the shards. In each round, it lists the Leases,
// stands for shards of its share, and yields others.
type Replica struct {
	Options
	leases   boundedLeases
	identity string // unique to this process
	member   string // the name of the Lease by which others see it
	wake     chan struct{}
	work     sync.WaitGroup // its goroutines
	fail     context.CancelCauseFunc
	checked  time.Time // when no right was missing

	mu              sync.Mutex
	leaveMembership context.CancelFunc // gives up the member Lease; nil without one
	publishedAt     time.Time          // when it got the member Lease; zero without one
	joined          bool               // a later list has shown no replica with another number of shards
	yieldUntil      time.Time          // after it has left: when it may join again
	listedAt        time.Time          // when the last successful list was sent
	forbiddenSince  time.Time          // since when a right is missing; zero if none is
	err             error              // of the last round
	failures        map[string]error   // errors of the last requests for Leases, by name
	seen            map[string]lease   // by name
	candidacies     map[int]*candidacy // by shard
	wants           []int              // the shards of its share
}

// New returns a Replica that has not joined the others.
func New(options Options) *Replica {
	suffix := utilrand.String(10)
	return &Replica{
		Options: options, leases: boundedLeases{options.Leases.Leases(options.Namespace), options.renewDeadline() / 2},
		identity: options.Identity + "_" + suffix, member: options.memberLease(suffix),
		wake: make(chan struct{}, 1), candidacies: map[int]*candidacy{}, failures: map[string]error{},
	}
}

// Run leads the shards of this replica's share until ctx ends. It returns when their terms have
// ended and their Leases are released. It returns an error only if a right is missing.
func (r *Replica) Run(ctx context.Context) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r.fail = fail
	r.mu.Lock()
	r.listedAt = time.Now()
	r.mu.Unlock()
	for running.Err() == nil {
		r.round(running)
		select {
		case <-time.After(wait.Jitter(r.retryPeriod(), 0.1)):
		case <-r.wake:
		case <-running.Done():
		}
	}
	cause := context.Cause(running)
	r.mu.Lock()
	r.err = fmt.Errorf("this replica has ended: %w", cause)
	r.takeShare(running)
	r.mu.Unlock()
	r.work.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return cause
}

func (r *Replica) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default: // the token is already there
	}
}

func (r *Replica) round(ctx context.Context) {
	request, cancel := context.WithTimeout(ctx, r.renewDeadline()/2)
	defer cancel()
	began := time.Now()
	var checking wait.Group // at the same time as the list, because both may take seconds
	var checked error
	if began.Sub(r.checked) > r.LeaseDuration {
		checking.Start(func() { checked = r.check(request) })
	}
	err := r.list(request)
	listed := err == nil
	checking.Wait()
	if listed {
		err = checked
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	r.err = err
	switch {
	case !apierrors.IsForbidden(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		r.forbiddenSince = time.Time{}
	case r.forbiddenSince.IsZero():
		r.forbiddenSince = began // an API server denies rights for a moment while it starts
	case began.Sub(r.forbiddenSince) > r.renewDeadline():
		r.fail(fmt.Errorf("Sharding.Leases: a right is missing: %w", err))
	}
	if listed {
		r.listedAt = began
		r.join(ctx)
	} else if r.leaveMembership != nil && time.Since(r.listedAt) > r.renewDeadline() {
		r.leave() // this replica can't see the others
	}
	if listed && r.joined {
		r.wants = Assign(r.holders(), r.replicas())[r.identity]
	}
	r.takeShare(ctx)
}

// list reads all Leases. It deletes the expired Leases of other replicas, and the expired Leases of
// shards that belong to another number of shards. Replicas take over the other Leases of shards.
func (r *Replica) list(ctx context.Context) error {
	list, err := r.leases.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	now, seen := time.Now(), make(map[string]lease, len(list.Items))
	for i := range list.Items {
		l := lease{&list.Items[i], now}
		if before := r.seen[l.Name]; before.record() == l.record() {
			l.since = before.since
		}
		seen[l.Name] = l
		if shards, member, ok := r.parse(l); ok && (member || shards != r.Shards) && l.holder() != r.identity && l.expired() {
			_ = r.leases.Delete(ctx, l.Name, *metav1.NewRVDeletionPrecondition(l.ResourceVersion))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = seen
	return nil
}

// check returns an error if a right is missing. Its requests change nothing, and are sent at the
// same time, because each may take seconds. They are for a Lease that doesn't exist, with invalid
// content: an API server checks rights before validity, and a quota only after.
func (r *Replica) check(ctx context.Context) error {
	try, name := []string{metav1.DryRunAll}, r.memberLease("check")
	invalid := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
	invalid.Spec.LeaseDurationSeconds = new(int32)
	outdated := invalid.DeepCopy()
	outdated.ResourceVersion = "1"
	var requests wait.Group
	var errs [4]error
	requests.Start(func() { _, errs[0] = r.leases.Get(ctx, name, metav1.GetOptions{}) })
	requests.Start(func() { _, errs[1] = r.leases.Create(ctx, invalid, metav1.CreateOptions{DryRun: try}) })
	requests.Start(func() { _, errs[2] = r.leases.Update(ctx, outdated, metav1.UpdateOptions{DryRun: try}) })
	requests.Start(func() { errs[3] = r.leases.Delete(ctx, name, metav1.DeleteOptions{DryRun: try}) })
	requests.Wait()
	for _, err := range errs {
		if err != nil && !apierrors.IsInvalid(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	r.checked = time.Now()
	return nil
}

// join takes the member Lease, or leaves while another replica has another number of shards. Of
// two such replicas that join at once, at least one sees the other in the first list after it got
// its member Lease, and leaves. If one was suspended while it joined, both may leave. The caller
// holds r.mu.
func (r *Replica) join(ctx context.Context) {
	var foreign error
	for _, l := range r.seen {
		if shards, _, ok := r.parse(l); ok && shards != r.Shards && !l.expired() {
			foreign = fmt.Errorf("replica %s has another number of shards; waiting until it has ended", l.holder())
		}
	}
	switch {
	case foreign != nil:
		r.err = foreign
		if r.leaveMembership != nil {
			r.leave()
			r.yieldUntil = time.Now().Add(rand.N(r.LeaseDuration)) //nolint:gosec // so that one is first
			for _, c := range r.candidacies {
				r.loseShard(c)
			}
		}
	case r.leaveMembership == nil && !r.checked.IsZero() && time.Now().After(r.yieldUntil):
		var member context.Context
		member, r.leaveMembership = context.WithCancel(ctx)
		r.work.Add(1)
		go r.holdMembership(ctx, member)
	case !r.publishedAt.IsZero() && r.publishedAt.Before(r.listedAt):
		r.joined = true
	}
}

// leave gives up the member Lease. The replica stands for no shard until it has joined again. The
// caller holds r.mu.
func (r *Replica) leave() {
	r.leaveMembership()
	r.publishedAt, r.joined = time.Time{}, false
}

// holdMembership holds the member Lease until member ends or the Lease is lost. It yields all shards
// before it deletes the Lease, after which replicas with another number of shards may begin.
func (r *Replica) holdMembership(ctx, member context.Context) {
	defer r.work.Done()
	r.elect(member, r.member, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if member.Err() == nil {
			r.publishedAt = time.Now()
			r.wakeUp()
		}
	})
	r.mu.Lock()
	r.leave()
	r.takeShare(ctx)
	r.mu.Unlock()
	_ = r.leases.Delete(context.WithoutCancel(ctx), r.member, metav1.DeleteOptions{}) // if it fails, others delete it later
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaveMembership = nil
	r.wakeUp()
}

// takeShare yields the shards outside this replica's share, and stands for the shards of its share
// that nobody holds. The caller holds r.mu.
func (r *Replica) takeShare(ctx context.Context) {
	cause := ErrLost
	switch {
	case ctx.Err() != nil:
		cause, r.wants = context.Cause(ctx), nil
	case !r.joined:
		r.wants = nil
	}
	for shard, c := range r.candidacies {
		if !slices.Contains(r.wants, shard) {
			delete(r.failures, r.shardLease(shard))
			r.yieldShard(c, cause)
		}
	}
	for _, shard := range r.wants {
		name := r.shardLease(shard)
		l := r.seen[name]
		held := l.holder() != "" && l.holder() != r.identity && !l.expired()
		switch {
		case r.candidacies[shard] != nil:
		case held:
			delete(r.failures, name) // no request is sent while somebody else holds it
		default:
			r.stand(ctx, shard, l)
		}
	}
}

// replicas returns the identities of the live replicas. The caller holds r.mu.
func (r *Replica) replicas() []string {
	live := []string{r.identity}
	for _, l := range r.seen {
		if shards, member, ok := r.parse(l); ok && member && shards == r.Shards && !l.expired() && l.holder() != r.identity {
			live = append(live, l.holder())
		}
	}
	return live
}

// holders returns the holder of each shard's Lease. The caller holds r.mu.
func (r *Replica) holders() []string {
	holders := make([]string, r.Shards)
	for shard := range holders {
		holders[shard] = r.seen[r.shardLease(shard)].holder()
	}
	return holders
}
