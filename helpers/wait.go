// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// DataPlaneGetterWatcher is what waiting needs of the typed client, which
// OpenChoreoV1alpha1().DataPlanes(namespace) has.
type DataPlaneGetterWatcher interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*v1alpha1.DataPlane, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// WaitFor waits until the conditions of a DataPlane are as until says, and returns the
// object as it is then. ctx bounds the wait; there is no other limit.
//
//	dp, err := helpers.WaitFor(ctx, client.OpenChoreoV1alpha1().DataPlanes("default"), "prod",
//		helpers.UntilTrue(v1alpha1.DataPlaneConditionReady), helpers.Want("Ready"))
//
// until is called with what [Evaluate] makes of the object as it is, before anything is
// waited for, and then of each change; changes that come close together may be one. It
// must be quick and must not keep the report. A condition that is False may become True,
// so it ends nothing; see [FailOn].
//
// WaitFor gets the object and then watches it. Without the right to watch it gets it every
// few seconds. It outlasts what passes: an API server that restarts, is overloaded or has
// forgotten the resource version. It returns at once when the object isn't there (but see
// [AllowMissing]); when the first answer of the API server is Forbidden or Unauthorized,
// which later only says that it is starting; when the object is being deleted or was,
// whatever is waited for ([ErrDeleted]); and when another of its name has come
// ([ErrReplaced]). Every error is a [*WaitError]. Nothing goes on after it has returned.
func WaitFor(ctx context.Context, client DataPlaneGetterWatcher, name string, until func(Report) bool,
	opts ...WaitOption,
) (*v1alpha1.DataPlane, error) {
	w := newWaiter(client, name, opts)
	w.met = func(dp *v1alpha1.DataPlane) (bool, error) {
		switch {
		case w.options.minGeneration > dp.Generation:
			return false, nil
		case until(w.last):
			return true, nil
		case dp.DeletionTimestamp != nil && !w.options.followReplacement:
			return false, fmt.Errorf("%w, or is about to be", ErrDeleted)
		case w.options.failOn != nil:
			return false, w.options.failOn(w.last)
		}
		return false, nil
	}
	return w.run(ctx)
}

// WaitForDeletion waits until a DataPlane is gone, or another of its name has come; when
// it is not there to begin with, that is now. Of the options, none but Want applies. It
// does what [WaitFor] does otherwise.
func WaitForDeletion(ctx context.Context, client DataPlaneGetterWatcher, name string, opts ...WaitOption) error {
	w := newWaiter(client, name, append([]WaitOption{Want("deletion")}, opts...))
	w.untilGone = true
	w.met = func(*v1alpha1.DataPlane) (bool, error) { return false, nil }
	_, err := w.run(ctx)
	return err
}

// UntilTrue returns what WaitFor takes to wait for conditions to be True, all at once; of
// no conditions, that is so at once.
func UntilTrue(conditionTypes ...string) func(Report) bool {
	return func(r Report) bool {
		for _, conditionType := range conditionTypes {
			if r.Verdict(conditionType).Status != metav1.ConditionTrue {
				return false
			}
		}
		return true
	}
}

// WaitOption changes how WaitFor waits.
type WaitOption func(*waitOptions)

type waitOptions struct {
	want              string
	minGeneration     int64
	allowMissing      bool
	followReplacement bool
	failOn            func(Report) error
	evaluate          []EvaluateOption
}

// Want says in words what is waited for, such as "Ready", for the error.
func Want(what string) WaitOption { return func(o *waitOptions) { o.want = what } }

// MinGeneration makes WaitFor take no object of an earlier generation for what it waits
// for. Pass the generation that Update or Apply returned: what is read after them can be
// from before, and was ready then.
func MinGeneration(generation int64) WaitOption {
	return func(o *waitOptions) { o.minGeneration = generation }
}

// AllowMissing makes WaitFor wait for the object to come when it isn't there.
func AllowMissing() WaitOption { return func(o *waitOptions) { o.allowMissing = true } }

