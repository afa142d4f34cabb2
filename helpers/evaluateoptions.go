// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import "time"

// EvaluateOption changes how conditions are judged. The options are [Stock], [ReadyFrom],
// [HeartbeatWithin], [RequireObserved], [StatusGenerationOnly] and [StableFor].
type EvaluateOption func(evaluateOptions) evaluateOptions

type evaluateOptions struct {
	requireObserved, statusOnly, stock bool

	readyFrom       []string
	stableFor       time.Duration
	clock           func() time.Time // not nil if stableFor is set
	heartbeatWithin time.Duration
	heartbeatClock  func() time.Time // not nil if heartbeatWithin is set
}

func newEvaluateOptions(opts []EvaluateOption) (o evaluateOptions) {
	for _, opt := range opts {
		if opt != nil {
			o = opt(o)
		}
	}
	return o
}

// Stock judges readiness by what OpenChoreo itself reports, since it never reports Ready. It
// serves both kinds and every release but v0.9 to v0.11, where Ready stays Unknown for a data plane
// with a clusterAgent. So one program can read a mixed fleet:
//   - a Ready condition of another controller counts as without Stock;
//   - else Ready follows Connected if that is reported, and always for a data plane with a
//     clusterAgent (v1), where it is Unknown until OpenChoreo has looked for an agent; combine
//     Stock with [HeartbeatWithin];
//   - else Ready follows Created (v0.3), which means that OpenChoreo has accepted the
//     DataPlane, not that its cluster answers; remote.Cluster.Probe asks the cluster.
//
// To find a stale Created, Stock compares status.observedGeneration if it is reported (from v0.12
// on), else the observed generation of Created (v0.3 to v0.11); OpenChoreo keeps at most one of them up
// to date. In a ClusterDataPlane, it keeps neither, and Created counts as it is. Stock replaces an
// earlier [ReadyFrom].
//
// For a ClusterDataPlane, OpenChoreo counts every agent of the planeID, even one that may not act
// for the object; remote.Cluster.Probe finds out.
//
// What OpenChoreo writes: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/conditions.md
func Stock() EvaluateOption {
	return func(o evaluateOptions) evaluateOptions {
		o.stock, o.readyFrom = true, nil
		return o
	}
}

// HeartbeatWithin makes Connected Unknown, with [CodeStale], if it comes from
// status.agentConnection and the last heartbeat of a connected agent is older than d or
// missing: OpenChoreo may have stopped updating the status. OpenChoreo updates it about once a
// minute, so use a few minutes. A nil clock is time.Now. A heartbeat in the future counts as
// now. A d of 0 or less has no effect. No event says that heartbeats have stopped: evaluate now and
// then, or give an informer a resync period.
func HeartbeatWithin(d time.Duration, clock func() time.Time) EvaluateOption {
	if clock == nil {
		clock = time.Now
	}
	return func(o evaluateOptions) evaluateOptions {
		o.heartbeatWithin, o.heartbeatClock = d, clock
		return o
	}
}

// ReadyFrom derives Ready from other condition types while no Ready condition is reported.
// The worst of them decides, False before Unknown before True; a type that is not reported is
// Unknown. [Verdict].From names the type that decided. Use ReadyFrom for conditions of your
// own controllers, and [Stock] for OpenChoreo's. ReadyFrom replaces an earlier Stock.
func ReadyFrom(conditionTypes ...string) EvaluateOption {
	return func(o evaluateOptions) evaluateOptions {
		o.stock, o.readyFrom = false, conditionTypes
		return o
	}
}

// RequireObserved makes a condition Unknown if no observed generation is reported. Its
// code remains [CodeUnverified].
func RequireObserved() EvaluateOption {
	return func(o evaluateOptions) evaluateOptions {
		o.requireObserved = true
		return o
	}
}

// StatusGenerationOnly ignores the observed generation of each condition and reads only
// status.observedGeneration. Use it for controllers that keep only the latter up to date.
func StatusGenerationOnly() EvaluateOption {
	return func(o evaluateOptions) evaluateOptions {
		o.statusOnly = true
		return o
	}
}

// StableFor makes a True condition Unknown until it has been True for d, by its
// lastTransitionTime and the clock; a nil clock is time.Now. A transition time that is
// missing or in the future counts as now. Conditions store whole seconds, so the wait can
// be up to a second short. A d of 0 or less has no effect.
func StableFor(d time.Duration, clock func() time.Time) EvaluateOption {
	if clock == nil {
		clock = time.Now
	}
	return func(o evaluateOptions) evaluateOptions {
		o.stableFor, o.clock = d, clock
		return o
	}
}
