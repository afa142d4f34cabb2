// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package await

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

const (
	pollInterval = 2 * time.Second // between gets where watching is forbidden
	maxBackoff   = 5 * time.Second // between attempts that fail; grows from 50 ms
	// A watch lasts from minWatch to twice minWatch, as in client-go's reflector, so that API
	// servers share the load again after one has restarted.
	minWatch = 5 * time.Minute
	// settleInterval is the time between evaluations of an object whose report may change
	// with time. An evaluation makes no request.
	settleInterval = 100 * time.Millisecond
)

// errMet ends a wait with success.
var errMet = errors.New("met")

type waiter[T helpers.Object] struct {
	options
	client      Client[T]
	until       Until
	forDeletion bool // instead of until

	namespaced     bool // whether objects of this kind have a namespace
	key            types.NamespacedName
	namespaceKnown bool           // whether key.Namespace comes from the client
	hasUID         bool           // whether options.uid is the UID of the object waited for
	object         T              // nil while there is none
	last           helpers.Report // of object
	version        string         // the newest known resource version; empty if unknown
	lastErr        error

	answered bool // whether the API server has reported that the object exists or doesn't
	started  time.Time
	backoff  wait.Backoff
}

func newWaiter[T helpers.Object](client Client[T], name string, until Until, opts []Option) *waiter[T] {
	w := &waiter[T]{client: client, until: until, key: types.NamespacedName{Name: name}, started: time.Now()}
	_, w.namespaced = any(w.object).(*v1alpha1.DataPlane)
	switch c := client.(type) {
	case interface{ GetNamespace() string }: // the generated client
		w.key.Namespace, w.namespaceKnown = c.GetNamespace(), true
	case interface{ Namespace() string }: // the generated fake
		w.key.Namespace, w.namespaceKnown = c.Namespace(), true
	}
	for _, opt := range opts {
		if opt != nil {
			opt(&w.options)
		}
	}
	w.hasUID = w.uid != ""
	w.resetBackoff()
	return w
}

func (w *waiter[T]) resetBackoff() {
	w.backoff = wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 20, Cap: maxBackoff}
}

func (w *waiter[T]) run(ctx context.Context) (T, error) {
	err := w.check()
	for err == nil {
		var pause time.Duration
		if pause, err = w.round(ctx); err != nil {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			err = contextError(ctx)
		}
	}
	if errors.Is(err, errMet) {
		return w.object, nil
	}
	now := time.Now()
	return nil, &Error{
		Key: w.key, UID: w.uid, Want: w.until.want, Last: w.last, LastErr: w.lastErr, Elapsed: now.Sub(w.started),
		cause: err, at: now, minGeneration: w.minGeneration, types: w.until.types,
	}
}

// check returns an error if no object can have this key, or no object can be in this state.
func (w *waiter[T]) check() error {
	metadata := field.NewPath("metadata")
	if w.namespaced && w.namespaceKnown {
		if w.key.Namespace == "" {
			return field.Required(metadata.Child("namespace"), "the client is for all namespaces")
		}
		if faults := validation.IsDNS1123Label(w.key.Namespace); len(faults) > 0 {
			return field.Invalid(metadata.Child("namespace"), w.key.Namespace, faults[0])
		}
	}
	if w.key.Name == "" {
		return field.Required(metadata.Child("name"), "")
	}
	if faults := validation.IsDNS1123Subdomain(w.key.Name); len(faults) > 0 {
		return field.Invalid(metadata.Child("name"), w.key.Name, faults[0])
	}
	return w.until.err
}

// contextError returns an error that wraps ctx.Err() and the cause of ctx.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// round gets the object and watches it. It returns the error that ends the wait, or the pause
// before the next round.
//
// An API server would often refuse a watch from the object's resource version, since it forgets
// changes within minutes. This watch begins with the content of the watch cache, which may be
// old, and a second get shows changes from before the watch.
func (w *waiter[T]) round(ctx context.Context) (pause time.Duration, err error) {
	if answered, err := w.get(ctx); !answered || err != nil {
		return w.backoff.Step(), err
	}
	life := int64(wait.Jitter(minWatch, 1).Seconds())
	watcher, err := w.client.Watch(ctx, metav1.ListOptions{
		FieldSelector:  fields.OneTermEqualSelector(metav1.ObjectNameField, w.key.Name).String(),
		TimeoutSeconds: &life,
	})
	switch {
	case apierrors.IsForbidden(err):
		return wait.Jitter(pollInterval, 0.2), nil
	case err != nil:
		w.remember(ctx, err)
		return w.backoff.Step(), nil
	}
	defer watcher.Stop()
	began := time.Now()
	answered, err := w.get(ctx)
	if answered && err == nil {
		err = w.follow(ctx, watcher)
	}
	if time.Since(began) > maxBackoff { // watches end now and then: no reason to back off
		w.resetBackoff()
	}
	return w.backoff.Step(), err
}