// FollowReplacement makes WaitFor go on with another object of the name, when the one
// that it began with was deleted, in place of ErrDeleted and ErrReplaced.
func FollowReplacement() WaitOption { return func(o *waitOptions) { o.followReplacement = true } }

// FailOn makes WaitFor end with the error that fail returns for a report that is not yet
// what is waited for, unless it is nil.
func FailOn(fail func(Report) error) WaitOption { return func(o *waitOptions) { o.failOn = fail } }

// EvaluateWith makes WaitFor evaluate conditions with options. With [StableFor], it
// returns when what is waited for has been so for long enough.
func EvaluateWith(opts ...EvaluateOption) WaitOption {
	return func(o *waitOptions) { o.evaluate = append(o.evaluate, opts...) }
}

// WaitError says why a wait has ended without what was waited for, and what there was
// instead. errors.Is tells context.DeadlineExceeded from context.Canceled, and finds
// ErrDeleted, ErrReplaced and the errors of the API server.
type WaitError struct {
	// Key names the DataPlane; the namespace is empty if it was never seen.
	Key types.NamespacedName
	// UID is that of the object that was waited for; empty if it was never seen.
	UID types.UID
	// Want says what was waited for.
	Want string
	// Last is what was last seen; the zero Report if nothing was.
	Last Report
	// LastErr is the last error of the API server, perhaps one that had passed; nil if
	// there was none. That an object which came later wasn't there is none, nor is that
	// watching is forbidden.
	LastErr error
	// Elapsed is how long the wait was.
	Elapsed time.Duration

	cause         error
	at            time.Time // when the wait has ended
	minGeneration int64
}

// Error says all of it in one line.
func (e *WaitError) Error() string {
	seen, lastErr := "it was never seen", "none"
	switch {
	case e.UID != "" || len(e.Last.Verdicts) > 0:
		seen = e.Last.summary(e.at)
	case apierrors.IsNotFound(e.LastErr):
		seen = "it is not there"
	}
	if e.minGeneration > e.Last.Generation && e.Last.Generation > 0 {
		seen = fmt.Sprintf("generation %d, want %d or later; %s", e.Last.Generation, e.minGeneration, seen)
	}
	if e.LastErr != nil {
		lastErr = e.LastErr.Error()
	}
	text := fmt.Sprintf("dataplane %s: waited %s for %s: %s; last error: %s",
		Report{Namespace: e.Key.Namespace, Name: e.Key.Name}.name(), e.Elapsed.Round(time.Millisecond), e.Want, seen, lastErr)
	if e.cause == nil || e.LastErr != nil && errors.Is(e.cause, e.LastErr) { // which is said already
		return text
	}
	return fmt.Sprintf("%s: %v", text, e.cause)
}

// Unwrap returns why the wait has ended, and LastErr.
func (e *WaitError) Unwrap() []error {
	return slices.DeleteFunc([]error{e.cause, e.LastErr}, func(err error) bool { return err == nil })
}

const (
	pollInterval = 2 * time.Second // where watching is forbidden
	// maxBackoff bounds the pause after what has failed. What has gone well for as long
	// has not.
	maxBackoff = 5 * time.Second
	// A watch ends now and then, so that a connection that is dead without a sign is
	// found out, and so that API servers share the load after one has restarted.
	minWatch = 5 * time.Minute
	// minSettle bounds how often an object is looked at again for [StableFor].
	minSettle = 10 * time.Millisecond
)

type waiter struct {
	client    DataPlaneGetterWatcher
	name      string
	options   waitOptions
	met       func(*v1alpha1.DataPlane) (bool, error)
	untilGone bool

	started time.Time
	key     types.NamespacedName
	uid     types.UID
	seen    string              // the resource version that was last seen; empty when there is none
	object  *v1alpha1.DataPlane // nil when there is none
	last    Report
	lastErr error
	// answered says that the API server has told what it has.
	answered bool
	backoff  wait.Backoff
}

