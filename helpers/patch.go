// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/lastapplied"
)

// Object is either kind of data plane. Functions that take one infer its kind, and return what
// they were given.
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
	// FieldManager owns what is written; empty leaves the name to the API server.
	FieldManager string
	// DryRun makes the API server check the patch and return the result without storing it.
	DryRun bool
	// ObserveGeneration also sets status.observedGeneration to the generation of the
	// DataPlane that was passed in. Use it in the controller that owns the whole status.
	ObserveGeneration bool
}

// PatchConditions sets conditions in the status of object on the API server, as [SetCondition]
// does in memory, and returns the stored object. It writes no other field, except for
// [PatchConditionsOptions].ObserveGeneration, and keeps conditions of other types, whether the CRD
// merges the list or replaces it. It doesn't modify object, which may come from a cache.
//
// A condition without an observed generation gets the generation of object. A stored condition
// that observed a later generation of the object is kept; so is a later
// status.observedGeneration. Where that field is set and behind the generation, the
// conditions count as stale until its owner, or ObserveGeneration, updates it.
//
// Each patch holds a resourceVersion. After a conflict, PatchConditions gets the object and
// tries again until ctx ends. If object already has the conditions, it gets it, since a
// cache can lag, and sends a patch only if the one on the API server lacks them: calls
// that change nothing cost one get.
//
// PatchConditions fails if SetCondition would, or if two conditions have one type. Other
// errors are those of the API server, [ErrReplaced] if the object was recreated, and the
// error of ctx with its cause. An error after a conflict holds the conflict too.
func PatchConditions[T Object](ctx context.Context, client StatusClient[T], object T, conditions []metav1.Condition,
	opts PatchConditionsOptions,
) (T, error) {
	dp := object.AsDataPlane()
	if dp == nil {
		return nil, errors.New("nil data plane")
	}
	conditions, now := slices.Clone(conditions), time.Now()
	seen := sets.New[string]()
	for i := range conditions {
		var err error
		if conditions[i], err = prepareCondition(conditions[i], dp.Generation, now); err != nil {
			return nil, err
		}
		if seen.Has(conditions[i].Type) {
			return nil, field.Duplicate(conditionsField.Key(conditions[i].Type), conditions[i].Type)
		}
		seen.Insert(conditions[i].Type)
	}
	patchOptions := metav1.PatchOptions{FieldManager: opts.FieldManager}
	if opts.DryRun {
		patchOptions.DryRun = []string{metav1.DryRunAll}
	}
	var observed int64
	if opts.ObserveGeneration {
		observed = dp.Generation
	}
	patch, err := conditionsPatch(dp, conditions, observed)
	if err != nil {
		return nil, err
	}
	if dp.ResourceVersion == "" { // made by hand, not read
		patch = nil
	}

	var result T
	var conflict error
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
			if patch, err = conditionsPatch(current, conditions, observed); err != nil || patch == nil {
				return true, err
			}
		}
		result, err = client.Patch(ctx, dp.Name, types.MergePatchType, patch, patchOptions, "status")
		if apierrors.IsConflict(err) {
			patch, conflict = nil, err
			return false, nil
		}
		return true, err
	})
	if err == nil {
		return result, nil
	}
	// Requests return either ctx's error or its cause. Join both with the last conflict.
	for _, also := range []error{context.Cause(ctx), ctx.Err(), conflict} {
		if also != nil && !errors.Is(err, also) {
			err = fmt.Errorf("%w: %w", err, also)
		}
	}
	return nil, fmt.Errorf("data plane %s: %w", strings.TrimPrefix(dp.Namespace+"/"+dp.Name, "/"), err)
}

