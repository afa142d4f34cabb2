// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// member is one DataPlane of a Fleet. What follows wake needs the Fleet's lock.
type member struct {
	fleet *Fleet
	key   types.NamespacedName
	wake  chan struct{}

	dp       *v1alpha1.DataPlane // nil when it is gone
	selected bool
	revision int           // counts the changes that need another run
	settled  int           // the revision that needs no other run
	outcome  State         // of that
	pause    time.Duration // after the failure before; 0 if there was none
	retryAt  time.Time
	cancel   context.CancelCauseFunc // of the run under way
	starts   int
	status   PlaneStatus
}

// update takes in the newest object, and returns why a run for the one before must end.
func (m *member) update(dp *v1alpha1.DataPlane, selected, changed bool) (cause error) {
	before := m.dp
	if selected && !m.selected {
		m.retryAt = time.Time{}
	}
	m.dp, m.selected = dp, selected
	switch {
	case dp == nil:
		return helpers.ErrDeleted
	case before == nil || before.UID != dp.UID:
		cause = helpers.ErrReplaced
	case before.Spec.KubernetesCluster.Credentials != dp.Spec.KubernetesCluster.Credentials:
		cause = ErrCredentialsChanged
	case changed:
		cause = ErrDataPlaneChanged
	case !selected:
		return ErrNotSelected
	default:
		return nil
	}
	m.revision++
	m.pause, m.retryAt = 0, time.Time{}
	return cause
}

// loop makes one attempt after the other, until the DataPlane is gone or runs ends.
func (m *member) loop(runs context.Context) {
	for {
		a := m.next(runs)
		if a == nil {
			return
		}
		m.conclude(a, m.attempt(a))
	}
}

// attempt is one run, from when it is due.
type attempt struct {
	ctx      context.Context
	dp       *v1alpha1.DataPlane
	revision int
	began    time.Time // when the function was called; zero if it wasn't
	started  time.Time // when it called MarkStarted, or else began
	invalid  bool      // there can be no Cluster
	result   chan error
	overdue  map[types.NamespacedName]int // where it is counted if it was given up; with the Fleet's lock
}

// next waits until a run is due. It returns nil when there will be none.
func (m *member) next(runs context.Context) *attempt {
	for {
		a, pause := m.due(runs)
		if a != nil || pause < 0 {
			return a
		}
		var timer <-chan time.Time
		if pause > 0 {
			timer = time.After(pause)
		}
		select {
		case <-m.wake:
		case <-timer:
		case <-runs.Done():
		}
	}
}

// due returns the run that is due, or else how long until one is: 0 if that needs a change,
// and less than 0 if there will be none.
func (m *member) due(runs context.Context) (*attempt, time.Duration) {
	f := m.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case m.dp == nil:
		delete(f.members, m.key)
		if f.options.Hooks.OnRemove != nil {
			f.options.Hooks.OnRemove(m.key)
		}
		return nil, -1
	case runs.Err() != nil:
		m.status.State, m.status.NextRetry = StateStopped, time.Time{}
		return nil, -1
	case !m.selected:
		m.status.State, m.status.NextRetry = StateNotSelected, time.Time{}
		return nil, 0
	case m.settled == m.revision:
		m.status.State = m.outcome
		return nil, 0
	}
	if pause := time.Until(m.retryAt); pause > 0 {
		m.status.State, m.status.NextRetry = StateRetrying, m.retryAt
		return nil, pause
	}
	a := &attempt{dp: m.dp, revision: m.revision, result: make(chan error, 1)}
	a.ctx, m.cancel = context.WithCancelCause(runs)
	m.status.UID, m.status.State, m.status.NextRetry = m.dp.UID, StateStarting, time.Time{}
	return a, 0
}

