// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
)

// NewDataPlane returns a DataPlane of v0.3 without optional fields.
func NewDataPlane(name string) *v1alpha1.DataPlane { return v03.New(name) }

// SetConditions sets the conditions Ready and Connected.
func SetConditions(status *v1alpha1.DataPlaneStatus) {
	status.ObservedGeneration = 1
	status.Conditions = []metav1.Condition{
		NewCondition(v1alpha1.DataPlaneConditionReady, metav1.ConditionTrue),
		NewCondition(v1alpha1.DataPlaneConditionConnected, metav1.ConditionFalse),
	}
}

// NewCondition returns a condition with a fixed reason, message and time.
func NewCondition(conditionType string, status metav1.ConditionStatus) metav1.Condition {
	return metav1.Condition{
		Type: conditionType, Status: status, Reason: "Tested", Message: "by hand",
		LastTransitionTime: metav1.Unix(1_700_000_000, 0),
	}
}

// ApplyCondition returns the apply configuration of NewCondition's condition.
func ApplyCondition(conditionType string, status metav1.ConditionStatus) *applymetav1.ConditionApplyConfiguration {
	return applymetav1.Condition().WithType(conditionType).WithStatus(status).
		WithReason("Tested").WithMessage("by hand").WithLastTransitionTime(metav1.Unix(1_700_000_000, 0))
}

// ApplySpec returns an apply configuration of NewDataPlane's spec.
func ApplySpec(namespace, name string) *openchoreoapply.DataPlaneApplyConfiguration {
	return With(v03.Configuration(namespace, name), Path{"spec"}, v03.Spec)
}

// ApplyPrefix returns an apply configuration of spec.registry.prefix only.
func ApplyPrefix(namespace, name, prefix string) *openchoreoapply.DataPlaneApplyConfiguration {
	return With(v03.Configuration(namespace, name), v03.Required, prefix)
}

// ApplyConditions returns an apply configuration of conditions only.
func ApplyConditions(namespace, name string, conditions ...*applymetav1.ConditionApplyConfiguration) *openchoreoapply.DataPlaneApplyConfiguration {
	return openchoreoapply.DataPlane(name, namespace).
		WithStatus(openchoreoapply.DataPlaneStatus().WithConditions(conditions...))
}

// ApplyAs returns the options to apply as a field manager.
func ApplyAs(manager string) metav1.ApplyOptions { return metav1.ApplyOptions{FieldManager: manager} }

// ApplyByForce returns the options to apply as a field manager and to take over fields of others.
func ApplyByForce(manager string) metav1.ApplyOptions {
	return metav1.ApplyOptions{FieldManager: manager, Force: true}
}

// AssertSame compares two objects, their kind included.
func AssertSame(t *testing.T, want, got *v1alpha1.DataPlane, msgAndArgs ...any) {
	t.Helper()
	assert.Equal(t, want, got, msgAndArgs...)
}

// AssertSameCached compares without the kind, which a cached object has if it came from a list.
func AssertSameCached(t *testing.T, want, got *v1alpha1.DataPlane, msgAndArgs ...any) {
	t.Helper()
	AssertSame(t, Listed(want), Listed(got), msgAndArgs...)
}

// Listed returns an object as the typed clients list it: with its kind, which they clear in all
// other answers.
func Listed(dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	dp = dp.DeepCopy()
	dp.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("DataPlane"))
	return dp
}

// AssertSameConfiguration compares the JSON of two apply configurations.
func AssertSameConfiguration(t *testing.T, want, got *openchoreoapply.DataPlaneApplyConfiguration) {
	t.Helper()
	wantJSON, err := json.Marshal(want)
	require.NoError(t, err)
	gotJSON, err := json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, string(wantJSON), string(gotJSON))
}

// RequireApplyConflict requires that err names the manager and the field of one conflict, in its
// message and in its causes.
func RequireApplyConflict(t *testing.T, err error, manager, field string) {
	t.Helper()
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, `conflict with "`+manager+`"`)
	require.ErrorContains(t, err, field)
	require.True(t, apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict))
	require.Equal(t, []string{field}, CauseFields(err))
}

// NoField is the field of the cause by which an API server reports that it didn't check a CRD's
// rules, because the object is invalid anyway. The fake has no rules.
const NoField = "<nil>"

// CauseFields returns the field paths in the causes of an API server's error.
func CauseFields(err error) (fields []string) {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			if cause.Field != NoField {
				fields = append(fields, cause.Field)
			}
		}
	}
	return slices.Compact(fields)
}

// Names returns the names of DataPlanes, in their order.
func Names(items []v1alpha1.DataPlane) []string {
	result := make([]string, 0, len(items))
	for i := range items {
		result = append(result, items[i].Name)
	}
	return result
}
