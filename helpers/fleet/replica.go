// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
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
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/shards"
)

// replica is this process among those that share the data planes. In rounds, it looks at the
// Leases, and takes and gives up shards.
type replica struct {
	*Sharding
	fleet    *Fleet
	leases   boundedLeases
	identity string // unique to this process
	member   string // the name of the Lease by which others see it
	wake     chan struct{}
	work     sync.WaitGroup // its goroutines
	checked  time.Time      // when all rights were there

	// With the Fleet's lock:
	leave     context.CancelFunc // lets go of the member Lease; nil without one
	published time.Time          // when it got that; zero without
	joined    bool               // then, a list has shown no replica with another number of shards
	yields    time.Time          // until when it lets others come before, after it left
	listed    time.Time          // when the last list was sent that succeeded
	forbidden time.Time          // since when a right is missing; zero if none is
	err       error              // of the last round
	failures  map[string]error   // of the last request for a Lease, by its name, if that failed
	seen      map[string]lease
	terms     map[int]*term
	wants     []int
}

// runShards runs the data planes of the shards that fall to this replica until ctx ends.
func (f *Fleet) runShards(ctx context.Context) {
	s, suffix := f.options.Sharding, utilrand.String(10)
	r := &replica{
		Sharding: s, fleet: f, leases: boundedLeases{s.Leases.Leases(s.Namespace), s.renewDeadline() / 2},
		identity: s.Identity + "_" + suffix, member: s.memberName(suffix),
		wake: make(chan struct{}, 1), terms: map[int]*term{}, listed: time.Now(), failures: map[string]error{},
	}
	f.mu.Lock()
	f.replica = r
	f.mu.Unlock()
	// Until the informer has synced, this replica would leave data planes without a run.
	cache.WaitForCacheSync(ctx.Done(), f.informer.HasSynced)
	for ctx.Err() == nil {
		r.round(ctx)
		select {
		case <-time.After(wait.Jitter(s.retryPeriod(), 0.1)):
		case <-r.wake:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	r.err = stopped(ctx)
	r.share(ctx)
	f.mu.Unlock()
	r.work.Wait()
}

func (r *replica) round(ctx context.Context) {
	request, cancel := context.WithTimeout(ctx, r.renewDeadline()/2)
	defer cancel()
	began := time.Now()
	var checking wait.Group // beside the list, because each may take seconds
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
	f := r.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	r.err = err
	missing := apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)
	switch {
	case !missing || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		r.forbidden = time.Time{}
	case r.forbidden.IsZero():
		r.forbidden = began // an API server that starts denies rights for a moment
	case began.Sub(r.forbidden) > r.renewDeadline():
		f.fail(fmt.Errorf("Sharding.Leases: a right is missing: %w", err))
	}
	if listed {
		r.listed = began
		r.join(ctx)
		r.abortUsurped(began) // even if this replica has left: runs may take StopGrace to return
	} else if r.leave != nil && time.Since(r.listed) > r.renewDeadline() {
		r.leave() // it can't see the others
	}
	if listed && r.joined {
		r.wants = shards.Assign(r.holders(), r.replicas())[r.identity]
	}
	r.share(ctx)
}

// list takes in all Leases, and deletes those of replicas that are gone.
func (r *replica) list(ctx context.Context) error {
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
		if _, member, ok := r.parse(l); ok && member && l.expired() {
			_ = r.leases.Delete(ctx, l.Name, *metav1.NewRVDeletionPrecondition(l.ResourceVersion))
		}
	}
	r.fleet.mu.Lock()
	defer r.fleet.mu.Unlock()
	r.seen = seen
	return nil
}

