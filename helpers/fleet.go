// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Fleet runs one function for each of many data planes, for as long as it exists with
// the same credentials:
//
//	fleet := helpers.NewFleet(informer, func(ctx context.Context, r *helpers.Remote) error {
//		client, err := kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
//		if err != nil {
//			return err
//		}
//		return watchWorkloads(ctx, r.Key(), client) // until ctx ends
//	})
//	err := fleet.Run(ctx)
//
// A run gets a [Remote] of its own, which is closed, with all that is still open through
// it, when the run has returned. Its context ends, with a cause that errors.Is finds,
//
//   - when the DataPlane is deleted: [ErrDeleted]; one that is being deleted, and waits for
//     finalizers, goes on;
//   - when another of its name has come: [ErrReplaced];
//   - when its credentials have changed: [ErrCredentialsChanged], or it has in another way
//     that [WithRestartOn] asks for: [ErrDataPlaneChanged];
//   - when a filter no longer selects it: [ErrNotSelected];
//   - when the context of Run has ended: [ErrFleetStopped], and the cause of that context.
//
// A run whose context has ended should return. If it doesn't within the grace, see
// [WithStopGrace], its Remote is closed nevertheless, so that nothing reaches the
// cluster, and it is given up. Only then is there another run for the DataPlane, so that
// there never are two that can work.
//
// A run that returns an error is run again after a while, see [WithBackoff]; so is one
// that panics, for which the error is a [*PanicError]. One that returns nil is done: there
// is no other before the DataPlane changes, in one of the ways above. Credentials that
// can't be used are an error that no retry mends, so that there is none either.
//
// Data planes don't wait for one another, unless [WithStartLimit] makes them.
type Fleet struct {
	informer cache.SharedIndexInformer
	run      func(ctx context.Context, r *Remote) error
	options  fleetOptions
	starting chan struct{} // holds one for each run that starts, when that is limited

	mu      sync.Mutex
	running bool
	members map[types.NamespacedName]*member
	overdue map[types.NamespacedName]int // runs that were given up and have not returned
	loops   sync.WaitGroup               // one for each member
}

// Why the context of a run ends, beside ErrDeleted and ErrReplaced.
var (
	// ErrCredentialsChanged says that a DataPlane has other credentials by now, or
	// another API server.
	ErrCredentialsChanged = errors.New("credentials of the data plane have changed")
	// ErrDataPlaneChanged says that a DataPlane has changed in a way that WithRestartOn
	// asks for.
	ErrDataPlaneChanged = errors.New("data plane has changed")
	// ErrNotSelected says that a DataPlane is no longer selected by a Fleet's filters.
	ErrNotSelected = errors.New("data plane is no longer selected")
	// ErrFleetStopped says that the Fleet is at its end.
	ErrFleetStopped = errors.New("fleet is stopped")
	// ErrOverdue says that a run did not return within the grace after its end.
	ErrOverdue = errors.New("run did not return in time")
)

// PanicError is the error of a run that has panicked.
type PanicError struct {
	// Value is what it has panicked with.
	Value any
	// Stack is the stack of its goroutine then, as of debug.Stack.
	Stack []byte
}

// Error shows Value, and not Stack.
func (e *PanicError) Error() string { return fmt.Sprintf("run panicked: %v", e.Value) }

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// NewFleet returns a Fleet over the DataPlanes of an informer, which the caller starts
// and lets run for as long as the Fleet does. The informer must keep secrets: not
// [DropSecrets], but [StripManagedFields] saves memory. run is called from many goroutines
// at once, and must not be nil.
func NewFleet(informer cache.SharedIndexInformer, run func(ctx context.Context, r *Remote) error, opts ...FleetOption) *Fleet {
	f := &Fleet{informer: informer, run: run, options: newFleetOptions(opts)}
	if f.options.maxStarts > 0 {
		f.starting = make(chan struct{}, f.options.maxStarts)
	}
	return f
}

