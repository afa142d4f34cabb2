// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package await waits for the conditions of a DataPlane or ClusterDataPlane, or for its deletion:
//
//	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
//	patch, err := helpers.MergePatch(before, after)
//	if err != nil {
//		return err
//	}
//	patched, err := dataPlanes.Patch(ctx, after.Name, types.MergePatchType, patch, metav1.PatchOptions{})
//	if err != nil {
//		return err
//	}
//	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
//	defer cancel()
//	ready, err := await.For(ctx, dataPlanes, after.Name, await.True(v1alpha1.DataPlaneConditionReady),
//		await.UID(patched.UID), await.MinGeneration(patched.Generation))
//
// OpenChoreo itself never sets Ready. Where no other controller does, add
// await.JudgeBy(helpers.Stock(), helpers.HeartbeatWithin(5*time.Minute, nil)), else the wait never
// succeeds.
//
// When a wait fails, its error says what was missing and why:
//
//	data plane default/prod: waited 30s for Ready=True: Ready=False (AgentUnreachable: dial tcp: refused) for 4m12s;
//	Created=True (DataPlaneCreated) for 12d; not reported: Connected, GatewayProvisioned: context deadline exceeded
//
// What OpenChoreo writes, and what to do about each code: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/conditions.md
package await

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Client reads the DataPlanes of a namespace, or ClusterDataPlanes. The generated
// OpenChoreoV1alpha1().DataPlanes(namespace) and OpenChoreoV1alpha1().ClusterDataPlanes()
// implement it.
type Client[T helpers.Object] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// For waits until an object meets until, and returns the object. It never returns an object
// that is being deleted. Only ctx limits the wait.
//
// For gets the object first, so it returns at once if the object meets until. Then it watches
// the object, or gets it every two seconds if watching is forbidden. It retries after temporary
// errors, for example while an API server restarts. It starts no goroutine.
//
// The wait fails, with an [*Error], when
//   - ctx ends;
//   - the object doesn't exist; see [AllowMissing];
//   - the name or the client's namespace is empty or invalid, or a condition type is empty;
//   - the API server first answers Forbidden or Unauthorized, or doesn't serve the kind. Later
//     answers like these are retried, since a starting API server refuses users whose roles it
//     hasn't read;
//   - the object is deleted or being deleted ([helpers.ErrDeleted]), or another object has
//     taken its name ([helpers.ErrReplaced]); see [FollowReplacement];
//   - the function of [FailOn] returns an error. A False condition ends no wait, since it may
//     become True.
func For[T helpers.Object](ctx context.Context, client Client[T], name string, until Until, opts ...Option) (T, error) {
	until.want = cmp.Or(until.want, "existence")
	return newWaiter(client, name, until, opts).run(ctx)
}

// ForDeletion waits until an object no longer exists or another object has taken its
// name. It returns at once if the object doesn't exist. Pass [UID] if the object may have
// been deleted and created again before the wait begins.
//
// ForDeletion sends requests, retries and fails like [For], for example if the kind isn't
// installed. If the kind is removed during a wait without the right to watch, the wait can last until
// ctx ends. MinGeneration, AllowMissing and FollowReplacement have no effect.
func ForDeletion[T helpers.Object](ctx context.Context, client Client[T], name string, opts ...Option) error {
	w := newWaiter(client, name, Until{want: "deletion"}, opts)
	w.forDeletion, w.minGeneration, w.allowMissing = true, 0, false
	_, err := w.run(ctx)
	return err
}

// Until is a state to wait for. The zero value waits until the object exists.
type Until struct {
	want  string
	met   func(helpers.Report) bool
	types []string // the condition types of True
	err   error    // not nil if the state is invalid
}

// True waits until all conditions of these types are True at the same time, by the rules
// of [helpers.Evaluate]. Without types, it waits until the object exists.
func True(types ...string) Until {
	wants := make([]string, len(types))
	for i, conditionType := range types {
		wants[i] = conditionType + "=True"
	}
	until := Match(strings.Join(wants, ", "), func(report helpers.Report) bool {
		for _, conditionType := range types {
			if report.Verdict(conditionType).Status != metav1.ConditionTrue {
				return false
			}
		}
		return true
	})
	until.types = types
	if slices.Contains(types, "") {
		until.err = errors.New("empty condition type")
	}
	return until
}

// Match waits until f returns true. Errors describe the state with want. f gets the report of
// every state that the wait sees; the wait may miss short-lived states. f must not block.
func Match(want string, f func(helpers.Report) bool) Until { return Until{want: want, met: f} }

// Option changes how a wait works.
type Option func(*options)

type options struct {
	minGeneration     int64
	uid               types.UID
	allowMissing      bool
	followReplacement bool
	failOn            func(helpers.Report) error
	evaluate          []helpers.EvaluateOption
}

// MinGeneration ignores the object while its generation is lower. Pass the generation that
// Update or Patch returned: a watch may still show the object before that change, with
// conditions that were True then. MinGeneration applies to the first object only, since a
// replacement starts at generation 1.
func MinGeneration(generation int64) Option {
	return func(o *options) { o.minGeneration = generation }
}

// UID waits for the object with this UID, instead of the first object seen. If that
// object no longer exists when the wait begins, [For] fails with ErrDeleted or ErrReplaced,
// even with AllowMissing, and [ForDeletion] returns nil.
func UID(uid types.UID) Option { return func(o *options) { o.uid = uid } }

// AllowMissing waits for the object to be created if it doesn't exist at first, and for its
// kind to be installed.
func AllowMissing() Option { return func(o *options) { o.allowMissing = true } }

// FollowReplacement waits for the next object of the name if the object is deleted, instead
// of failing with ErrDeleted or ErrReplaced.
func FollowReplacement() Option { return func(o *options) { o.followReplacement = true } }

// FailOn ends the wait with the error of f, which is called for each state that doesn't meet the
// Until. If f returns nil, the wait continues. f must not block.
func FailOn(f func(helpers.Report) error) Option { return func(o *options) { o.failOn = f } }

// JudgeBy passes options to [helpers.Evaluate]. With [helpers.StableFor] or
// [helpers.HeartbeatWithin], the wait sees even verdicts that change with time alone.
func JudgeBy(opts ...helpers.EvaluateOption) Option {
	return func(o *options) { o.evaluate = append(o.evaluate, opts...) }
}