// attempt calls the function, and returns when that has returned or was given up.
func (m *member) attempt(a *attempt) error {
	f := m.fleet
	started, err := f.acquireStart(a.ctx)
	if err != nil {
		return err
	}
	defer started()
	cluster, err := remote.NewCluster(a.dp, f.options.Remote)
	if err != nil {
		a.invalid = true
		return err
	}
	defer cluster.Close()
	f.mu.Lock()
	a.began = time.Now()
	a.started = a.began
	m.starts++
	m.status.State, m.status.RunningSince, m.status.Restarts = StateRunning, a.began, m.starts-1
	f.mu.Unlock()
	if f.options.Hooks.OnStart != nil {
		f.options.Hooks.OnStart(m.key)
	}
	marked := func() {
		started()
		f.mu.Lock()
		defer f.mu.Unlock()
		if a.started.Equal(a.began) { // the first call
			a.started = time.Now()
		}
	}
	go m.call(context.WithValue(a.ctx, startedKey{}, marked), a, cluster)
	select {
	case err := <-a.result:
		return err
	case <-a.ctx.Done():
	}
	f.mu.Lock()
	m.status.State = StateStopping
	f.mu.Unlock()
	select {
	case err := <-a.result:
		return err
	case <-time.After(f.options.StopGrace):
		return m.giveUp(a)
	}
}

// call calls the function, and sends its result, or an error if it doesn't return.
func (m *member) call(ctx context.Context, a *attempt, cluster *remote.Cluster) {
	err := errors.New("run has ended its goroutine without returning")
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
		m.fleet.mu.Lock()
		defer m.fleet.mu.Unlock()
		a.result <- err
		if a.overdue != nil {
			if panicked := (*PanicError)(nil); errors.As(err, &panicked) {
				m.fail(err)
			}
			if a.overdue[m.key]--; a.overdue[m.key] == 0 {
				delete(a.overdue, m.key)
			}
		}
	}()
	err = m.fleet.run(ctx, cluster)
}

// giveUp counts a run as overdue, until it returns.
func (m *member) giveUp(a *attempt) error {
	f := m.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case err := <-a.result:
		return err
	default:
	}
	a.overdue = f.overdue // Run makes another
	f.overdue[m.key]++
	return fmt.Errorf("%w: %w", ErrOverdue, context.Cause(a.ctx))
}

// conclude records how a run ended.
func (m *member) conclude(a *attempt, err error) {
	f := m.fleet
	f.mu.Lock()
	stopped := a.ctx.Err() != nil
	cause := context.Cause(a.ctx)
	m.cancel(nil)
	m.cancel = nil
	var ran, retry time.Duration
	if !a.began.IsZero() {
		ran = time.Since(a.began)
	}
	var panicked *PanicError
	switch {
	case a.overdue != nil:
		m.fail(err)
	case stopped && errors.As(err, &panicked):
		m.fail(err)
		err = errors.Join(cause, err)
	case stopped:
		err = cause
	case err == nil:
		m.settle(a, StateDone)
		m.pause = 0
	case a.invalid:
		m.settle(a, StateFailed)
		m.fail(err)
	default:
		backoff := f.options.Backoff
		if time.Since(a.started) >= backoff.ResetAfter {
			m.pause = 0
		}
		m.pause = max(0, min(max(2*m.pause, backoff.Initial), backoff.Limit))
		retry = m.pause/2 + rand.N(max(m.pause/2, 1)) //nolint:gosec // spreads runs that failed together
		m.retryAt = time.Now().Add(retry)
		m.status.State, m.status.NextRetry = StateRetrying, m.retryAt
		m.fail(err)
	}
	m.status.RunningSince = time.Time{}
	f.mu.Unlock()
	if f.options.Hooks.OnEnd != nil && (a.invalid || !a.began.IsZero()) {
		f.options.Hooks.OnEnd(m.key, err, ran, retry)
	}
}

// settle needs the Fleet's lock.
func (m *member) settle(a *attempt, outcome State) {
	m.settled, m.outcome, m.status.State = a.revision, outcome, outcome
}

// fail needs the Fleet's lock.
func (m *member) fail(err error) {
	m.status.LastError, m.status.LastErrorTime = err.Error(), time.Now()
}