// Run runs the Fleet until ctx ends, and then ends its runs. It returns when they have
// returned or their grace has ended, within little more than the grace: nil, or an error
// that is [ErrOverdue] and names the data planes of those that it has given up. A Fleet
// that runs can't be run again before Run has returned.
func (f *Fleet) Run(ctx context.Context) error {
	f.mu.Lock()
	if f.running {
		f.mu.Unlock()
		return errors.New("fleet runs already")
	}
	f.running = true
	f.members, f.overdue = map[types.NamespacedName]*member{}, map[types.NamespacedName]int{}
	f.mu.Unlock()

	runs, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	observe := func(obj any) { f.observe(runs, obj) }
	registration, err := f.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: observe, UpdateFunc: func(_, obj any) { observe(obj) }, DeleteFunc: observe,
	})
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running = false
		return fmt.Errorf("fleet: watch data planes: %w", err)
	}
	<-ctx.Done()
	f.mu.Lock() // no loop begins after this
	stop(fmt.Errorf("%w: %w", ErrFleetStopped, context.Cause(ctx)))
	f.mu.Unlock()
	err = f.informer.RemoveEventHandler(registration)
	f.loops.Wait()

	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = false
	if len(f.overdue) > 0 {
		var names []string
		for key := range maps.Keys(f.overdue) {
			names = append(names, key.String())
		}
		slices.Sort(names)
		err = errors.Join(err, fmt.Errorf("fleet: %w: %s", ErrOverdue, strings.Join(names, ", ")))
	}
	return err
}

// observe brings a member up to date with what the informer has of it now, which may be
// more than the event tells. The informer calls it for one event after the other, and for
// the last perhaps when Run has returned.
func (f *Fleet) observe(runs context.Context, obj any) {
	name, err := cache.DeletionHandlingObjectToName(obj)
	if err != nil {
		return
	}
	key := types.NamespacedName{Namespace: name.Namespace, Name: name.Name}
	obj, _, err = f.informer.GetIndexer().GetByKey(name.String())
	if err != nil {
		return
	}
	dp, _ := obj.(*v1alpha1.DataPlane)

	// What is the user's to say is asked without the lock. Nobody changes these meanwhile.
	var before *v1alpha1.DataPlane
	wasSelected := false
	f.mu.Lock()
	if m := f.members[key]; m != nil && m.dp != nil && dp != nil && m.dp.UID == dp.UID {
		before, wasSelected = m.dp, m.selected
	}
	f.mu.Unlock()
	selected := dp != nil && f.options.selects(dp, wasSelected)
	changed := before != nil && before != dp && f.options.restarts(before, dp)

	f.mu.Lock()
	defer f.mu.Unlock()
	if runs.Err() != nil {
		return
	}
	m := f.members[key]
	if m == nil {
		if !selected {
			return
		}
		m = &member{fleet: f, key: key, wake: make(chan struct{}, 1)}
		f.members[key] = m
		f.loops.Add(1)
		go func() {
			defer f.loops.Done()
			m.loop(runs)
		}()
	}
	if cause := m.update(dp, selected, changed); cause != nil && m.cancel != nil {
		m.cancel(cause)
	}
	select {
	case m.wake <- struct{}{}:
	default: // it is awake
	}
}

// member is one DataPlane of a Fleet. What follows wake needs the Fleet's lock.
type member struct {
	fleet *Fleet
	key   types.NamespacedName
	wake  chan struct{}

	dp       *v1alpha1.DataPlane // nil when it is gone
	selected bool
	revision int        // counts the changes that take another run
	settled  int        // the revision that needs no other run
	outcome  FleetState // of that
	failures int        // one after the other
	retryAt  time.Time
	cancel   context.CancelCauseFunc // of the run under way
	starts   int
	status   PlaneStatus
}

