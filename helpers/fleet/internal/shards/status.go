// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package shards

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Status is the state of a [Replica].
type Status struct {
	// Identity is the replica's identity, with its suffix.
	Identity string
	// Leads are the shards that it leads, including any that it is yielding.
	Leads []int
	// Replicas are the identities of the live replicas that it sees, itself included.
	Replicas []string
	// Waiting are the shards of its share that it doesn't lead yet.
	Waiting []Waiting
	// LastError is why it can't join, see the others, lead a shard of its share, or renew a Lease;
	// nil if there is no reason.
	LastError error
}

// Waiting is a shard that a replica waits for.
type Waiting struct {
	Shard         int
	Lease, Holder string
}

// Status returns the current state of the replica or, after Run, the last.
func (r *Replica) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Identity: r.identity, Replicas: slices.Sorted(slices.Values(r.replicas())), LastError: r.lastError()}
	for _, shard := range slices.Sorted(maps.Keys(r.candidacies)) {
		if r.candidacies[shard].leads {
			s.Leads = append(s.Leads, shard)
		}
	}
	for _, shard := range r.wants {
		if r.waitsFor(shard) {
			name := r.shardLease(shard)
			s.Waiting = append(s.Waiting, Waiting{Shard: shard, Lease: name, Holder: r.seen[name].holder()})
		}
	}
	return s
}

func (r *Replica) waitsFor(shard int) bool {
	c := r.candidacies[shard]
	return c == nil || !c.leads || c.ending
}

// lastError returns Status.LastError, the worst of several. Until the replica has joined, it is
// never nil. The caller holds r.mu.
func (r *Replica) lastError() error {
	if r.err != nil {
		return r.err
	}
	if err := r.failures[r.member]; err != nil {
		return fmt.Errorf("this replica's Lease %s: %w", r.member, err)
	}
	switch {
	case r.joined:
	case r.leaveMembership == nil && time.Now().Before(r.yieldUntil):
		return errors.New("waiting because another replica had another number of shards")
	default:
		return errors.New("joining; this takes a few seconds")
	}
	for _, shard := range r.wants {
		name := r.shardLease(shard)
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

// note keeps the error of a request for a Lease for Status; nil clears it.
func (r *Replica) note(ctx context.Context, lease string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		delete(r.failures, lease)
	case ctx.Err() == nil:
		r.failures[lease] = err
	case !errors.Is(context.Cause(ctx), context.Canceled): // this replica didn't cancel the request
		r.failures[lease] = context.Cause(ctx)
	}
}
