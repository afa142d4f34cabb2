// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// ErrSecretsDropped reports that a DataPlane is not fit to be written, or to connect
// with: its secrets were replaced by [Redact] or [DropSecrets].
var ErrSecretsDropped = errors.New("the secrets of the data plane were dropped")

// DataPlaneStatusPatcher is what [PatchConditions] needs of the typed client, which
// OpenChoreoV1alpha1().DataPlanes(namespace) has.
type DataPlaneStatusPatcher interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*v1alpha1.DataPlane, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions,
		subresources ...string) (*v1alpha1.DataPlane, error)
}

// MergePatch returns the JSON merge patch (RFC 7386) that makes before, as it was read,
// into after. Fields that this module doesn't know are not in it, so they survive, which
// an Update would not let them. It holds the resourceVersion of before, so that it fails
// with a conflict when somebody has changed the object since.
//
// The patch is for types.MergePatchType, of the object or of its status subresource; the
// API server takes from it what belongs to the one or the other. It holds secrets when
// those differ. It is an error when before has no resourceVersion, when the two are not
// the same object, or [ErrSecretsDropped] when one lacks its secrets.
func MergePatch(before, after *v1alpha1.DataPlane) ([]byte, error) {
	switch {
	case before == nil || after == nil:
		return nil, errors.New("nil data plane")
	case before.ResourceVersion == "":
		return nil, errors.New("metadata.resourceVersion: must be set, as it is in what was read from an API server")
	case before.Namespace != after.Namespace || before.Name != after.Name || before.UID != after.UID:
		return nil, errors.New("metadata: namespace, name and uid must be the same before and after")
	case secretsDropped(before) || secretsDropped(after):
		return nil, ErrSecretsDropped
	}
	original, err := json.Marshal(before)
	if err != nil {
		return nil, err
	}
	modified, err := json.Marshal(after)
	if err != nil {
		return nil, err
	}
	patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(original, modified, original)
	if err != nil {
		return nil, fmt.Errorf("comparing the data planes: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return nil, err
	}
	metadata, _ := fields["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		fields["metadata"] = metadata
	}
	metadata["resourceVersion"] = before.ResourceVersion
	return json.Marshal(fields)
}

// PatchConditions writes conditions to the status of dp on the API server, as
// [SetCondition] sets them, and returns the object as it is then. It writes nothing else,
// keeps the conditions of other types whoever wrote them, and sends nothing when dp has
// them all already. ObservedGeneration is that of dp as it is passed in, which is what
// the caller has observed, also when the object has changed meanwhile.
//
// It works where conditions are a list merged by type and where they are atomic. Two
// writers at once lose nothing: each write holds a resourceVersion, and after a conflict
// it is made anew from what the API server has, until ctx ends. A dp without a
// resourceVersion is read first. dp itself stays as it is.
//
// Errors are those of SetCondition and of the API server; [ErrReplaced] when the object
// was recreated; and the cause of ctx together with the last conflict.
func PatchConditions(ctx context.Context, client DataPlaneStatusPatcher, dp *v1alpha1.DataPlane,
	conditions ...metav1.Condition,
) (*v1alpha1.DataPlane, error) {
	if dp == nil {
		return nil, errors.New("nil data plane")
	}
	key, now := keyOf(dp), time.Now()
	backoff := wait.Backoff{Duration: 10 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: time.Second}
	current := dp
	if current.ResourceVersion == "" { // made by hand, or by a fake, which has none
		var err error
		if current, err = client.Get(ctx, dp.Name, metav1.GetOptions{}); err != nil {
			return nil, err
		}
	}
	for {
		if dp.UID != "" && current.UID != dp.UID {
			return nil, fmt.Errorf("data plane %s: %w", key, ErrReplaced)
		}
		patch, err := conditionsPatch(current, conditions, dp.Generation, now)
		if err != nil {
			return nil, fmt.Errorf("data plane %s: %w", key, err)
		}
		if patch == nil {
			return current.DeepCopy(), nil
		}
		patched, err := client.Patch(ctx, dp.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		if !apierrors.IsConflict(err) {
			return patched, err
		}
		timer := time.NewTimer(backoff.Step())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("data plane %s: %w: %w", key, context.Cause(ctx), err)
		}
		if current, err = client.Get(ctx, dp.Name, metav1.GetOptions{}); err != nil {
			return nil, err
		}
	}
}

// conditionsPatch returns nil when there is nothing to change.
func conditionsPatch(current *v1alpha1.DataPlane, conditions []metav1.Condition, generation int64, now time.Time) ([]byte, error) {
	list, changed := current.Status.Conditions, false
	for _, condition := range conditions {
		set, changes, err := setCondition(list, condition, generation, now)
		if err != nil {
			return nil, err
		}
		if changes {
			list, changed = set, true
		}
	}
	if !changed {
		return nil, nil
	}
	patch := map[string]any{"status": map[string]any{"conditions": list}}
	if current.ResourceVersion != "" { // an API server always has one
		patch["metadata"] = map[string]any{"resourceVersion": current.ResourceVersion}
	}
	return json.Marshal(patch)
}

func secretsDropped(dp *v1alpha1.DataPlane) bool {
	return credentialsDropped(dp) ||
		dp.Spec.Observer != nil && dp.Spec.Observer.Authentication.BasicAuth.Password == v1alpha1.Redacted
}

func credentialsDropped(dp *v1alpha1.DataPlane) bool {
	creds := &dp.Spec.KubernetesCluster.Credentials
	return creds.CACert == v1alpha1.Redacted || creds.ClientCert == v1alpha1.Redacted || creds.ClientKey == v1alpha1.Redacted
}
