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
)

// plane is one DataPlane of a Fleet. The fields after wake need the Fleet's lock. Code that
// changes them, or ends a context of the plane, calls wakeUp.
type plane struct {
	fleet *Fleet
	term  *term
	key   types.NamespacedName
	wake  chan struct{}

	dp       *v1alpha1.DataPlane // nil when it is gone
	selected bool
	revision int32                   // counts the changes that need another run
	done     int32                   // the revision whose run has returned nil
	pause    time.Duration           // after the failure before; 0 if there was none
	witness  *witness                // of the last run, until the next one begins; it belongs to the loop
	cancel   context.CancelCauseFunc // of the run under way
	starts   int
	status   PlaneStatus
}

// wakeUp has a loop look at what has changed.
func wakeUp(loop chan<- struct{}) {
	select {
	case loop <- struct{}{}:
	default: // it is awake
	}
}

// update takes in the newest object, and returns why a run for the one before must end.
func (p *plane) update(dp *v1alpha1.DataPlane, selected, changed bool) (cause error) {
	before := p.dp
	if selected && !p.selected {
		p.status.NextRetry = time.Time{}
	}
	p.dp, p.selected = dp, selected
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
		p.revision++
		p.endPause()
	}
	if cause == nil && !selected {
		return ErrNotSelected
	}
	return cause
}

// endPause has the next run begin at once: there is no need to wait after an earlier failure.
func (p *plane) endPause() { p.pause, p.status.NextRetry = 0, time.Time{} }

// loop makes one attempt after the other, until the DataPlane is gone or the term ends.
func (p *plane) loop() {
	defer p.term.planes.Done()
	f := p.fleet
	for {
		a := p.next()
		if p.witness != nil {
			p.witness.close()
			p.witness = nil
		}
		if a != nil {
			p.conclude(a, p.attempt(a))
			continue
		}
		f.mu.Lock()
		removed, stopped := p.isRemoved(), p.term.ctx.Err() != nil
		f.mu.Unlock()
		if removed && f.options.Hooks.OnRemove != nil {
			f.options.Hooks.OnRemove(p.key)
		}
		f.mu.Lock()
		removed = removed && p.isRemoved() // or else it has come back meanwhile
		if removed {
			delete(f.planes, p.key)
		}
		f.mu.Unlock()
		if removed || stopped {
			return // one that has stopped stays in the Status
		}
	}
}

// isRemoved needs the Fleet's lock.
func (p *plane) isRemoved() bool {
	return p.dp == nil || errors.Is(context.Cause(p.term.ctx), ErrShardLost)
}

// next waits until a run is due. It returns nil when there will be none.
func (p *plane) next() *attempt {
	for {
		a, pause := p.due()
		if a != nil || pause < 0 {
			return a
		}
		var timer <-chan time.Time
		if pause > 0 {
			timer = time.After(pause)
		}
		select {
		case <-p.wake:
			p.reconsider()
		case <-timer:
		}
	}
}

// reconsider takes in a change while there is no run: new credentials end the wait after a
// failure, and another API server needs another run even if the last one returned nil.
func (p *plane) reconsider() {
	f := p.fleet
	f.mu.Lock()
	dp, idle := p.dp, p.done == p.revision || !p.status.NextRetry.IsZero()
	idle = idle && p.dp != nil && p.term.ctx.Err() == nil
	f.mu.Unlock()
	if !idle {
		return
	}
	credentials, server := p.witness.changed(dp)
	f.mu.Lock()
	defer f.mu.Unlock()
	if server && p.done == p.revision {
		p.revision++
	}
	if credentials || server {
		p.endPause()
	}
}

// due returns the run that is due, or else how long until one is: 0 if that needs a change,
// and less than 0 if there will be none.
func (p *plane) due() (*attempt, time.Duration) {
	p.fleet.mu.Lock()
	defer p.fleet.mu.Unlock()
	p.settle()
	switch {
	case p.dp == nil || p.status.State == StateStopped:
		return nil, -1
	case p.status.State == StateRetrying:
		return nil, max(time.Until(p.status.NextRetry), 1) // it may have come meanwhile
	case p.status.State != StateStarting:
		return nil, 0
	}
	a := &attempt{fleet: p.fleet, revision: p.revision, rotated: make(chan struct{}, 1)}
	a.Context, p.cancel = context.WithCancelCause(p.term.ctx)
	p.status.UID = p.dp.UID
	return a, 0
}

// settle updates the status while there is no run. It needs the Fleet's lock.
func (p *plane) settle() {
	retryAt := p.status.NextRetry
	p.status.NextRetry = time.Time{}
	switch {
	case p.dp == nil:
	case p.term.ctx.Err() != nil:
		p.status.State = StateStopped
	case !p.selected:
		p.status.State = StateNotSelected
	case p.done == p.revision:
		p.status.State = StateDone
	case time.Until(retryAt) > 0:
		p.status.State, p.status.NextRetry = StateRetrying, retryAt
	default:
		p.status.State = StateStarting
	}
}
