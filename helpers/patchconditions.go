// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// Object is a DataPlane or a ClusterDataPlane. Functions with this type parameter return objects
// of the kind that their arguments have.
type Object interface {
	*v1alpha1.DataPlane | *v1alpha1.ClusterDataPlane
	AsDataPlane() *v1alpha1.DataPlane
}

// StatusClient is the part of a typed client that [PatchConditions] uses.
// OpenChoreoV1alpha1().DataPlanes(namespace) and OpenChoreoV1alpha1().ClusterDataPlanes()
// implement it.
type StatusClient[T Object] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions,
		subresources ...string) (T, error)
}

// PatchConditionsOptions are the options of [PatchConditions].
type PatchConditionsOptions struct {
	// FieldManager owns the fields in the patch. If it is empty, the API server chooses a name.
	FieldManager string
	// DryRun makes the API server check the patch and return the result without storing it.
	DryRun bool
	// ObserveGeneration also sets status.observedGeneration to the generation of the object
	// that was passed in. Use it in the controller that owns the whole status.
	ObserveGeneration bool
}

// PatchConditions sets conditions in the status of object on the API server, as [SetCondition]
// does in memory, and returns the stored object. It writes no other field, except for
// [PatchConditionsOptions].ObserveGeneration, and keeps conditions of other types, whether the CRD
// merges the list or replaces it. It doesn't modify object, which may come from a cache.
//
// A condition without an observed generation gets the generation of object. PatchConditions
// keeps a stored condition or status.observedGeneration with a higher generation. While
// status.observedGeneration of a DataPlane is set and lower than metadata.generation, the
// conditions count as stale: the owner of status.observedGeneration, or ObserveGeneration, must
// update it.
//
// Each patch holds a resourceVersion. After a conflict, PatchConditions gets the object and
// tries again until ctx ends. If object already has the conditions, PatchConditions gets the
// stored object, since a cache can lag, and patches it only if it lacks them: a call that
// changes nothing costs one get.
//
// PatchConditions fails if SetCondition would, or if two conditions have the same type. Other
// errors are the API server's, [ErrReplaced] if the object was recreated, or the error of ctx
// with its cause. An error after a conflict wraps the conflict too.
func PatchConditions[T Object](ctx context.Context, client StatusClient[T], object T, conditions []metav1.Condition,
	opts PatchConditionsOptions,
) (T, error) {
	dp := object.AsDataPlane()
	if dp == nil {
		return nil, dataplane.ErrNil
	}
	conditions, err := prepareConditions(conditions, dp.Generation)
	if err != nil {
		return nil, err
	}
	wanted := wantedStatus{conditions: conditions}
	if opts.ObserveGeneration {
		wanted.observedGeneration = dp.Generation
	}
	options := metav1.PatchOptions{FieldManager: opts.FieldManager}
	if opts.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	result, conflict, err := patchStatus(ctx, client, dp, wanted, options)
	if err == nil {
		return result, nil
	}
	// Requests return either ctx's error or its cause. Join both with the last conflict.
	for _, cause := range []error{context.Cause(ctx), ctx.Err(), conflict} {
		if cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", err, cause)
		}
	}
	return nil, fmt.Errorf("data plane %s: %w", dataplane.Name(dp.Namespace, dp.Name), err)
}

// prepareConditions prepares a copy of conditions, which must be of different types.
func prepareConditions(conditions []metav1.Condition, generation int64) ([]metav1.Condition, error) {
	conditions, now, seen := slices.Clone(conditions), time.Now(), sets.New[string]()
	for i := range conditions {
		var err error
		if conditions[i], err = prepareCondition(conditions[i], generation, now); err != nil {
			return nil, err
		}
		if t := conditions[i].Type; seen.Has(t) {
			return nil, field.Duplicate(conditionsField.Key(t), t)
		}
		seen.Insert(conditions[i].Type)
	}
	return conditions, nil
}

// patchStatus sends patches until one meets no conflict, and returns the stored object. The first
// patch is computed from dp, later ones from the stored object. conflict is the last conflict.
func patchStatus[T Object](ctx context.Context, client StatusClient[T], dp *v1alpha1.DataPlane, wanted wantedStatus,
	options metav1.PatchOptions,
) (result T, conflict, err error) {
	patch, err := wanted.patch(dp)
	if err != nil {
		return nil, nil, err
	}
	if dp.ResourceVersion == "" { // made by hand, not read
		patch = nil
	}
	backoff := wait.Backoff{Duration: 10 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: time.Second}
	err = backoff.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (done bool, err error) {
		if patch == nil {
			if result, err = client.Get(ctx, dp.Name, metav1.GetOptions{}); err != nil {
				return false, err
			}
			current := result.AsDataPlane()
			if dp.UID != "" && current.UID != dp.UID {
				return false, ErrReplaced
			}
			if patch, err = wanted.patch(current); err != nil || patch == nil {
				return true, err
			}
		}
		result, err = client.Patch(ctx, dp.Name, types.MergePatchType, patch, options, "status")
		if apierrors.IsConflict(err) {
			patch, conflict = nil, err
			return false, nil
		}
		return true, err
	})
	return result, conflict, err
}

// wantedStatus holds the fields that PatchConditions sets.
type wantedStatus struct {
	conditions         []metav1.Condition // prepared
	observedGeneration int64              // 0 leaves it alone
}

// patch returns the merge patch for current, or nil if there is nothing to change.
func (w wantedStatus) patch(current *v1alpha1.DataPlane) ([]byte, error) {
	stored, status := current.Status, map[string]any{}
	// An observed generation above the object's is left over from before a restore.
	latest := map[string]int64{} // by type
	for _, c := range stored.Conditions {
		if c.ObservedGeneration <= current.Generation {
			latest[c.Type] = max(latest[c.Type], c.ObservedGeneration)
		}
	}
	set := slices.DeleteFunc(slices.Clone(w.conditions), func(c metav1.Condition) bool {
		return c.ObservedGeneration < latest[c.Type]
	})
	if len(set) > 0 {
		if list := setConditions(stored.Conditions, set); !slices.Equal(list, stored.Conditions) {
			status["conditions"] = list
		}
	}
	if w.observedGeneration > 0 && w.observedGeneration != stored.ObservedGeneration &&
		(w.observedGeneration > stored.ObservedGeneration || stored.ObservedGeneration > current.Generation) {
		status["observedGeneration"] = w.observedGeneration
	}
	if len(status) == 0 {
		return nil, nil
	}
	patch := map[string]any{"status": status}
	if current.ResourceVersion != "" { // fakes set none
		patch["metadata"] = map[string]any{"resourceVersion": current.ResourceVersion}
	}
	return json.Marshal(patch)
}
