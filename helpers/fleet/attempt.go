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
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// attempt is one run, from when it is due, and the context that the function gets.
type attempt struct {
	context.Context
	fleet   *Fleet
	release func()        // lets another run start
	rotated chan struct{} // its Cluster has new credentials
	refused string        // the error of credentials that can't be used

	revision int32 // of the plane when it began; next to the bools, to save memory

	// With the Fleet's lock:
	marked   bool // it has called MarkStarted
	missed   bool // the plane was woken before there was a Cluster
	returned bool
	overdue  bool            // it was given up and has not returned
	cluster  *remote.Cluster // nil before the function is called
	started  time.Time       // when that was, or when it called MarkStarted
	result   error

	// The newest DataPlane that it has seen, nil until OnStart; and the newest whose credentials
	// could be used. What comes when the function has returned has come too late.
	seen, used *v1alpha1.DataPlane
	rotations  int // that Hooks.OnRotate has not been called for
}

// String is that of the context, or else fmt would read fields that change.
func (a *attempt) String() string { return fmt.Sprint(a.Context) }

// GoString is for %#v.
func (a *attempt) GoString() string { return a.String() }

type attemptKey struct{}

// Value finds the attempt itself, for MarkStarted.
func (a *attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// MarkStarted tells the Fleet that the run with this context has done its initial work, such
// as filling caches; see Options.StartLimit and [Backoff]. It does nothing with another context.
func MarkStarted(ctx context.Context) {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return
	}
	a.release()
	a.fleet.mu.Lock()
	defer a.fleet.mu.Unlock()
	if !a.marked {
		a.marked, a.started = true, time.Now()
	}
}