func newWaiter(client DataPlaneGetterWatcher, name string, opts []WaitOption) *waiter {
	w := &waiter{
		client: client, name: name, options: waitOptions{want: "its conditions"},
		started: time.Now(), key: types.NamespacedName{Name: name},
	}
	for _, opt := range opts {
		if opt != nil {
			opt(&w.options)
		}
	}
	w.resetBackoff()
	return w
}

func (w *waiter) resetBackoff() {
	w.backoff = wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 20, Cap: maxBackoff}
}

// errGone ends a wait for deletion.
var errGone = errors.New("gone")

func (w *waiter) run(ctx context.Context) (*v1alpha1.DataPlane, error) {
	for {
		dp, pause, err := w.round(ctx)
		switch {
		case errors.Is(err, errGone) && w.untilGone:
			return nil, nil //nolint:nilnil // WaitForDeletion returns the error only
		case err != nil:
			return nil, w.fail(err)
		case dp != nil:
			return dp, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, w.fail(context.Cause(ctx))
		}
	}
}

func (w *waiter) fail(err error) error {
	now := time.Now()
	return &WaitError{
		Key: w.key, UID: w.uid, Want: w.options.want, Last: w.last, LastErr: w.lastErr,
		Elapsed: now.Sub(w.started), cause: err, at: now, minGeneration: w.options.minGeneration,
	}
}

// round gets the object and watches it. It returns the object when it is what is waited
// for, or an error that ends the wait, or how long to pause before the next.
//
// A watch from the resource version of the object would be refused in most cases: API
// servers forget what is older than minutes. This one begins with what the watch cache of
// the API server has, which may lag; a second get tells what has happened before that.
func (w *waiter) round(ctx context.Context) (*v1alpha1.DataPlane, time.Duration, error) {
	dp, pause, err := w.get(ctx)
	if dp != nil || pause > 0 || err != nil {
		return dp, pause, err
	}
	timeout := int64((minWatch + rand.N(minWatch)).Seconds()) //nolint:gosec // spreads load, hides nothing
	watcher, err := w.client.Watch(ctx, metav1.ListOptions{
		FieldSelector:  fields.OneTermEqualSelector(metav1.ObjectNameField, w.name).String(),
		TimeoutSeconds: &timeout,
	})
	if err == nil {
		defer watcher.Stop()
	}
	switch {
	case ctx.Err() != nil:
		return nil, 0, context.Cause(ctx)
	case apierrors.IsForbidden(err):
		pause := wait.Jitter(pollInterval, 0.2)
		if settles := w.settles(); settles > 0 {
			pause = min(pause, settles)
		}
		return nil, pause, nil
	case err != nil:
		w.lastErr = err
		return nil, w.backoff.Step(), nil
	}
	began := time.Now()
	dp, pause, err = w.get(ctx)
	if dp == nil && pause == 0 && err == nil {
		dp, err = w.follow(ctx, watcher)
	}
	if dp != nil || err != nil {
		return dp, 0, err
	}
	if time.Since(began) > maxBackoff {
		w.resetBackoff()
	}
	return nil, max(pause, w.backoff.Step()), nil
}

// get looks at the object as it is. It returns it when it is what is waited for, or an
// error that ends the wait, or how long to pause; nothing when there is to be a watch.
func (w *waiter) get(ctx context.Context) (*v1alpha1.DataPlane, time.Duration, error) {
	dp, err := w.client.Get(ctx, w.name, metav1.GetOptions{})
	switch {
	case ctx.Err() != nil:
		return nil, 0, context.Cause(ctx)
	case err == nil:
		w.answered = true
		met, err := w.look(dp)
		if !met {
			dp = nil
		}
		return dp, 0, err
	case apierrors.IsNotFound(err):
		w.answered, w.lastErr, w.seen = true, err, ""
		return nil, 0, w.gone(err)
	case !w.answered && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)):
		w.lastErr = err
		return nil, 0, err
	default: // also forbidden, by an API server that starts and doesn't know all roles yet
		w.lastErr = err
		return nil, w.backoff.Step(), nil
	}
}