// update takes in the object as it is, and returns why a run for the one before must end.
func (m *member) update(dp *v1alpha1.DataPlane, selected, changed bool) (cause error) {
	before := m.dp
	if selected && !m.selected {
		m.retryAt = time.Time{} // whatever was wrong, this is news
	}
	m.dp, m.selected = dp, selected
	switch {
	case dp == nil:
		return ErrDeleted
	case before == nil || before.UID != dp.UID:
		cause = ErrReplaced
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
	m.failures, m.retryAt = 0, time.Time{}
	return cause
}

// loop runs the function again and again, until the DataPlane is gone or runs ends.
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
	started  time.Time // when it had started, if it has said so, or else began
	invalid  bool      // the credentials can't be used
	result   chan error
	overdue  map[types.NamespacedName]int // with the Fleet's lock: where it counts, if it was given up
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

// due returns the run that is due, or how long until one is: 0 when that takes a change,
// and less when there will be none.
func (m *member) due(runs context.Context) (*attempt, time.Duration) {
	f := m.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case m.dp == nil:
		delete(f.members, m.key)
		f.options.hooks.removed(m.key)
		return nil, -1
	case runs.Err() != nil:
		m.status.State, m.status.NextRetry = FleetStopped, time.Time{}
		return nil, -1
	case !m.selected:
		m.status.State, m.status.NextRetry = FleetNotSelected, time.Time{}
		return nil, 0
	case m.settled == m.revision:
		m.status.State = m.outcome
		return nil, 0
	}
	if pause := time.Until(m.retryAt); pause > 0 {
		m.status.State, m.status.NextRetry = FleetRetrying, m.retryAt
		return nil, pause
	}
	a := &attempt{dp: m.dp, revision: m.revision, result: make(chan error, 1)}
	a.ctx, m.cancel = context.WithCancelCause(runs)
	m.status.UID, m.status.State, m.status.NextRetry = m.dp.UID, FleetStarting, time.Time{}
	return a, 0
}

// attempt calls the function, and returns when it has returned or is given up.
func (m *member) attempt(a *attempt) error {
	f := m.fleet
	started, err := f.acquireStart(a.ctx)
	if err != nil {
		return err
	}
	defer started()
	remote, err := NewRemote(a.dp, f.options.remote...)
	if err != nil {
		a.invalid = true
		return err
	}
	defer remote.cut()
	m.begin(a, time.Now())
	f.options.hooks.start(m.key)
	marked := func() {
		started()
		m.markStarted(a, time.Now())
	}
	go m.call(context.WithValue(a.ctx, startedKey{}, marked), a, remote)
	select {
	case err := <-a.result:
		return err
	case <-a.ctx.Done():
	}
	m.stopping()
	grace := time.NewTimer(f.options.grace)
	defer grace.Stop()
	select {
	case err := <-a.result:
		return err
	case <-grace.C:
		return m.giveUp(a)
	}
}

// call calls the function, and passes on what it returns, or an error if it never does.
func (m *member) call(ctx context.Context, a *attempt, r *Remote) {
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
	err = m.fleet.run(ctx, r)
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

// conclude takes note of how a run has ended.
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
		m.settle(a, FleetDone)
		m.failures = 0
	case a.invalid:
		m.settle(a, FleetFailed)
		m.fail(err)
	default:
		if !a.started.IsZero() && time.Since(a.started) >= f.options.resetAfter {
			m.failures = 0
		}
		m.failures++
		retry = f.options.backoff(m.failures)
		m.retryAt = time.Now().Add(retry)
		m.status.State, m.status.NextRetry = FleetRetrying, m.retryAt
		m.fail(err)
	}
	m.status.RunningSince = time.Time{}
	f.mu.Unlock()
	f.options.hooks.end(m.key, a, err, ran, retry)
}

// settle needs the Fleet's lock.
func (m *member) settle(a *attempt, outcome FleetState) {
	m.settled, m.outcome, m.status.State = a.revision, outcome, outcome
}

func (m *member) begin(a *attempt, now time.Time) {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	a.began, a.started = now, now
	m.starts++
	m.status.State, m.status.RunningSince, m.status.Restarts = FleetRunning, now, m.starts-1
}

