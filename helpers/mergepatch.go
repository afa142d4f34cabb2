// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

// MergePatch returns the JSON merge patch (RFC 7386) that turns before, as it was read,
// into after. Unlike an Update, the patch keeps fields that this module doesn't know. It
// holds the resourceVersion of before, so the API server answers with a conflict if the
// object has changed since.
//
// Send the patch as types.MergePatchType, to the object for metadata and spec or to its
// status subresource for status; the API server ignores the rest. It holds secrets that
// differ, and never kind, apiVersion or managed fields. MergePatch returns an error if
// before has no resourceVersion, if before and after are different objects, or, with
// [ErrSecretsDropped] and the field's name, if a secret was removed from one of them.
func MergePatch(before, after *v1alpha1.DataPlane) ([]byte, error) {
	switch {
	case before == nil || after == nil:
		return nil, dataplane.ErrNil
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
	if ref := original.Spec.ObservabilityPlaneRef; ref != nil && modified.Spec.ObservabilityPlaneRef != nil &&
		ref.Kind == "" && *ref != *modified.Spec.ObservabilityPlaneRef {
		// It may be stored as a string (v0.8 to v0.14), which a patch must replace by all fields.
		original.Spec.ObservabilityPlaneRef = nil
	}
	original.ResourceVersion, modified.ResourceVersion = "", before.ResourceVersion // differ, so the patch holds it
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
	for _, key := range redact.Annotations {
		if dp.Annotations[key] == redact.Marker {
			return "metadata.annotations[" + key + "]"
		}
	}
	observer := cmp.Or(dp.Spec.Observer, &v1alpha1.ObserverAPI{})
	for _, field := range append(credentialFields(dp),
		fieldValue{"spec.observer.url", observer.URL},
		fieldValue{"spec.observer.authentication.basicAuth.password", observer.Authentication.BasicAuth.Password},
	) {
		if redact.IsMarked(field.value) {
			return field.path
		}
	}
	return ""
}
