// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// run is one call of the user's function, from when it is due until it has returned or was
// abandoned.
type run struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	ready   chan *remote.Cluster // receives its Cluster, once
	done    chan result          // receives its result, once
	rotated chan struct{}        // its Cluster has other credentials
	moved   chan struct{}        // one of its requests has found another API server
	release func()               // gives back its place in StartLimit

	// Guarded by Fleet.mu:
	cluster     *remote.Cluster // nil before it is made
	connectedAt time.Time       // when cluster was made
	startedAt   time.Time       // connectedAt, or when it called MarkStarted
	marked      bool            // it has called MarkStarted
	abandoned   bool            // it has not returned in time
	rotations   int             // that Hooks.OnRotate has not been called for

	// seen is the newest DataPlane that the run has seen, nil until OnStart; one that arrives
	// after the run has returned is not seen. used is the newest whose credentials could be used.
	// All three belong to the loop.
	seen, used *v1alpha1.DataPlane
	refused    string // the error of credentials that can't be used
}

func newRun(ctx context.Context) *run {
	r := &run{
		release: func() {},
		ready:   make(chan *remote.Cluster, 1), done: make(chan result, 1), rotated: make(chan struct{}, 1),
		moved: make(chan struct{}, 1),
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	return r
}

// result is how a run ended. The methods of the user's error may take long, so they are called in
// the goroutine of the run, without a lock.
type result struct {
	err      error
	text     string // of err
	panicked bool
}

func resultOf(err error) result {
	if err == nil {
		return result{}
	}
	return result{err, err.Error(), errors.As(err, new(*PanicError))}
}

// state returns the state of the run. The caller holds Fleet.mu.
func (r *run) state() State {
	switch {
	case r.ctx.Err() != nil:
		return StateStopping
	case r.connectedAt.IsZero():
		return StateStarting
	}
	return StateRunning
}

// supervise starts a run and follows it until it has returned or was abandoned.
func (p *plane) supervise(r *run) result {
	if err := p.begin(r); err != nil {
		return resultOf(err)
	}
	defer r.release()
	if onStart := p.fleet.options.Hooks.OnStart; onStart != nil {
		onStart(p.key)
	}
	go p.call(r, r.seen)
	var cluster *remote.Cluster
	var changes chan struct{} // nil until there is a Cluster, so that changes wait for it
	canceled := r.ctx.Done()
	var grace <-chan time.Time // begins when the run is canceled
	for {
		var again <-chan time.Time // for a run without requests, which ask ConfigFor again
		if r.refused != "" {
			again = time.After(p.fleet.options.Backoff.Limit)
		}
		select {
		case cluster = <-r.ready:
			changes = p.wake
		case <-changes:
			p.rotate(r, cluster)
		case <-again:
			p.rotate(r, cluster)
		case <-r.rotated:
			p.reportRotations(r)
		case <-r.moved:
			p.endMoved(r)
		case ended := <-r.done:
			return ended
		case <-canceled: // but it can send requests until it returns, so the loop continues
			canceled, grace = nil, time.After(p.fleet.options.StopGrace)
		case <-grace:
			return p.abandon(r)
		case <-p.term.abandoned.Done():
			return p.abandon(r)
		}
	}
}

// begin waits until one more run may start, and gives it the newest DataPlane.
func (p *plane) begin(r *run) error {
	f := p.fleet
	release, err := f.awaitStart(r.ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-p.wake: // p.dp has all changes so far
	default:
	}
	if err := context.Cause(r.ctx); err != nil {
		release()
		return err
	}
	r.release, r.seen, r.used = release, p.dp, p.dp
	return nil
}

// call makes the Cluster, calls the user's function, and sends the result, which is an error if
// the function ends its goroutine. One goroutine does both, because both need a large stack.
func (p *plane) call(r *run, dp *v1alpha1.DataPlane) {
	f, ended := p.fleet, resultOf(errors.New("run has ended its goroutine without returning"))
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		r.done <- ended
		if !r.abandoned {
			return
		}
		if ended.panicked {
			p.fail(ended.text)
		}
		if f.overdue[p.key]--; f.overdue[p.key] == 0 {
			delete(f.overdue, p.key)
		}
	}()
	ended = resultOf(recovered(func() error {
		cluster, err := p.connect(r, dp)
		if err != nil {
			return err
		}
		return f.run(context.WithValue(r.ctx, runKey{}, &marker{f, r}), cluster)
	}))
}

