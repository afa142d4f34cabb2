// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// complete has every field of the spec.
const complete = `
apiVersion: openchoreo.dev/v1alpha1
kind: DataPlane
metadata: {name: prod}
spec:
  kubernetesCluster:
    name: production-cluster
    credentials: {apiServerURL: "https://k8s-api.example.com:6443", caCert: Y2E=, clientCert: Y2VydA==, clientKey: a2V5}
  registry: {prefix: docker.io/myorg, secretRef: registry-credentials}
  gateway: {publicVirtualHost: api.example.com, organizationVirtualHost: internal.example.com}
  observer:
    url: https://observer.example.com
    authentication:
      basicAuth: {username: admin, password: secretpassword}
`

// optional are the paths of complete that may be absent.
var optional = []string{"spec", "spec.registry.secretRef", "spec.observer"}

// paths returns the paths of all fields below prefix, in a fixed order.
func paths(object map[string]any, prefix string) []string {
	var result []string
	for _, key := range slices.Sorted(maps.Keys(object)) {
		path := strings.TrimPrefix(prefix+"."+key, ".")
		result = append(result, path)
		if child, ok := object[key].(map[string]any); ok {
			result = append(result, paths(child, path)...)
		}
	}
	return result
}

// specPaths returns the path spec, and all paths below it in complete.
func specPaths(t *testing.T) []string {
	t.Helper()
	return paths(map[string]any{"spec": parse(t, []byte(complete)).Object["spec"]}, "")
}

func TestAbsentRequiredFieldIsRefused(t *testing.T) {
	s := shared.space(t)
	required := slices.DeleteFunc(specPaths(t), func(path string) bool { return slices.Contains(optional, path) })
	require.Len(t, required, 17)
	for _, path := range required {
		t.Run(path, func(t *testing.T) {
			object := parse(t, []byte(complete))
			unstructured.RemoveNestedField(object.Object, strings.Split(path, ".")...)
			_, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{})
			requireInvalid(t, err, path)
			require.ErrorContains(t, err, path+": Required value")
		})
	}
}

func TestAbsentOptionalFieldStaysAbsent(t *testing.T) {
	for _, path := range optional {
		t.Run(path, func(t *testing.T) {
			s := shared.space(t)
			object := parse(t, []byte(complete))
			unstructured.RemoveNestedField(object.Object, strings.Split(path, ".")...)
			_, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{})
			require.NoError(t, err)
			stored := s.stored(t, "prod")
			assert.Equal(t, object.Object["spec"], stored["spec"], "the API server adds nothing")
			assert.NotContains(t, stored, "status")
			if path == "spec" {
				assert.NotContains(t, stored, "spec")
			}
		})
	}
}

func TestAbsentFieldReadsAsZeroAndATypedUpdateKeepsItAbsent(t *testing.T) {
	s := shared.space(t)
	object := parse(t, []byte(complete))
	unstructured.RemoveNestedField(object.Object, "spec", "observer")
	unstructured.RemoveNestedField(object.Object, "spec", "registry", "secretRef")
	_, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{})
	require.NoError(t, err)

	dp := s.get(t, "prod")
	assert.Equal(t, behaviours.NewDataPlane("prod").Spec, dp.Spec)
	assert.Nil(t, dp.Spec.Observer)
	assert.Empty(t, dp.Spec.Registry.SecretRef)
	assert.Zero(t, dp.Status)

	dp.Labels = map[string]string{"tier": "gold"}
	updated, err := s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, updated.Generation)
	_, err = s.typed.UpdateStatus(t.Context(), updated, metav1.UpdateOptions{})
	require.NoError(t, err)
	stored := s.stored(t, "prod")
	assert.Equal(t, object.Object["spec"], stored["spec"])
	assert.Empty(t, stored["status"], "but the typed client always sends a status")
}