// fail needs the Fleet's lock.
func (m *member) fail(err error) {
	m.status.LastError, m.status.LastErrorTime = err.Error(), time.Now()
}

// markStarted takes note of when the work of a start was first done.
func (m *member) markStarted(a *attempt, now time.Time) {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	if a.started.Equal(a.began) {
		a.started = now
	}
}

func (m *member) stopping() {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.status.State = FleetStopping
}

// acquireStart waits until one more run may start, and returns what to call when it has.
func (f *Fleet) acquireStart(ctx context.Context) (started func(), _ error) {
	if f.starting == nil {
		return func() {}, nil
	}
	select {
	case f.starting <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	release := sync.OnceFunc(func() { <-f.starting })
	if f.options.startTime <= 0 {
		return release, nil
	}
	timer := time.AfterFunc(f.options.startTime, release)
	return func() { timer.Stop(); release() }, nil
}

type startedKey struct{}

// MarkStarted tells the Fleet that called the run of this context that the run has done
// the work of its start, such as filling caches, so that another may begin; see
// [WithStartLimit] and [WithBackoff]. With any other context, it does nothing.
func MarkStarted(ctx context.Context) {
	if started, ok := ctx.Value(startedKey{}).(func()); ok {
		started()
	}
}

// FleetOption changes how a Fleet runs.
type FleetOption func(*fleetOptions)

type fleetOptions struct {
	remote     []Option
	filters    []func(dp *v1alpha1.DataPlane, selected bool) bool
	restartOn  []func(before, after *v1alpha1.DataPlane) bool
	maxStarts  int
	startTime  time.Duration
	initial    time.Duration
	max        time.Duration
	resetAfter time.Duration
	grace      time.Duration
	hooks      FleetHooks
}

func newFleetOptions(opts []FleetOption) fleetOptions {
	o := fleetOptions{initial: time.Second, max: 5 * time.Minute, resetAfter: time.Minute, grace: 10 * time.Second}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
}

// selects takes whether dp was selected before.
func (o *fleetOptions) selects(dp *v1alpha1.DataPlane, selected bool) bool {
	for _, filter := range o.filters {
		if !filter(dp, selected) {
			return false
		}
	}
	return true
}

func (o *fleetOptions) restarts(before, after *v1alpha1.DataPlane) bool {
	return slices.ContainsFunc(o.restartOn, func(changed func(before, after *v1alpha1.DataPlane) bool) bool {
		return changed(before, after)
	})
}

// backoff returns how long to wait after so many failures: about twice as long as after
// one less, and at random, so that what has failed together doesn't come back together.
func (o *fleetOptions) backoff(failures int) time.Duration {
	d := o.max
	if shift := failures - 1; shift < 32 && o.initial<<shift>>shift == o.initial {
		d = min(o.initial<<shift, o.max)
	}
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d/2) //nolint:gosec // spreads load, hides nothing
}

// WithRemoteOptions sets the options of the Remotes. [WithCloseGrace] has no effect there:
// the grace is for the run.
func WithRemoteOptions(opts ...Option) FleetOption {
	return func(o *fleetOptions) { o.remote = append(o.remote, opts...) }
}

// WithFilter makes a Fleet run only for data planes that selects says true of, now and as
// long as it does. The report is what [Evaluate] makes of dp. selects must be quick,
// change nothing, and not call the Fleet. Several filters must all say true.
func WithFilter(selects func(dp *v1alpha1.DataPlane, report Report) bool) FleetOption {
	return func(o *fleetOptions) {
		o.filters = append(o.filters, func(dp *v1alpha1.DataPlane, _ bool) bool { return selects(dp, Evaluate(dp)) })
	}
}

// WithSelector makes a Fleet run only for data planes whose labels match.
func WithSelector(selector labels.Selector) FleetOption {
	return func(o *fleetOptions) {
		o.filters = append(o.filters, func(dp *v1alpha1.DataPlane, _ bool) bool { return selector.Matches(labels.Set(dp.Labels)) })
	}
}