// connect makes the Cluster of a run.
func (p *plane) connect(r *run, dp *v1alpha1.DataPlane) (*remote.Cluster, error) {
	f := p.fleet
	options := f.options.Remote
	options.OnRotate = func(key types.NamespacedName) {
		f.mu.Lock()
		p.pause = 0
		r.rotations++
		f.mu.Unlock()
		if f.options.Remote.OnRotate != nil {
			f.options.Remote.OnRotate(key)
		}
		wakeUp(r.rotated)
	}
	options.OnServerChanged = func(key types.NamespacedName) {
		wakeUp(r.moved)
		if f.options.Remote.OnServerChanged != nil {
			f.options.Remote.OnServerChanged(key)
		}
	}
	cluster, err := remote.NewCluster(dp, options)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	if err = context.Cause(r.ctx); err == nil {
		r.cluster, r.connectedAt, r.startedAt = cluster, time.Now(), time.Now()
		p.runs++
	}
	f.mu.Unlock()
	if err != nil {
		cluster.Abort()
		return nil, err
	}
	r.ready <- cluster
	return cluster, nil
}

type runKey struct{}

type marker struct {
	fleet *Fleet
	run   *run
}

// MarkStarted reports to the Fleet that the run with this context has done its initial work, such
// as filling caches; see Options.StartLimit and [Backoff]. With any other context, it does nothing.
func MarkStarted(ctx context.Context) {
	m, ok := ctx.Value(runKey{}).(*marker)
	if !ok {
		return
	}
	m.run.release()
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	if !m.run.marked {
		m.run.marked, m.run.startedAt = true, time.Now()
	}
}

// rotate gives the Cluster of a run the newest credentials of the same DataPlane, and cancels the
// run if they are for another API server. If a change of the URL or the plane ID shows that, or the
// run was canceled before, it can use the old credentials until it returns. Otherwise, as after a
// change of clientCA, its requests fail: they would go to the other server.
func (p *plane) rotate(r *run, cluster *remote.Cluster) {
	f := p.fleet
	f.mu.Lock()
	dp, canceled := p.dp, r.ctx.Err() != nil
	f.mu.Unlock()
	if dp == nil || dp.UID != r.seen.UID || p.term.abandoned.Err() != nil { // another replica may lead by now
		return
	}
	var err, panicked error
	if canceled || r.used.Spec.KubernetesCluster.Credentials.APIServerURL != dp.Spec.KubernetesCluster.Credentials.APIServerURL ||
		r.used.Spec.PlaneID != dp.Spec.PlaneID {
		w := newWitness(f.options.Remote)
		w.server = cluster.String()
		if w.compare(dp).server {
			err = remote.ErrServerChanged
		}
		w.close()
	}
	if err == nil {
		panicked = recovered(func() error {
			err = cluster.Update(dp)
			return nil
		})
	}
	if errors.Is(err, remote.ErrClosed) { // the run itself has closed it, and uses no newer credentials
		return
	}
	if len(r.done) == 0 {
		r.seen = dp
		if err == nil && panicked == nil {
			r.used = dp
		}
	}
	p.reportRotations(r)
	text := ""
	if err != nil {
		text = err.Error()
	}
	f.mu.Lock()
	refused := false
	switch {
	case len(r.done) > 0: // it has returned, and its own result counts
	case panicked != nil: // in the user's WrapTransport or Proxy; the Cluster still has the old credentials
		r.cancel(panicked)
	case errors.Is(err, remote.ErrServerChanged):
		p.endPause()
		r.cancel(err)
	case text != r.refused: // the same error is reported once
		if r.refused = text; text != "" {
			p.fail(text)
			refused = true
		}
	}
	f.mu.Unlock()
	if refused && f.options.Hooks.OnRotate != nil {
		f.options.Hooks.OnRotate(p.key, err)
	}
}

// reportRotations calls Hooks.OnRotate from the plane's loop. Requests can rotate credentials too.
func (p *plane) reportRotations(r *run) {
	f := p.fleet
	f.mu.Lock()
	rotations := r.rotations
	r.rotations = 0
	f.mu.Unlock()
	if rotations > 0 {
		r.refused = ""
	}
	for range rotations {
		if f.options.Hooks.OnRotate != nil {
			f.options.Hooks.OnRotate(p.key, nil)
		}
	}
}

// endMoved cancels a run with another API server, unless it has just returned.
func (p *plane) endMoved(r *run) {
	p.fleet.mu.Lock()
	defer p.fleet.mu.Unlock()
	if len(r.done) == 0 {
		p.endPause()
		r.cancel(remote.ErrServerChanged)
	}
}

// abandon gives up a canceled run, unless it has just returned.
func (p *plane) abandon(r *run) result {
	f := p.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case ended := <-r.done:
		return ended
	default:
	}
	r.abandoned = true
	f.overdue[p.key]++
	return resultOf(fmt.Errorf("%w: %w", ErrOverdue, context.Cause(r.ctx)))
}

// recovered returns the error of f, or a PanicError if f panics or a method of its error does, as
// a nil pointer's may.
func recovered(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	if err = f(); err != nil {
		_, _ = err.Error(), errors.Is(err, ErrOverdue)
	}
	return err
}
