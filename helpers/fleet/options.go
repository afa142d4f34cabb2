// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Options configure a [Fleet]. The zero value is good for most programs. A duration of 0 means the
// default. The functions are called from many goroutines. They must be quick and must not change
// a DataPlane. A panic in any of them except ConfigFor ends the program.
type Options struct {
	// Remote are the options of the Clusters. ConfigFor is called for each change of a DataPlane,
	// with or without a run, so it may read more of a DataPlane than its credentials. It must
	// return soon: while it is called for new credentials, the run can't be stopped. If it makes
	// tokens itself, it must reuse each while it is valid: a new token is a rotation, and ends the
	// wait after a failure.
	Remote remote.Options
	// Filter selects the data planes that have runs; the default is all. It is called at each event
	// and resync of the informer. selected is the previous result for this object. Return it if you
	// can't decide.
	Filter func(dp *v1alpha1.DataPlane, selected bool) bool
	// RestartOn returns whether an update needs a new run; the current one ends.
	RestartOn func(before, after *v1alpha1.DataPlane) bool
	// Backoff is how long the Fleet waits after a run has failed.
	Backoff Backoff
	// StopGrace is how long a run may take to return after its context has ended; negative for
	// no grace. The default is 10 s.
	StopGrace time.Duration
	// StartLimit is how many runs may start at the same time, so that thousands of them don't
	// fill their caches at once. A run counts as starting until it calls [MarkStarted], returns,
	// or has lasted for StartTimeout. The default, 0, is no limit.
	StartLimit int
	// StartTimeout keeps a cluster that doesn't answer from blocking the others; negative for
	// no limit. The default is 30 s.
	StartTimeout time.Duration
	// Hooks are for metrics and logs.
	Hooks Hooks
	// Sharding divides the data planes among the replicas of a program. The default is nil:
	// this Fleet runs all data planes.
	Sharding *Sharding
}

// Backoff is how long a [Fleet] waits after a run has failed: about Initial after the first
// failure, then twice as long after each, up to Limit. After a run that lasted ResetAfter, the
// wait starts again at Initial; the time counts from [MarkStarted], if the run calls it. The
// defaults are 1 s, 5 min and 1 min. New credentials, or any other change of ConfigFor's result,
// end the wait. ConfigFor is called again every Limit while its result can't be used, even if the
// run continues.
type Backoff struct {
	Initial, Limit, ResetAfter time.Duration
}

// Hooks are called by a [Fleet]; each may be nil. Calls for the same data plane or shard come one
// after the other; others may come at the same time.
type Hooks struct {
	// OnStart is called before a Cluster is made for a run. OnEnd always follows.
	OnStart func(key types.NamespacedName)
	// OnEnd is called after a run has ended, or, with a ran of 0, when no Cluster could be made
	// for it. err is the error that the run returned. If its context had ended, err is the cause
	// instead, joined with the *PanicError if the run panicked. retry is how long the Fleet waits
	// before it tries again; 0 if it doesn't wait.
	OnEnd func(key types.NamespacedName, err error, ran, retry time.Duration)
	// OnRotate is called when the Cluster of a run has new credentials, or, with an error, when the
	// new credentials can't be used. OnRotate of Remote, if set, is called for the former, too. OnRotate
	// must return soon: until then, the Fleet can neither abandon the run nor end it for another API
	// server.
	OnRotate func(key types.NamespacedName, err error)
	// OnRemove is called when a DataPlane is gone, or another replica takes it over, and its run
	// has ended. Remove its metrics here. OnRemove isn't called when Run ends.
	OnRemove func(key types.NamespacedName)
	// OnShardGained is called when this replica leads a shard, before its runs start.
	OnShardGained func(shard int)
	// OnShardLost is called when this replica no longer leads a shard and its runs have ended.
	// err wraps [ErrShardLost] or [ErrStopped].
	OnShardLost func(shard int, err error)
}

func (o Options) withDefaults() Options {
	o.Backoff.Initial = cmp.Or(o.Backoff.Initial, time.Second)
	o.Backoff.Limit = cmp.Or(o.Backoff.Limit, max(5*time.Minute, o.Backoff.Initial))
	o.Backoff.ResetAfter = cmp.Or(o.Backoff.ResetAfter, time.Minute)
	o.StopGrace = cmp.Or(o.StopGrace, 10*time.Second)
	o.StartTimeout = cmp.Or(o.StartTimeout, 30*time.Second)
	if configFor := o.Remote.ConfigFor; configFor != nil {
		o.Remote.ConfigFor = func(dp *v1alpha1.DataPlane) (config *rest.Config, err error) {
			err = recovered(func() (err error) {
				config, err = configFor(dp)
				return err
			})
			return config, err
		}
	}
	if o.Sharding != nil {
		sharding := *o.Sharding
		sharding.LeaseDuration = cmp.Or(sharding.LeaseDuration, 15*time.Second)
		o.Sharding = &sharding
	}
	return o
}

func (o Options) validate() error {
	var p problems
	p.unless(o.Backoff.Initial >= 0, "Backoff.Initial: must not be negative, is %s", o.Backoff.Initial)
	p.unless(o.Backoff.Limit >= o.Backoff.Initial, "Backoff.Limit: must not be less than Initial, %s, is %s", o.Backoff.Initial, o.Backoff.Limit)
	p.unless(o.Backoff.ResetAfter >= 0, "Backoff.ResetAfter: must not be negative, is %s", o.Backoff.ResetAfter)
	p.unless(o.StartLimit >= 0, "StartLimit: must not be negative, is %d", o.StartLimit)
	if o.Sharding != nil {
		o.Sharding.validate(&p)
	}
	return errors.Join(p...)
}

type problems []error

func (p *problems) unless(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Errorf(format, args...))
	}
}

// OnlyConnected is a Filter for data planes whose Connected condition is True. While the condition
// is Unknown, a run continues, because each change of a spec makes the condition Unknown for a
// moment, but no run begins, even if another replica had one. opts are passed to
// [helpers.EvaluateCondition]. An option that depends on time, such as [helpers.StableFor], needs
// informers with a resync period: the run starts at the first event or resync after that time.
//
// In OpenChoreo v1, the condition is read from status.agentConnection. For a ClusterDataPlane,
// OpenChoreo counts every agent of the planeID, even one that may not act for the object; a Probe
// finds out. In v0.3, no run starts unless a controller of yours writes the condition.
func OnlyConnected(opts ...helpers.EvaluateOption) func(dp *v1alpha1.DataPlane, selected bool) bool {
	return func(dp *v1alpha1.DataPlane, selected bool) bool {
		status := helpers.EvaluateCondition(dp, v1alpha1.DataPlaneConditionConnected, opts...).Status
		return status == metav1.ConditionTrue || selected && status != metav1.ConditionFalse
	}
}