// OnlyConnected makes a Fleet start runs only for data planes whose Connected condition is
// True, and end them when it is False. Unknown changes nothing, since every change of a
// spec makes it so until somebody has looked again. opts are for [EvaluateCondition].
func OnlyConnected(opts ...EvaluateOption) FleetOption {
	return func(o *fleetOptions) {
		o.filters = append(o.filters, func(dp *v1alpha1.DataPlane, selected bool) bool {
			switch EvaluateCondition(dp, v1alpha1.DataPlaneConditionConnected, opts...).Status {
			case metav1.ConditionTrue:
				return true
			case metav1.ConditionFalse:
				return false
			default:
				return selected
			}
		})
	}
}

// WithRestartOn makes a Fleet end a run and begin another also when changed says true of
// the DataPlane as it was last and as it is now. changed must be quick and change nothing.
// Of several, one that says true is enough.
func WithRestartOn(changed func(before, after *v1alpha1.DataPlane) bool) FleetOption {
	return func(o *fleetOptions) { o.restartOn = append(o.restartOn, changed) }
}

// WithStartLimit lets no more than n runs start at once, so that thousands of them don't
// fill their caches together. A run starts until it has called [MarkStarted], or has
// returned, or for d: a cluster that doesn't answer takes a place no longer than that. 0
// or less is no limit, of runs or of time; without one of time, a cluster that doesn't
// answer keeps others from starting.
func WithStartLimit(n int, d time.Duration) FleetOption {
	return func(o *fleetOptions) { o.maxStarts, o.startTime = max(n, 0), d }
}

// WithBackoff sets how long after an error there is another run: about initial the first
// time, and twice as long each time, up to limit. A run that lasted for resetAfter, after
// [MarkStarted] if it has called that, counts as having run well, and its error as the
// first. The defaults are 1 s, 5 min and 1 min.
func WithBackoff(initial, limit, resetAfter time.Duration) FleetOption {
	return func(o *fleetOptions) {
		o.initial, o.max, o.resetAfter = max(initial, 0), max(limit, 0), resetAfter
	}
}

// WithStopGrace sets how long a run may take to return after its context has ended. The
// default is 10 s; with 0 it is given up at once.
func WithStopGrace(d time.Duration) FleetOption {
	return func(o *fleetOptions) { o.grace = max(d, 0) }
}

// WithFleetHooks makes a Fleet tell what happens, for metrics and logs.
func WithFleetHooks(hooks FleetHooks) FleetOption {
	return func(o *fleetOptions) { o.hooks = hooks }
}

// FleetHooks are called by a [Fleet]; each may be nil. They are called from many
// goroutines, one after the other for each data plane, and must be quick.
type FleetHooks struct {
	// OnStart is called before a run begins.
	OnStart func(key types.NamespacedName)
	// OnEnd is called after a run has ended, or when none could begin because of the
	// credentials, for which ran is 0. err is what the run returned, or the cause of its
	// context if that has ended it, joined with the error of a panic after that; retry is
	// how long until the next, if err is why.
	OnEnd func(key types.NamespacedName, err error, ran, retry time.Duration)
	// OnRemove is called when a DataPlane is gone, and its run has ended: this is when to
	// remove its metrics. It is not called when the Fleet ends. It must not call the Fleet.
	OnRemove func(key types.NamespacedName)
}

func (h *FleetHooks) start(key types.NamespacedName) {
	if h.OnStart != nil {
		h.OnStart(key)
	}
}

func (h *FleetHooks) end(key types.NamespacedName, a *attempt, err error, ran, retry time.Duration) {
	if h.OnEnd != nil && (a.invalid || !a.began.IsZero()) {
		h.OnEnd(key, err, ran, retry)
	}
}

func (h *FleetHooks) removed(key types.NamespacedName) {
	if h.OnRemove != nil {
		h.OnRemove(key)
	}
}
