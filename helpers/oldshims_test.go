// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// This file keeps the tests of the flat files compiling until they are deleted, and goes
// with them.

const (
	ready     = v1alpha1.DataPlaneConditionReady
	connected = v1alpha1.DataPlaneConditionConnected
	gateway   = v1alpha1.DataPlaneConditionGatewayProvisioned
)

func condition(conditionType string, status metav1.ConditionStatus, observed int64) metav1.Condition {
	return metav1.Condition{Type: conditionType, Status: status, ObservedGeneration: observed, Reason: "Tested", Message: "as tested"}
}

func TestDropSecrets(t *testing.T) {
	dp := newDataPlane(t)
	key := dp.Spec.KubernetesCluster.Credentials.ClientKey
	dp.Annotations = map[string]string{copyAnnotations[0]: key, copyAnnotations[1]: key, "stays": "x"}
	dp.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	dp.Spec.Observer = &v1alpha1.ObserverAPI{}
	dp.Spec.Observer.Authentication.BasicAuth.Password = "hunter2"
	dp.ResourceVersion = "7"

	obj, err := DropSecrets(dp.DeepCopy())
	require.NoError(t, err)
	dropped := obj.(*v1alpha1.DataPlane)
	assert.Equal(t, v1alpha1.APIServerCredentials{
		APIServerURL: dp.Spec.KubernetesCluster.Credentials.APIServerURL,
		CACert:       v1alpha1.Redacted, ClientCert: v1alpha1.Redacted, ClientKey: v1alpha1.Redacted,
	}, dropped.Spec.KubernetesCluster.Credentials)
	assert.Equal(t, v1alpha1.Redacted, dropped.Spec.Observer.Authentication.BasicAuth.Password)
	assert.Equal(t, map[string]string{"stays": "x"}, dropped.Annotations)
	assert.Empty(t, dropped.ManagedFields)
	assert.Equal(t, dp.Spec.Registry, dropped.Spec.Registry)

	_, err = RESTConfigFor(dropped)
	require.ErrorIs(t, err, ErrSecretsDropped)
	_, err = MergePatch(dropped, dropped)
	require.ErrorIs(t, err, ErrSecretsDropped)
	_, err = CertificateExpiry(dropped)
	require.ErrorIs(t, err, ErrSecretsDropped)
	_, errs := Validate(dropped)
	assert.Len(t, errs, 1)

	again, err := DropSecrets(dropped)
	require.NoError(t, err)
	assert.Same(t, dropped, again)

	empty, err := DropSecrets(&v1alpha1.DataPlane{})
	require.NoError(t, err)
	assert.Equal(t, &v1alpha1.DataPlane{}, empty, "what is absent stays absent")
}

func TestDropSecretsOfOtherInformers(t *testing.T) {
	dp := newDataPlane(t)
	dp.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "DataPlane"}
	dp.Annotations = map[string]string{copyAnnotations[0]: "key", "stays": "x"}
	dp.Spec.Observer = &v1alpha1.ObserverAPI{}
	dp.Spec.Observer.Authentication.BasicAuth.Password = "hunter2"
	want, err := DropSecrets(dp.DeepCopy())
	require.NoError(t, err)

	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(dp)
	require.NoError(t, err)
	dropped, err := DropSecrets(&unstructured.Unstructured{Object: object})
	require.NoError(t, err)
	got := &v1alpha1.DataPlane{}
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(dropped.(*unstructured.Unstructured).Object, got))
	assert.Equal(t, want, got)

	metadata, err := DropSecrets(&metav1.PartialObjectMetadata{TypeMeta: dp.TypeMeta, ObjectMeta: *dp.ObjectMeta.DeepCopy()})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"stays": "x"}, metadata.(*metav1.PartialObjectMetadata).Annotations)

	for _, odd := range []map[string]any{
		{},
		{"metadata": "x", "spec": "y"},
		{"metadata": map[string]any{"annotations": 3}, "spec": map[string]any{"kubernetesCluster": []any{}}},
	} {
		odd["apiVersion"], odd["kind"] = dp.APIVersion, dp.Kind
		_, err := DropSecrets(&unstructured.Unstructured{Object: odd})
		require.NoError(t, err)
	}
	// What is in the place of a secret is dropped whatever it is, and other kinds stay.
	strange := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": dp.APIVersion, "kind": dp.Kind,
		"spec": map[string]any{"kubernetesCluster": map[string]any{"credentials": map[string]any{"clientKey": []any{"key"}}}},
	}}
	other := strange.DeepCopy()
	other.SetKind("Other")
	for object, kept := range map[*unstructured.Unstructured]bool{strange: false, other: true} {
		_, err := DropSecrets(object)
		require.NoError(t, err)
		key, _, err := unstructured.NestedFieldNoCopy(object.Object, "spec", "kubernetesCluster", "credentials", "clientKey")
		require.NoError(t, err)
		assert.Equal(t, kept, key != v1alpha1.Redacted)
	}
}

func TestTransformsTakeAnything(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x", ManagedFields: []metav1.ManagedFieldsEntry{{}}}}
	for _, obj := range []any{nil, "x", cache.DeletedFinalStateUnknown{Key: "x"}, pod} {
		for _, transform := range []cache.TransformFunc{StripManagedFields, DropSecrets} {
			got, err := transform(obj)
			require.NoError(t, err)
			assert.Equal(t, obj, got)
		}
	}
	assert.Empty(t, pod.ManagedFields)
}
