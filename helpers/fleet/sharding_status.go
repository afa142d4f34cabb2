// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// status needs the lock. synced is whether the informer has synced.
func (r *replica) status(synced bool) *ShardingStatus {
	s := &ShardingStatus{
		Identity: r.identity, Joined: r.joined, Wants: slices.Clone(r.wants),
		Replicas: slices.Sorted(slices.Values(r.replicas())),
	}
	for _, shard := range slices.Sorted(maps.Keys(r.terms)) {
		if r.terms[shard].isLeader() {
			s.Leads = append(s.Leads, shard)
		}
	}
	for _, shard := range r.wants {
		if r.waitsFor(shard) {
			name := r.leaseName(shard)
			s.Waits = append(s.Waits, ShardWait{Shard: shard, Lease: name, Holder: r.seen[name].holder()})
		}
	}
	if err := r.lastError(synced); err != nil {
		s.LastError = err.Error()
	}
	return s
}

func (r *replica) waitsFor(shard int) bool {
	t := r.terms[shard]
	return t == nil || !t.isLeader() || t.ctx.Err() != nil
}

// lastError returns what keeps this replica from doing what it should, the worst first. While it
// has not joined, there is always something.
func (r *replica) lastError(synced bool) error {
	if r.err != nil {
		return r.err
	}
	if err := r.failures[r.member]; err != nil {
		return fmt.Errorf("this replica's Lease %s: %w", r.member, err)
	}
	switch {
	case r.joined:
	case !synced:
		return errors.New("waiting until the informer has listed the data planes")
	case r.leave == nil && time.Now().Before(r.yields):
		return errors.New("waiting because another replica had another number of shards")
	default:
		return errors.New("joining; this takes a few seconds")
	}
	for _, shard := range r.wants {
		name := r.leaseName(shard)
		l := r.seen[name]
		if err := r.failures[name]; err != nil {
			return fmt.Errorf("shard %d: Lease %s: %w", shard, name, err)
		}
		if r.waitsFor(shard) && l.holder() != "" && !l.expired() && !replicaSuffix.MatchString(l.holder()) {
			return fmt.Errorf("shard %d: Lease %s is held by %q, which is no replica", shard, name, l.holder())
		}
	}
	return nil
}

// note keeps an error of a request for a Lease for Status, or forgets the one before.
func (r *replica) note(ctx context.Context, lease string, err error) {
	r.fleet.mu.Lock()
	defer r.fleet.mu.Unlock()
	switch {
	case err == nil:
		delete(r.failures, lease)
	case ctx.Err() == nil:
		r.failures[lease] = err
	case !errors.Is(context.Cause(ctx), context.Canceled): // it isn't this replica that has ended the request
		r.failures[lease] = context.Cause(ctx)
	}
}

// notingLock notes the errors of an election's requests. client-go only logs them.
type notingLock struct {
	resourcelock.Interface
	replica *replica
	lease   string
}

func (l *notingLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	switch {
	case err != nil && !apierrors.IsNotFound(err): // of one that isn't there, Create says more
		l.replica.note(ctx, l.lease, err)
	case err == nil && record.HolderIdentity != "" && record.HolderIdentity != l.Identity():
		l.replica.note(ctx, l.lease, nil) // there is nothing to write
	}
	return record, raw, err
}

func (l *notingLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, record)
	l.replica.note(ctx, l.lease, err)
	return err
}

func (l *notingLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Update(ctx, record)
	l.replica.note(ctx, l.lease, err)
	return err
}
