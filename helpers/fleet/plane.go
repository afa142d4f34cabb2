// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// plane is a data plane of a Fleet, from its first run until it is gone. Its loop makes one run
// after the other.
type plane struct {
	fleet   *Fleet
	term    *term
	key     types.NamespacedName
	wake    chan struct{} // wakes the loop, which then reads dp, selected and done again
	witness *witness      // of the last run, until the next one begins; belongs to the loop

	// Guarded by Fleet.mu:
	object    object              // as the informer has it
	dp        *v1alpha1.DataPlane // object as a DataPlane; nil when it is gone
	selected  bool
	done      bool          // a run has returned nil, and no change since then needs another
	run       *run          // the current run, if any
	runs      int           // how many runs had a Cluster
	pause     time.Duration // before the last retry; 0 if there was none
	retryAt   time.Time     // zero if no retry is due
	uid       types.UID     // of the last run's object
	lastError string
	failedAt  time.Time
}

// wakeUp puts a token into a channel that has room for one.
func wakeUp(loop chan<- struct{}) {
	select {
	case loop <- struct{}{}:
	default: // the token is already there
	}
}

// update stores the newest object, and returns why a run for the previous one must end, if it must.
func (p *plane) update(obj object, dp *v1alpha1.DataPlane, selected, changed bool) (cause error) {
	before := p.dp
	if selected && !p.selected {
		p.retryAt = time.Time{}
	}
	p.object, p.dp, p.selected = obj, dp, selected
	if dp == nil {
		return helpers.ErrDeleted
	}
	switch {
	case before == nil || before.UID != dp.UID:
		cause = helpers.ErrReplaced
	case changed:
		cause = ErrDataPlaneChanged
	}
	if cause != nil {
		p.done = false
		p.endPause()
	}
	if !selected && !errors.Is(cause, helpers.ErrReplaced) {
		return ErrNotSelected
	}
	return cause
}

// loop makes one run after the other, until the data plane is gone or the term ends.
func (p *plane) loop() {
	defer p.term.loops.Done()
	for {
		if r := p.awaitDue(); r != nil {
			p.conclude(r, p.supervise(r))
		} else if p.remove() {
			return
		}
	}
}

// awaitDue waits until a run is due, and returns it, or nil when no more runs follow.
func (p *plane) awaitDue() *run {
	defer p.dropWitness()
	for {
		r, state, pause := p.due()
		if r != nil || state == StateGone || state == StateStopped {
			return r
		}
		var retry, again <-chan time.Time
		switch {
		case state == StateRetrying:
			retry = time.After(pause)
		case p.witness != nil && p.witness.failed:
			again = time.After(p.fleet.options.Backoff.Limit)
		}
		select {
		case <-p.wake:
			p.reconsider()
		case <-again:
			p.reconsider()
		case <-retry:
		case <-p.term.ctx.Done():
		}
	}
}

// due returns the run that is due. If none is, it returns the state and the time until the retry.
func (p *plane) due() (*run, State, time.Duration) {
	p.fleet.mu.Lock()
	defer p.fleet.mu.Unlock()
	state := p.state()
	if state != StateStarting {
		return nil, state, time.Until(p.retryAt)
	}
	p.retryAt = time.Time{}
	p.uid = p.dp.UID
	p.run = newRun(p.term.ctx)
	return p.run, state, 0
}

// state computes the State from the other fields. The caller holds Fleet.mu.
func (p *plane) state() State {
	if p.run != nil {
		return p.run.state()
	}
	switch {
	case p.dp == nil:
		return StateGone
	case p.term.ctx.Err() != nil:
		return StateStopped
	case !p.selected:
		return StateNotSelected
	case p.done:
		return StateDone
	case time.Until(p.retryAt) > 0:
		return StateRetrying
	}
	return StateStarting
}

// remove calls OnRemove for a data plane that is gone, or that another replica runs. It returns
// whether the loop ends; a data plane that has come back keeps it.
func (p *plane) remove() (over bool) {
	f := p.fleet
	f.mu.Lock()
	removed, stopped := p.isRemoved(), p.term.ctx.Err() != nil
	f.mu.Unlock()
	if removed && f.options.Hooks.OnRemove != nil {
		f.options.Hooks.OnRemove(p.key)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	removed = removed && p.isRemoved()
	if removed {
		delete(f.planes, p.key)
	}
	return removed || stopped // a stopped plane stays in the Status
}

// isRemoved returns whether OnRemove is due. The caller holds Fleet.mu.
func (p *plane) isRemoved() bool {
	return p.dp == nil || errors.Is(context.Cause(p.term.ctx), ErrShardLost)
}

// fail keeps an error for Status. The caller holds Fleet.mu.
func (p *plane) fail(text string) { p.lastError, p.failedAt = text, time.Now() }

// cluster returns the Cluster of the current run, or nil. The caller holds Fleet.mu.
func (p *plane) cluster() *remote.Cluster {
	if p.run == nil {
		return nil
	}
	return p.run.cluster
}
