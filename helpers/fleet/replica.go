// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// replica is this process among those that share the data planes. In rounds, it looks at the
// Leases, and takes and gives up shards.
type replica struct {
	*Sharding
	fleet    *Fleet
	leases   coordinationv1client.LeaseInterface
	identity string // unique to this process
	member   string // the name of the Lease by which others see it
	wake     chan struct{}
	members  sync.WaitGroup // for the time that it holds that

	// With the Fleet's lock:
	leave     context.CancelFunc // lets go of the member Lease; nil without one
	published time.Time          // when it got that; zero without
	joined    bool               // then, a list has shown no replica with another number of shards
	yields    time.Time          // until when it lets others come before, after it left
	listed    time.Time          // when the last list was sent that succeeded
	checked   time.Time          // when all rights were there
	forbidden time.Time          // since when one is missing; zero if none is
	err       error              // of the last round
	seen      map[string]lease
	terms     map[int]*term
	wants     []int
}

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

// shard runs the data planes of the shards that fall to this replica until ctx ends.
func (f *Fleet) shard(ctx context.Context) {
	s, suffix := f.options.Sharding, utilrand.String(10)
	r := &replica{
		Sharding: s, fleet: f, leases: s.Leases.Leases(s.Namespace),
		identity: s.Identity + "_" + suffix, member: s.memberName(suffix),
		wake: make(chan struct{}, 1), terms: map[int]*term{}, listed: time.Now(),
	}
	f.mu.Lock()
	f.replica = r
	f.mu.Unlock()
	// Until the informer has synced, this replica would leave data planes without a run.
	if !cache.WaitForCacheSync(ctx.Done(), f.informer.HasSynced) {
		return
	}
	done, deadline := ctx.Done(), time.Time{}
	for {
		r.round(ctx)
		f.mu.Lock()
		if ctx.Err() != nil && len(r.terms) == 0 {
			if deadline.IsZero() {
				deadline = time.Now().Add(s.renewDeadline())
			}
			if len(r.leads()[r.identity]) == 0 || time.Now().After(deadline) {
				f.mu.Unlock()
				break // it has let go of all Leases, or they expire
			}
		}
		f.mu.Unlock()
		select {
		case <-time.After(wait.Jitter(s.retryPeriod(), 0.1)):
		case <-r.wake:
		case <-done:
			done = nil // the others must see this replica until its runs have ended
		}
	}
	f.mu.Lock()
	if r.leave != nil {
		r.leave()
	}
	f.mu.Unlock()
	r.members.Wait()
}

// again has the next round follow at once.
func (r *replica) again() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *replica) round(ctx context.Context) {
	request, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.renewDeadline()/2)
	defer cancel()
	began := time.Now()
	err := r.look(request)
	if err == nil && began.Sub(r.checked) > r.LeaseDuration {
		err = r.check(request)
	}
	f := r.fleet
	f.mu.Lock()
	r.err = err
	switch missing := apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err); {
	case !missing:
		r.forbidden = time.Time{}
	case r.forbidden.IsZero():
		r.forbidden = began // an API server that starts denies rights for a moment
	case began.Sub(r.forbidden) > r.renewDeadline():
		f.fail(fmt.Errorf("Sharding.Leases: a right is missing: %w", err))
	}
	r.join(ctx, began)
	free := r.share(ctx, began)
	f.mu.Unlock()
	for _, l := range free {
		freed := l.DeepCopy()
		freed.Spec.HolderIdentity = new(string)
		if freed, err := r.leases.Update(request, freed, metav1.UpdateOptions{}); err == nil { // or the next round does
			f.mu.Lock()
			r.seen[l.Name] = lease{freed, time.Now()}
			f.mu.Unlock()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, shard := range r.wants {
		if l := r.seen[r.leaseName(shard)]; r.terms[shard] == nil && (l.holder() == "" || l.expired()) {
			r.begin(shard)
		}
	}
}

// look takes in all Leases, and deletes those of replicas that are gone.
func (r *replica) look(ctx context.Context) error {
	began := time.Now()
	list, err := r.leases.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	seen := make(map[string]lease, len(list.Items))
	for i := range list.Items {
		l := lease{&list.Items[i], began}
		if before := r.seen[l.Name]; before.Lease != nil && before.ResourceVersion == l.ResourceVersion {
			l.since = before.since
		}
		seen[l.Name] = l
		if _, ok := r.memberShards(l.Name); ok && l.expired() {
			_ = r.leases.Delete(ctx, l.Name, *metav1.NewRVDeletionPrecondition(l.ResourceVersion))
		}
	}
	r.fleet.mu.Lock()
	defer r.fleet.mu.Unlock()
	r.seen, r.listed = seen, began
	return nil
}

// check finds a right that is missing, by requests that change nothing.
func (r *replica) check(ctx context.Context) error {
	try, own := []string{metav1.DryRunAll}, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: r.member}}
	outdated := own.DeepCopy()
	outdated.ResourceVersion = "1" // or else it would be invalid, when the Lease exists
	_, get := r.leases.Get(ctx, r.member, metav1.GetOptions{})
	_, create := r.leases.Create(ctx, own, metav1.CreateOptions{DryRun: try})
	_, update := r.leases.Update(ctx, outdated, metav1.UpdateOptions{DryRun: try})
	remove := r.leases.Delete(ctx, r.member, metav1.DeleteOptions{DryRun: try})
	for _, err := range []error{get, create, update, remove} {
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	r.checked = time.Now()
	return nil
}