// attempt calls the function, and returns when that has returned or was given up.
func (p *plane) attempt(a *attempt) error {
	f := p.fleet
	var err error
	if a.release, err = f.acquireStart(a); err != nil {
		return err
	}
	defer a.release()
	f.mu.Lock()
	select {
	case <-p.wake: // p.dp has what has changed so far
	default:
	}
	if err = context.Cause(a); err == nil {
		a.seen, a.used = p.dp, p.dp
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if f.options.Hooks.OnStart != nil {
		f.options.Hooks.OnStart(p.key)
	}
	go p.call(a, a.seen)
	for {
		select {
		case <-p.wake:
		case <-a.rotated:
			p.tellRotations(a)
			continue
		}
		f.mu.Lock()
		dp, cluster, returned := p.dp, a.cluster, a.returned
		a.missed = cluster == nil
		f.mu.Unlock()
		switch {
		case returned:
			return a.result
		case a.Err() != nil:
			return p.stop(a)
		case cluster == nil:
			continue
		}
		err := p.rotate(a, cluster, dp)
		p.tellRotations(a)
		if err != nil && f.options.Hooks.OnRotate != nil {
			f.options.Hooks.OnRotate(p.key, err)
		}
	}
}

// tellRotations calls Hooks.OnRotate in the plane's loop, since a request can rotate too.
func (p *plane) tellRotations(a *attempt) {
	f := p.fleet
	f.mu.Lock()
	rotations := a.rotations
	a.rotations = 0
	f.mu.Unlock()
	for range rotations {
		if f.options.Hooks.OnRotate != nil {
			f.options.Hooks.OnRotate(p.key, nil)
		}
	}
}

// rotate gives the Cluster of a run its newest credentials. If they are for another API server,
// the run ends instead, and can still use the ones before while it does.
func (p *plane) rotate(a *attempt, cluster *remote.Cluster, dp *v1alpha1.DataPlane) error {
	f, err := p.fleet, error(nil)
	if a.used.Spec.KubernetesCluster.Credentials.APIServerURL != dp.Spec.KubernetesCluster.Credentials.APIServerURL {
		w := newWitness(f.options.Remote)
		w.changed(a.used)
		if _, server := w.changed(dp); server {
			err = remote.ErrServerChanged
		}
		w.close()
	}
	var panicked error
	if err == nil {
		panicked = recovered(func() error {
			err = cluster.Update(dp)
			return nil
		})
	}
	serverChanged, text := errors.Is(err, remote.ErrServerChanged), ""
	if err != nil {
		text = textOf(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !a.returned {
		a.seen = dp
	}
	switch {
	case panicked != nil: // as the user's WrapTransport may; the Cluster still has the old credentials
		p.cancel(panicked)
		wakeUp(p.wake)
		return nil
	case err == nil:
		if a.refused = ""; !a.returned {
			a.used = dp
		}
		return nil
	case serverChanged:
		p.revision++
		p.endPause()
		p.cancel(err)
		wakeUp(p.wake)
		return nil
	case text == a.refused: // as before
		return nil
	}
	a.refused = text
	p.fail(text)
	return err
}

// recovered returns the error of f, a PanicError if that panics.
func recovered(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return f()
}

// textOf returns the text of an error. One of the user may panic when it is asked for that, as a
// nil pointer does, and may take long: it isn't asked for with a lock held.
func textOf(err error) (text string) {
	panicked := recovered(func() error {
		text = err.Error()
		return nil
	})
	if panicked != nil {
		return fmt.Sprintf("%T without a text: %v", err, panicked)
	}
	return text
}

// call makes a run and keeps its result, or an error if it doesn't return.
func (p *plane) call(a *attempt, dp *v1alpha1.DataPlane) {
	f, err := p.fleet, errors.New("run has ended its goroutine without returning")
	defer func() {
		text := ""
		if errors.As(err, new(*PanicError)) {
			text = textOf(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		a.returned, a.result = true, err
		wakeUp(p.wake)
		if a.overdue {
			if text != "" {
				p.fail(text)
			}
			if f.overdue[p.key]--; f.overdue[p.key] == 0 {
				delete(f.overdue, p.key)
			}
		}
	}()
	err = recovered(func() error { return p.makeRun(a, dp) })
}

// makeRun makes a Cluster and calls the function, in one goroutine, since each needs a large
// stack.
func (p *plane) makeRun(a *attempt, dp *v1alpha1.DataPlane) error {
	f := p.fleet
	options := f.options.Remote
	options.OnRotate = func(key types.NamespacedName) {
		f.mu.Lock()
		p.pause = 0
		a.rotations++
		f.mu.Unlock()
		if f.options.Remote.OnRotate != nil {
			f.options.Remote.OnRotate(key)
		}
		wakeUp(a.rotated)
	}
	cluster, err := remote.NewCluster(dp, options)
	if err != nil {
		return err
	}
	f.mu.Lock()
	if err = context.Cause(a); err == nil {
		a.cluster, a.started = cluster, time.Now()
		p.starts++
		p.status.State, p.status.RunningSince, p.status.Restarts = StateRunning, a.started, p.starts-1
	}
	if a.missed {
		wakeUp(p.wake)
	}
	f.mu.Unlock()
	if err != nil {
		cluster.Abort()
		return err
	}
	return f.run(a, cluster)
}

// stop waits for a run whose context has ended, and counts it as overdue if it doesn't
// return in time.
func (p *plane) stop(a *attempt) error {
	f := p.fleet
	grace, cancel := context.WithTimeout(p.term.giveUp, f.options.StopGrace)
	defer cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	p.status.State = StateStopping
	for !a.returned && grace.Err() == nil {
		f.mu.Unlock()
		select {
		case <-p.wake:
		case <-grace.Done():
		}
		f.mu.Lock()
	}
	if a.returned {
		return a.result
	}
	a.overdue = true
	f.overdue[p.key]++
	return fmt.Errorf("%w: %w", ErrOverdue, context.Cause(a))
}

// conclude closes the Cluster of a run and records how that ended.
func (p *plane) conclude(a *attempt, err error) {
	f, panicked, text := p.fleet, errors.As(err, new(*PanicError)), ""
	f.mu.Lock()
	cluster, dp, ended := a.cluster, p.dp, a.Err() != nil
	f.mu.Unlock()
	if cluster != nil {
		cluster.Abort()
	}
	if err != nil {
		text = textOf(err)
	}
	var credentialsChanged, serverChanged bool // since this run began
	if !ended {
		p.witness = newWitness(f.options.Remote)
		if cluster != nil { // which has seen these
			p.witness.changed(a.used)
			if a.seen != a.used {
				p.witness.changed(a.seen)
			}
		}
		if dp != a.seen {
			credentialsChanged, serverChanged = p.witness.changed(dp)
		}
	}
	f.mu.Lock()
	stopped, cause := a.Err() != nil, context.Cause(a)
	p.cancel(nil)
	p.cancel = nil
	called, ran, retry := !a.started.IsZero(), time.Duration(0), time.Duration(0)
	if called {
		ran = time.Since(p.status.RunningSince)
	}
	switch {
	case a.overdue:
		p.fail(text)
	case stopped && panicked:
		p.fail(text)
		err = errors.Join(cause, err)
	case stopped:
		err = cause
	case err == nil:
		p.done, p.pause = a.revision, 0
		if serverChanged && p.revision == a.revision {
			p.revision++
		}
	default:
		p.fail(text)
		backoff := f.options.Backoff
		if called && time.Since(a.started) >= backoff.ResetAfter {
			p.pause = 0
		}
		p.pause = min(max(2*p.pause, backoff.Initial), backoff.Limit)
		if credentialsChanged || serverChanged {
			p.endPause()
		} else if p.revision == a.revision {
			retry = p.pause/2 + rand.N(p.pause/2+1) //nolint:gosec // spreads runs that failed together
			p.status.NextRetry = time.Now().Add(retry)
		}
	}
	p.status.RunningSince = time.Time{}
	p.settle()
	f.mu.Unlock()
	p.tellRotations(a)
	if f.options.Hooks.OnEnd != nil && a.seen != nil {
		f.options.Hooks.OnEnd(p.key, err, ran, retry)
	}
}

// fail needs the Fleet's lock.
func (p *plane) fail(text string) {
	p.status.LastError, p.status.LastErrorTime = text, time.Now()
}
