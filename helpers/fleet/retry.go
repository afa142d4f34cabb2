// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// conclude closes the Cluster of a run that has returned or was abandoned, decides when the next
// run is due, and calls the hooks.
func (p *plane) conclude(r *run, ended result) {
	f := p.fleet
	f.mu.Lock()
	cluster, dp, canceled := r.cluster, p.dp, r.ctx.Err() != nil
	f.mu.Unlock()
	if cluster != nil {
		cluster.Abort()
	}
	var changed change // since the DataPlane that the run has seen
	if !canceled {
		changed = p.setWitness(r, cluster != nil, dp)
	}
	f.mu.Lock()
	ran, retry, err := p.judge(r, ended, changed)
	p.run = nil
	f.mu.Unlock()
	p.reportRotations(r)
	if f.options.Hooks.OnEnd != nil && r.seen != nil {
		f.options.Hooks.OnEnd(p.key, err, ran, retry)
	}
}

// judge decides whether and when the next run follows, and returns the arguments of OnEnd. The
// caller holds Fleet.mu.
func (p *plane) judge(r *run, ended result, changed change) (ran, retry time.Duration, _ error) {
	canceled, cause := r.ctx.Err() != nil, context.Cause(r.ctx)
	r.cancel(nil)
	connected := !r.connectedAt.IsZero()
	if connected {
		ran = time.Since(r.connectedAt)
	}
	switch {
	case r.abandoned:
		p.fail(ended.text)
		return ran, 0, ended.err
	case canceled && ended.panicked:
		p.fail(ended.text)
		return ran, 0, errors.Join(cause, ended.err)
	case canceled:
		return ran, 0, cause
	case ended.err == nil:
		p.done, p.pause = !changed.server, 0
		return ran, 0, nil
	}
	p.fail(ended.text)
	backoff := p.fleet.options.Backoff
	if connected && time.Since(r.startedAt) >= backoff.ResetAfter {
		p.pause = 0
	}
	p.pause = min(max(2*p.pause, backoff.Initial), backoff.Limit)
	if changed.credentials || changed.server {
		p.endPause()
	} else {
		retry = p.pause/2 + rand.N(p.pause/2+1) //nolint:gosec // spreads runs that failed together
		p.retryAt = time.Now().Add(retry)
	}
	return ran, retry, ended.err
}

// endPause makes the next run due at once, and forgets earlier failures.
func (p *plane) endPause() { p.pause, p.retryAt = 0, time.Time{} }

// reconsider handles a change while there is no run. New credentials end the wait after a
// failure. Another API server needs another run, even if the last one returned nil.
func (p *plane) reconsider() {
	f := p.fleet
	f.mu.Lock()
	dp := p.dp
	f.mu.Unlock()
	if p.witness == nil || dp == nil || p.term.ctx.Err() != nil {
		return
	}
	changed := p.witness.compare(dp)
	f.mu.Lock()
	defer f.mu.Unlock()
	if changed.server {
		p.done = false
	}
	if changed.server || changed.credentials {
		p.endPause()
	}
}