// join takes part if no replica has another number of shards, and gives up if this one can't
// see the others. Of two that begin at once, one at least sees the other in the list that
// follows its own Lease, and lets go of that. began is when the Leases were listed. It needs
// the lock.
func (r *replica) join(ctx context.Context, began time.Time) {
	for name, l := range r.seen {
		if shards, ok := r.memberShards(name); r.err == nil && !r.joined && ok && shards != strconv.Itoa(r.Shards) && !l.expired() {
			r.err = fmt.Errorf("replica %s has another number of shards; waiting until it has ended", l.holder())
		}
	}
	switch {
	case r.leave == nil && r.err == nil && ctx.Err() == nil && began.After(r.yields):
		var member context.Context
		member, r.leave = context.WithCancel(context.Background())
		r.members.Add(1)
		go r.attend(member) //nolint:gosec // it lasts longer than ctx
	case r.leave != nil && (r.err != nil && !r.joined || began.Sub(r.listed) > r.renewDeadline()):
		r.leave()
		r.yields = began.Add(rand.N(r.LeaseDuration)) //nolint:gosec // so that one comes before the other
	case !r.published.IsZero() && r.published.Before(began):
		r.joined = true
	}
}

// attend holds the member Lease until ctx ends or it is lost, and then gives up all shards.
func (r *replica) attend(ctx context.Context) {
	defer r.members.Done()
	f := r.fleet
	r.elect(ctx, r.member, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		r.published = time.Now()
		r.again()
	})
	f.mu.Lock()
	r.leave()
	r.published, r.joined, r.wants = time.Time{}, false, nil
	terms := slices.Collect(maps.Values(r.terms))
	for _, t := range terms {
		r.lose(t)
	}
	f.mu.Unlock()
	for _, t := range terms {
		t.planes.Wait()
	}
	request, cancel := context.WithTimeout(context.Background(), r.retryPeriod())
	defer cancel()
	_ = r.leases.Delete(request, r.member, metav1.DeleteOptions{}) // or others do, later
	f.mu.Lock()
	defer f.mu.Unlock()
	r.leave = nil
}

// share decides what this replica leads. It ends the terms of other shards, and returns the
// Leases that nobody holds any more. began is when they were listed. It needs the lock.
func (r *replica) share(ctx context.Context, began time.Time) (free []lease) {
	cause := ErrShardLost
	switch {
	case ctx.Err() != nil:
		r.wants, cause = nil, stopped(ctx)
	case r.joined && r.err == nil:
		r.wants = assign(r.Shards, r.leads())[r.identity]
	}
	for shard, t := range r.terms {
		if !slices.Contains(r.wants, shard) {
			r.end(t, cause)
		}
	}
	if r.err != nil {
		return nil
	}
	for shard := range r.Shards {
		l, t := r.seen[r.leaseName(shard)], r.terms[shard]
		switch holder := l.holder(); {
		case t != nil && t.leads() && t.led.Before(began) && holder != r.identity:
			r.end(t, ErrShardLost) // another has it, perhaps because this process was suspended
			t.cut()
		case t == nil && holder == r.identity,
			holder != "" && holder != r.identity && l.expired() && slices.Contains(r.wants, shard):
			free = append(free, l)
		}
	}
	return free
}

// leads returns which shards the live replicas lead. It needs the lock.
func (r *replica) leads() map[string][]int {
	leads := map[string][]int{r.identity: nil}
	for name, l := range r.seen {
		if shards, ok := r.memberShards(name); ok && shards == strconv.Itoa(r.Shards) && !l.expired() {
			leads[l.holder()] = nil
		}
	}
	for shard := range r.Shards {
		holder := r.seen[r.leaseName(shard)].holder()
		if led, ok := leads[holder]; ok {
			leads[holder] = append(led, shard)
		}
	}
	return leads
}

// status needs the lock.
func (r *replica) status() *ShardingStatus {
	s := &ShardingStatus{
		Identity: r.identity, Joined: r.joined, Wants: slices.Clone(r.wants),
		Replicas: slices.Sorted(maps.Keys(r.leads())),
	}
	for _, shard := range slices.Sorted(maps.Keys(r.terms)) {
		if r.terms[shard].leads() {
			s.Leads = append(s.Leads, shard)
		}
	}
	for _, shard := range r.wants {
		if t := r.terms[shard]; t == nil || !t.leads() || t.ctx.Err() != nil {
			name := r.leaseName(shard)
			s.Waits = append(s.Waits, ShardWait{Shard: shard, Lease: name, Holder: r.seen[name].holder()})
		}
	}
	if r.err != nil {
		s.LastError = r.err.Error()
	}
	return s
}