// conditionsPatch returns nil if there is nothing to change.
func conditionsPatch(current *v1alpha1.DataPlane, conditions []metav1.Condition, observed int64) ([]byte, error) {
	// An observed generation above the object's is left over from before a restore.
	latest := map[string]int64{} // by type
	for _, stored := range current.Status.Conditions {
		if stored.ObservedGeneration <= current.Generation {
			latest[stored.Type] = max(latest[stored.Type], stored.ObservedGeneration)
		}
	}
	conditions = slices.DeleteFunc(slices.Clone(conditions), func(c metav1.Condition) bool {
		return c.ObservedGeneration < latest[c.Type]
	})
	list := current.Status.Conditions
	if len(conditions) > 0 {
		list = setConditions(list, conditions)
	}
	status := map[string]any{}
	if !slices.Equal(list, current.Status.Conditions) {
		status["conditions"] = list
	}
	if stored := current.Status.ObservedGeneration; observed > 0 && observed != stored &&
		(observed > stored || stored > current.Generation) {
		status["observedGeneration"] = observed
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

// MergePatch returns the JSON merge patch (RFC 7386) that turns before, as it was read,
// into after. Unlike an Update, it keeps fields that this module doesn't know. It holds the
// resourceVersion of before, so the API server answers with a conflict if the object has
// changed since.
//
// Send it as types.MergePatchType, to the object for metadata and spec or to its status
// subresource for status; the API server ignores the rest. It holds secrets if those
// differ, and never kind, apiVersion and managed fields. MergePatch returns an error if
// before has no resourceVersion or the two are not the same object, and
// [ErrSecretsDropped] with the field's name if a secret was removed from one.
func MergePatch(before, after *v1alpha1.DataPlane) ([]byte, error) {
	switch {
	case before == nil || after == nil:
		return nil, errors.New("nil data plane")
	case before.ResourceVersion == "":
		return nil, errors.New("metadata.resourceVersion: must be set: before must come from an API server")
	case before.Namespace != after.Namespace || before.Name != after.Name || before.UID != after.UID:
		return nil, errors.New("metadata: namespace, name and uid must be the same before and after")
	}
	if field := droppedSecret(before); field != "" {
		return nil, fmt.Errorf("before: %s: %w", field, ErrSecretsDropped)
	}
	if field := droppedSecret(after); field != "" {
		return nil, fmt.Errorf("after: %s: %w", field, ErrSecretsDropped)
	}
	original, modified := before.DeepCopy(), after.DeepCopy()
	for _, dp := range []*v1alpha1.DataPlane{original, modified} {
		dp.TypeMeta, dp.ManagedFields = metav1.TypeMeta{}, nil
	}
	original.ResourceVersion, modified.ResourceVersion = "", before.ResourceVersion // a change, so the patch holds it
	from, err := json.Marshal(original)
	if err != nil {
		return nil, err
	}
	to, err := json.Marshal(modified)
	if err != nil {
		return nil, err
	}
	return jsonmergepatch.CreateThreeWayJSONMergePatch(from, to, from)
}

// droppedSecret returns the path of a field in which [v1alpha1.DataPlane.Redacted] or
// informer.DropSecrets left its marker, or "".
func droppedSecret(dp *v1alpha1.DataPlane) string {
	for _, key := range lastapplied.Annotations {
		if dp.Annotations[key] == v1alpha1.Redacted {
			return "metadata.annotations[" + key + "]"
		}
	}
	creds, observer := dp.Spec.KubernetesCluster.Credentials, cmp.Or(dp.Spec.Observer, &v1alpha1.ObserverAPI{})
	for _, field := range []struct{ name, value string }{
		{fieldServer, creds.APIServerURL},
		{fieldCA, creds.CACert},
		{fieldCert, creds.ClientCert},
		{fieldKey, creds.ClientKey},
		{"spec.observer.url", observer.URL},
		{"spec.observer.authentication.basicAuth.password", observer.Authentication.BasicAuth.Password},
	} {
		if field.value == v1alpha1.Redacted || strings.Contains(field.value, "//"+v1alpha1.Redacted+"@") {
			return field.name
		}
	}
	return ""
}