// check finds a right that is missing, by requests that change nothing. They are sent at the
// same time, because each may take seconds. What they write is not valid, which an API server
// finds after a missing right, but before a quota that is used up.
func (r *replica) check(ctx context.Context) error {
	try, own := []string{metav1.DryRunAll}, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: r.member}}
	own.Spec.LeaseDurationSeconds = new(int32)
	outdated := own.DeepCopy()
	outdated.ResourceVersion = "1"
	var requests wait.Group
	var errs [4]error
	requests.Start(func() { _, errs[0] = r.leases.Get(ctx, r.member, metav1.GetOptions{}) })
	requests.Start(func() { _, errs[1] = r.leases.Create(ctx, own, metav1.CreateOptions{DryRun: try}) })
	requests.Start(func() { _, errs[2] = r.leases.Update(ctx, outdated, metav1.UpdateOptions{DryRun: try}) })
	requests.Start(func() { errs[3] = r.leases.Delete(ctx, r.member, metav1.DeleteOptions{DryRun: try}) })
	requests.Wait()
	for _, err := range errs {
		if err != nil && !apierrors.IsInvalid(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	r.checked = time.Now()
	return nil
}

// join takes part while nobody has shards of another number. Of two that begin at once, one at
// least sees the other in the list that follows its own member Lease, and lets go of that. So
// do both when one was suspended and the other has begun meanwhile. It needs the lock.
func (r *replica) join(ctx context.Context) {
	var foreign error
	for _, l := range r.seen {
		if shards, _, ok := r.parse(l); ok && shards != r.Shards && !l.expired() {
			foreign = fmt.Errorf("replica %s has another number of shards; waiting until it has ended", l.holder())
		}
	}
	switch {
	case foreign != nil:
		r.err = foreign
		if r.leave != nil {
			r.leave()
			r.yields = time.Now().Add(rand.N(r.LeaseDuration)) //nolint:gosec // so that one comes before the other
			for _, t := range r.terms {
				r.cut(t)
			}
		}
	case r.leave == nil && !r.checked.IsZero() && time.Now().After(r.yields):
		var member context.Context
		member, r.leave = context.WithCancel(ctx)
		r.work.Add(1)
		go r.holdMember(ctx, member)
	case !r.published.IsZero() && r.published.Before(r.listed):
		r.joined = true
	}
}

// holdMember holds the member Lease until member ends or it is lost. It ends all terms before it
// lets others with another number of shards begin.
func (r *replica) holdMember(ctx, member context.Context) {
	defer r.work.Done()
	f := r.fleet
	r.elect(member, r.member, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if member.Err() == nil {
			r.published = time.Now()
			wakeUp(r.wake)
		}
	})
	f.mu.Lock()
	r.leave()
	r.published, r.joined = time.Time{}, false
	r.share(ctx)
	f.mu.Unlock()
	_ = r.leases.Delete(context.WithoutCancel(ctx), r.member, metav1.DeleteOptions{}) // or others do, later
	f.mu.Lock()
	defer f.mu.Unlock()
	r.leave = nil
	wakeUp(r.wake)
}

// share ends the terms of shards that this replica doesn't want, and begins those that it
// wants and nobody holds. It needs the lock.
func (r *replica) share(ctx context.Context) {
	cause := ErrShardLost
	switch {
	case ctx.Err() != nil:
		cause, r.wants = stopped(ctx), nil
	case !r.joined:
		r.wants = nil
	}
	for shard, t := range r.terms {
		if !slices.Contains(r.wants, shard) {
			delete(r.failures, r.leaseName(shard))
			r.end(t, cause)
		}
	}
	for _, shard := range r.wants {
		name := r.leaseName(shard)
		l := r.seen[name]
		held := l.holder() != "" && l.holder() != r.identity && !l.expired()
		switch {
		case r.terms[shard] != nil:
		case held:
			delete(r.failures, name) // no request is sent until it isn't
		default:
			r.begin(ctx, shard, l)
		}
	}
}

// abortUsurped cuts off the runs of shards that another replica leads, perhaps because this
// process was suspended. began is when the Leases were listed. It needs the lock.
func (r *replica) abortUsurped(began time.Time) {
	for shard, t := range r.terms {
		holder := r.seen[r.leaseName(shard)].holder()
		if t.isLeader() && t.led.Before(began) && holder != "" && holder != r.identity {
			r.cut(t)
		}
	}
}

// replicas returns the identities of the live replicas. It needs the lock.
func (r *replica) replicas() []string {
	live := []string{r.identity}
	for _, l := range r.seen {
		if shards, member, ok := r.parse(l); ok && member && shards == r.Shards && !l.expired() && l.holder() != r.identity {
			live = append(live, l.holder())
		}
	}
	return live
}

// holders returns who holds the Lease of each shard. It needs the lock.
func (r *replica) holders() []string {
	holders := make([]string, r.Shards)
	for shard := range holders {
		holders[shard] = r.seen[r.leaseName(shard)].holder()
	}
	return holders
}