// follow returns the object when it is what is waited for, or an error that ends the wait,
// or nothing when the watch has ended.
func (w *waiter) follow(ctx context.Context, watcher watch.Interface) (*v1alpha1.DataPlane, error) {
	for {
		var settled <-chan time.Time
		if settles := w.settles(); settles > 0 {
			settled = time.After(settles)
		}
		var event watch.Event
		var open bool
		select {
		case event, open = <-watcher.ResultChan():
		case <-settled:
			if met, err := w.look(w.object); met || err != nil {
				return w.object, err
			}
			continue
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		switch {
		case !open:
			return nil, nil //nolint:nilnil // as documented
		case event.Type == watch.Error:
			w.lastErr = apierrors.FromObject(event.Object)
			return nil, nil //nolint:nilnil // as documented
		}
		dp, ok := event.Object.(*v1alpha1.DataPlane)
		if !ok || event.Type == watch.Bookmark || dp.Name != w.name { // a fake ignores the selector
			continue
		}
		met, pause, err := w.take(ctx, event.Type, dp)
		switch {
		case met != nil || err != nil:
			return met, err
		case pause > 0: // the API server doesn't answer: better begin anew
			return nil, nil //nolint:nilnil // as documented
		}
	}
}

// take takes in an event, unless it tells of what was there before what is known. Where
// only the API server can say that, it is asked. take returns what get does.
func (w *waiter) take(ctx context.Context, event watch.EventType, dp *v1alpha1.DataPlane) (*v1alpha1.DataPlane, time.Duration, error) {
	order, ok := compareVersions(dp.ResourceVersion, w.seen)
	switch {
	case !ok:
		return w.get(ctx)
	case order <= 0:
		return nil, 0, nil
	}
	w.resetBackoff()
	if event == watch.Deleted {
		w.seen = dp.ResourceVersion
		return nil, 0, w.gone(ErrDeleted)
	}
	met, err := w.look(dp)
	if !met {
		dp = nil
	}
	return dp, 0, err
}

// compareVersions compares resource versions, which are decimal numbers that grow, on
// servers of Kubernetes; elsewhere, and in fakes, they may not be comparable.
func compareVersions(a, b string) (order int, ok bool) {
	x, err := strconv.ParseUint(a, 10, 64)
	if err != nil {
		return 0, false
	}
	y, err := strconv.ParseUint(b, 10, 64)
	if err != nil {
		return 0, false
	}
	return cmp.Compare(x, y), true
}

// look takes in the object as it is, and says whether that is what is waited for.
func (w *waiter) look(dp *v1alpha1.DataPlane) (met bool, err error) {
	if w.uid != "" && dp.UID != w.uid {
		switch {
		case w.untilGone:
			return false, errGone
		case !w.options.followReplacement:
			return false, ErrReplaced
		}
	}
	if apierrors.IsNotFound(w.lastErr) {
		w.lastErr = nil
	}
	w.uid, w.key, w.seen = dp.UID, keyOf(dp), dp.ResourceVersion
	w.object, w.last = dp, Evaluate(dp, w.options.evaluate...)
	return w.met(dp)
}

// settles returns how long it takes until the first condition that is not True for long
// enough may be; 0 when there is none. No event comes of that.
func (w *waiter) settles() time.Duration {
	if w.object == nil {
		return 0
	}
	o := newEvaluateOptions(w.options.evaluate)
	var soonest time.Duration
	for _, v := range w.last.Verdicts {
		if v.Code != CodeUnsettled {
			continue
		}
		if left := max(o.stableFor-v.Age(o.clock()), minSettle); soonest == 0 || left < soonest {
			soonest = left
		}
	}
	return soonest
}

// gone says whether that the object isn't there ends the wait, and how.
func (w *waiter) gone(notFound error) error {
	w.object = nil
	switch {
	case w.untilGone:
		return errGone
	case w.uid != "" && !w.options.followReplacement:
		return ErrDeleted
	case w.uid == "" && !w.options.allowMissing:
		return notFound
	}
	return nil
}