func TestTypedCreateSendsNothingThatWasNotSet(t *testing.T) {
	s := shared.space(t)
	s.create(t, behaviours.NewDataPlane("prod"))
	want := parse(t, []byte(complete))
	unstructured.RemoveNestedField(want.Object, "spec", "observer")
	unstructured.RemoveNestedField(want.Object, "spec", "registry", "secretRef")
	stored := s.stored(t, "prod")
	assert.Equal(t, want.Object["spec"], stored["spec"])
	assert.NotContains(t, stored, "status")
}

func TestEmptyStringsAreAccepted(t *testing.T) {
	s := shared.space(t)
	object := parse(t, []byte(complete))
	for _, path := range specPaths(t) {
		fields := strings.Split(path, ".")
		if _, isString, _ := unstructured.NestedString(object.Object, fields...); isString {
			require.NoError(t, unstructured.SetNestedField(object.Object, "", fields...))
		}
	}
	_, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	require.NoError(t, err)
	assert.Equal(t, object.Object["spec"], s.stored(t, "prod")["spec"])
	assert.Equal(t, openchoreov1alpha1.DataPlaneSpec{Observer: &openchoreov1alpha1.ObserverAPI{}}, s.get(t, "prod").Spec)

	created := s.create(t, &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: "zero"}})
	assert.Zero(t, created.Spec)
}

func TestObjectWithoutSpecIsAccepted(t *testing.T) {
	s := shared.space(t)
	object := parse(t, []byte(complete))
	delete(object.Object, "spec")
	_, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	require.NoError(t, err)
	assert.Zero(t, s.get(t, "prod").Spec)
	dp := s.setStatus(t, "prod", behaviours.SetConditions)
	assert.Len(t, dp.Status.Conditions, 2)
	assert.NotContains(t, s.stored(t, "prod"), "spec")
}

func TestUnknownFieldIsPrunedOrRefused(t *testing.T) {
	s := shared.space(t)
	for _, path := range []string{
		"unknown", "spec.unknown", "spec.kubernetesCluster.credentials.unknown", "spec.observer.authentication.basicAuth.unknown",
	} {
		t.Run(path, func(t *testing.T) {
			object := parse(t, []byte(complete))
			object.SetName(strings.ToLower(path))
			require.NoError(t, unstructured.SetNestedField(object.Object, "value", strings.Split(path, ".")...))
			_, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
			require.True(t, apierrors.IsBadRequest(err), "%v", err)
			require.ErrorContains(t, err, fmt.Sprintf("unknown field %q", path))

			_, err = s.raw.Create(t.Context(), object, metav1.CreateOptions{})
			require.NoError(t, err)
			stored := s.stored(t, object.GetName())
			assert.NotContains(t, stored, "unknown")
			assert.Equal(t, parse(t, []byte(complete)).Object["spec"], stored["spec"])
		})
	}
}

func TestWrongTypeIsRefused(t *testing.T) {
	s := shared.space(t)
	for _, path := range specPaths(t) {
		fields := strings.Split(path, ".")
		values := map[string]any{"list": []any{"value"}}
		if !slices.Contains(optional, path) {
			values["null"] = nil
		}
		if _, isString, _ := unstructured.NestedString(parse(t, []byte(complete)).Object, fields...); isString {
			values["number"] = int64(1)
		} else {
			values["string"] = "value"
		}
		for kind, value := range values {
			t.Run(path+" is a "+kind, func(t *testing.T) {
				object := parse(t, []byte(complete))
				require.NoError(t, unstructured.SetNestedField(object.Object, value, fields...))
				_, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{})
				requireInvalid(t, err, path)
			})
		}
	}
}

