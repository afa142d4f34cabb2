// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"math/rand/v2"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Option changes how a Fleet runs.
type Option func(*options)

type options struct {
	remote     remote.Options
	filters    []func(dp *v1alpha1.DataPlane, selected bool) bool
	restartOn  []func(before, after *v1alpha1.DataPlane) bool
	maxStarts  int
	startTime  time.Duration
	initial    time.Duration
	max        time.Duration
	resetAfter time.Duration
	grace      time.Duration
	hooks      Hooks
}

func newOptions(opts []Option) options {
	o := options{
		remote:  remote.Options{CloseGrace: -1}, // none
		initial: time.Second, max: 5 * time.Minute, resetAfter: time.Minute, grace: 10 * time.Second,
	}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
}

// selects takes whether dp was selected before.
func (o *options) selects(dp *v1alpha1.DataPlane, selected bool) bool {
	for _, filter := range o.filters {
		if !filter(dp, selected) {
			return false
		}
	}
	return true
}

func (o *options) restarts(before, after *v1alpha1.DataPlane) bool {
	return slices.ContainsFunc(o.restartOn, func(changed func(before, after *v1alpha1.DataPlane) bool) bool {
		return changed(before, after)
	})
}

// backoff returns how long to wait after so many failures in a row. It doubles with each,
// and is random, so that runs that failed together don't come back together.
func (o *options) backoff(failures int) time.Duration {
	d := o.max
	if shift := failures - 1; shift < 32 && o.initial<<shift>>shift == o.initial {
		d = min(o.initial<<shift, o.max)
	}
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d/2) //nolint:gosec // spreads load, hides nothing
}

// WithRemoteOptions sets the options of the Clusters. CloseGrace and OnRotate have no effect:
// a run has [WithStopGrace] to return, then its Cluster is closed without a grace, and its
// credentials don't change. If ConfigFor reads more of a DataPlane than its credentials,
// name that in [WithRestartOn].
func WithRemoteOptions(opts remote.Options) Option {
	return func(o *options) {
		o.remote = opts
		o.remote.CloseGrace = -1
	}
}

// WithFilter selects the data planes that have runs: those for which selects returns true.
// report is what [helpers.Evaluate] returns for dp. selects must be quick and change nothing.
// With several filters, all must return true.
func WithFilter(selects func(dp *v1alpha1.DataPlane, report helpers.Report) bool) Option {
	return func(o *options) {
		o.filters = append(o.filters, func(dp *v1alpha1.DataPlane, _ bool) bool { return selects(dp, helpers.Evaluate(dp)) })
	}
}

// WithSelector selects data planes by their labels.
func WithSelector(selector labels.Selector) Option {
	return func(o *options) {
		o.filters = append(o.filters, func(dp *v1alpha1.DataPlane, _ bool) bool { return selector.Matches(labels.Set(dp.Labels)) })
	}
}

// OnlyConnected starts runs only for data planes whose Connected condition is True, and ends
// them when it becomes False. Runs go on while it is Unknown, because every change of a spec
// makes it Unknown for a moment. opts are those of [helpers.EvaluateCondition].
func OnlyConnected(opts ...helpers.EvaluateOption) Option {
	return func(o *options) {
		o.filters = append(o.filters, func(dp *v1alpha1.DataPlane, selected bool) bool {
			switch helpers.EvaluateCondition(dp, v1alpha1.DataPlaneConditionConnected, opts...).Status {
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

// WithRestartOn replaces a run by a new one also when changed returns true. changed gets the
// DataPlane before and after an update; it must be quick and change nothing. With several,
// one that returns true is enough.
func WithRestartOn(changed func(before, after *v1alpha1.DataPlane) bool) Option {
	return func(o *options) { o.restartOn = append(o.restartOn, changed) }
}

// WithStartLimit lets at most n runs start at the same time, so that thousands of them don't
// fill their caches at once. A run counts as starting until it calls [MarkStarted] or returns,
// and for d at most, so that a cluster that doesn't answer doesn't hold up the others. An n or
// d of 0 or less is no limit.
func WithStartLimit(n int, d time.Duration) Option {
	return func(o *options) { o.maxStarts, o.startTime = max(n, 0), d }
}

// WithBackoff sets how long the Fleet waits after a run has failed: about initial after the
// first failure, then twice as long after each, up to limit. A failure counts as the first
// when the run lasted for resetAfter, which begins with its [MarkStarted] if it calls that.
// The defaults are 1 s, 5 min and 1 min.
func WithBackoff(initial, limit, resetAfter time.Duration) Option {
	return func(o *options) {
		o.initial, o.max, o.resetAfter = max(initial, 0), max(limit, 0), resetAfter
	}
}

// WithStopGrace sets how long a run may take to return after its context has ended. The
// default is 10 s. With 0, the Fleet gives it up at once.
func WithStopGrace(d time.Duration) Option {
	return func(o *options) { o.grace = max(d, 0) }
}

// WithHooks sets functions that the Fleet calls, for metrics and logs.
func WithHooks(hooks Hooks) Option {
	return func(o *options) { o.hooks = hooks }
}

// Hooks are called by a [Fleet]; each may be nil. Calls for one data plane come one after the
// other, calls for different ones at the same time. Hooks must be quick.
type Hooks struct {
	// OnStart is called before a run starts.
	OnStart func(key types.NamespacedName)
	// OnEnd is called after a run has ended, and when no Cluster could be made for one, where
	// ran is 0. err is what the run returned. If its context had ended, err is the cause of
	// that instead, joined with the error of a panic. retry is how long the Fleet waits
	// before the next run if err is why, else 0.
	OnEnd func(key types.NamespacedName, err error, ran, retry time.Duration)
	// OnRemove is called when a DataPlane is gone and its run has ended, which is the time to
	// remove its metrics. It isn't called when Run ends. It must not call the Fleet.
	OnRemove func(key types.NamespacedName)
}

func (h *Hooks) start(key types.NamespacedName) {
	if h.OnStart != nil {
		h.OnStart(key)
	}
}

func (h *Hooks) end(key types.NamespacedName, a *attempt, err error, ran, retry time.Duration) {
	if h.OnEnd != nil && (a.invalid || !a.began.IsZero()) {
		h.OnEnd(key, err, ran, retry)
	}
}

func (h *Hooks) removed(key types.NamespacedName) {
	if h.OnRemove != nil {
		h.OnRemove(key)
	}
}