// get reads the object, and records it or its absence. answered is false if the API server
// reports neither.
func (w *waiter[T]) get(ctx context.Context) (answered bool, err error) {
	object, err := w.client.Get(ctx, w.key.Name, metav1.GetOptions{})
	switch {
	case err == nil:
		w.answered = true
		return true, w.recordObject(object)
	case apierrors.IsNotFound(err) && !isNotServed(err):
		w.answered, w.version = true, ""
		return true, w.recordAbsence(err)
	}
	refused := apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)
	if isNotServed(err) {
		refused = !w.allowMissing
		kind, reason := "DataPlanes", "is their definition installed?"
		switch {
		case !w.namespaced:
			kind = "ClusterDataPlanes"
		case !w.namespaceKnown:
			reason = "is their definition installed, and does the client have a namespace?"
		}
		err = fmt.Errorf("the API server doesn't serve %s (%s): %w", kind, reason, err)
	}
	w.remember(ctx, err)
	if refused && !w.answered {
		return false, err
	}
	return false, nil
}

// isNotServed reports whether the API server doesn't know the path of a request: the kind isn't
// installed, or the path has no namespace. It then answers without a Status.
func isNotServed(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.IsUnexpectedServerError(err)
}

// remember keeps an error of a request, unless ctx ended it.
func (w *waiter[T]) remember(ctx context.Context, err error) {
	if ctx.Err() == nil {
		w.lastErr = err
	}
}

// follow handles events until the watch ends.
func (w *waiter[T]) follow(ctx context.Context, watcher watch.Interface) error {
	for {
		var settle <-chan time.Time
		if slices.ContainsFunc(w.last.Verdicts(), changesWithTime) {
			settle = time.After(settleInterval)
		}
		select {
		case event, open := <-watcher.ResultChan():
			if !open {
				return nil
			}
			if open, err := w.handleEvent(ctx, event); !open || err != nil {
				return err
			}
		case <-settle:
			if reflect.DeepEqual(helpers.Evaluate(w.object.AsDataPlane(), w.evaluate...), w.last) {
				continue
			}
			if err := w.recordObject(w.object); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// changesWithTime reports whether a verdict may change while the object doesn't, because of
// helpers.StableFor or helpers.HeartbeatWithin.
func changesWithTime(v helpers.Verdict) bool {
	return v.Code == helpers.CodeUnsettled || v.Status == metav1.ConditionTrue && !v.LastHeartbeatTime.IsZero()
}

// handleEvent handles an event. It ignores events older than the known resource version, and gets the
// object if the versions don't show which is newer: fakes keep the version that a test sets. open
// is false if the watch is broken.
func (w *waiter[T]) handleEvent(ctx context.Context, event watch.Event) (open bool, err error) {
	if event.Type == watch.Error {
		w.remember(ctx, apierrors.FromObject(event.Object))
		return false, nil
	}
	object, ok := event.Object.(T)
	if !ok {
		return true, nil
	}
	dp := object.AsDataPlane()
	if event.Type == watch.Bookmark || dp.Name != w.key.Name { // fakes ignore the field selector
		return true, nil
	}
	version, err1 := strconv.ParseUint(dp.ResourceVersion, 10, 64)
	known, err2 := strconv.ParseUint(w.version, 10, 64)
	switch {
	case err1 != nil || err2 != nil:
		return w.get(ctx)
	case version < known, version == known && event.Type != watch.Deleted && reflect.DeepEqual(object, w.object):
		return true, nil
	case version == known:
		return w.get(ctx)
	}
	w.resetBackoff()
	if event.Type == watch.Deleted {
		w.version = dp.ResourceVersion
		return true, w.recordAbsence(helpers.ErrDeleted)
	}
	return true, w.recordObject(object)
}

// recordObject records the object, and returns errMet or another error if the wait ends.
func (w *waiter[T]) recordObject(object T) error {
	dp := object.AsDataPlane()
	w.key.Namespace = dp.Namespace
	if w.hasUID && dp.UID != w.uid {
		switch {
		case w.forDeletion:
			return errMet
		case !w.followReplacement:
			return helpers.ErrReplaced
		}
		w.minGeneration = 0
	}
	if apierrors.IsNotFound(w.lastErr) || errors.Is(w.lastErr, helpers.ErrDeleted) {
		w.lastErr = nil
	}
	w.hasUID, w.uid, w.version = true, dp.UID, dp.ResourceVersion
	w.object, w.last = object, helpers.Evaluate(dp, w.evaluate...)

	switch {
	case w.forDeletion:
	case dp.DeletionTimestamp != nil && !w.followReplacement:
		return fmt.Errorf("%w or is being deleted", helpers.ErrDeleted)
	case dp.DeletionTimestamp != nil, dp.Generation < w.minGeneration:
		return nil
	case w.until.met == nil || w.until.met(w.last):
		return errMet
	}
	if w.failOn != nil {
		return w.failOn(w.last)
	}
	return nil
}

// recordAbsence records that the object doesn't exist. err is the evidence, such as NotFound.
func (w *waiter[T]) recordAbsence(err error) error {
	w.lastErr = err
	switch {
	case w.forDeletion:
		return errMet
	case w.hasUID && !w.followReplacement:
		return helpers.ErrDeleted
	case !w.hasUID && !w.allowMissing:
		return err
	}
	w.object, w.last = nil, helpers.Report{}
	return nil
}