func TestNullForAnOptionalFieldIsAccepted(t *testing.T) {
	for _, path := range optional {
		t.Run(path, func(t *testing.T) {
			s := shared.space(t)
			fields := strings.Split(path, ".")
			object := parse(t, []byte(complete))
			require.NoError(t, unstructured.SetNestedField(object.Object, nil, fields...))
			_, err := s.raw.Create(t.Context(), object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
			require.NoError(t, err)
			value, _, err := unstructured.NestedFieldNoCopy(s.stored(t, "prod"), fields...)
			require.NoError(t, err)
			assert.Nil(t, value)
			dp := s.get(t, "prod")
			assert.Equal(t, path == "spec", dp.Spec == openchoreov1alpha1.DataPlaneSpec{})
			if path == "spec.observer" {
				assert.Nil(t, dp.Spec.Observer)
			}
		})
	}
}

func TestInvalidStatusIsRefused(t *testing.T) {
	s := shared.space(t)
	_, err := s.raw.Create(t.Context(), parse(t, []byte(complete)), metav1.CreateOptions{})
	require.NoError(t, err)
	valid := func() map[string]any {
		return map[string]any{
			"type": "Ready", "status": "True", "reason": "Tested", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
		}
	}
	without := func(field string) map[string]any {
		condition := valid()
		delete(condition, field)
		return condition
	}
	with := func(field string, value any) map[string]any {
		condition := valid()
		condition[field] = value
		return condition
	}
	const first = "status.conditions[0]"
	for _, test := range []struct {
		name       string
		field      string // the invalid field; "" if the status is valid
		conditions any
		generation any
	}{
		{name: "valid", conditions: []any{valid(), with("type", "Connected")}, generation: int64(1)},
		{name: "unknown status of a condition", field: first + ".status", conditions: []any{with("status", "Maybe")}},
		{name: "empty status of a condition", field: first + ".status", conditions: []any{with("status", "")}},
		{name: "boolean status of a condition", field: first + ".status", conditions: []any{with("status", true)}},
		{name: "empty reason", field: first + ".reason", conditions: []any{with("reason", "")}},
		{name: "reason of several words", field: first + ".reason", conditions: []any{with("reason", "not one word")}},
		{name: "type of several words", field: first + ".type", conditions: []any{with("type", "not one word")}},
		{name: "text that is no time", field: first + ".lastTransitionTime", conditions: []any{with("lastTransitionTime", "yesterday")}},
		{name: "negative generation of a condition", field: first + ".observedGeneration", conditions: []any{with("observedGeneration", int64(-1))}},
		{name: "string for the generation of a condition", field: first + ".observedGeneration", conditions: []any{with("observedGeneration", "1")}},
		{name: "no lastTransitionTime", field: first + ".lastTransitionTime", conditions: []any{without("lastTransitionTime")}},
		{name: "no type", field: first + ".type", conditions: []any{without("type")}},
		{name: "no status", field: first + ".status", conditions: []any{without("status")}},
		{name: "no reason", field: first + ".reason", conditions: []any{without("reason")}},
		{name: "no message", field: first + ".message", conditions: []any{without("message")}},
		{name: "two conditions of a type", field: "status.conditions[1]", conditions: []any{valid(), with("status", "False")}},
		{name: "object for the conditions", field: "status.conditions", conditions: valid()},
		{name: "string for a condition", field: first, conditions: []any{"Ready"}},
		{name: "string for the generation", field: "status.observedGeneration", generation: "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			object, err := s.raw.Get(t.Context(), "prod", metav1.GetOptions{})
			require.NoError(t, err)
			status := map[string]any{}
			if test.conditions != nil {
				status["conditions"] = test.conditions
			}
			if test.generation != nil {
				status["observedGeneration"] = test.generation
			}
			object.Object["status"] = status
			_, err = s.raw.UpdateStatus(t.Context(), object, metav1.UpdateOptions{})
			if test.field == "" {
				require.NoError(t, err)
				return
			}
			requireInvalid(t, err, test.field)
		})
	}
}

// requireInvalid requires that the API server refused an object because of a field.
func requireInvalid(t *testing.T, err error, field string) {
	t.Helper()
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.Contains(t, behaviours.CauseFields(err), field, "%v", err)
	require.ErrorContains(t, err, field)
}
