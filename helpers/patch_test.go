// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
)

func TestMergePatchHoldsWhatDiffers(t *testing.T) {
	before := newDataPlane(t)
	before.ResourceVersion = "7"
	before.Labels = map[string]string{"gone": "x", "stays": "x"}
	after := before.DeepCopy()
	after.Labels = map[string]string{"stays": "x", "new": "x"}
	after.Spec.Registry.Prefix = "docker.io/other"
	patch, err := MergePatch(before, after)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"metadata": {"resourceVersion": "7", "labels": {"gone": null, "new": "x"}},
		"spec": {"registry": {"prefix": "docker.io/other"}}
	}`, string(patch))

	patch, err = MergePatch(before, before)
	require.NoError(t, err)
	assert.JSONEq(t, `{"metadata": {"resourceVersion": "7"}}`, string(patch))
}

func TestMergePatchRefuses(t *testing.T) {
	sound := newDataPlane(t)
	sound.ResourceVersion = "7"
	edited := func(edit func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
		dp := sound.DeepCopy()
		edit(dp)
		return dp
	}
	unread := edited(func(dp *v1alpha1.DataPlane) { dp.ResourceVersion = "" })
	for name, test := range map[string]struct {
		before, after *v1alpha1.DataPlane
		says          string
	}{
		"nil before":           {nil, sound, "nil data plane"},
		"nil after":            {sound, nil, "nil data plane"},
		"not read":             {unread, sound, "resourceVersion"},
		"another name":         {sound, edited(func(dp *v1alpha1.DataPlane) { dp.Name = "x" }), "must be the same"},
		"another of that name": {sound, edited(func(dp *v1alpha1.DataPlane) { dp.UID = "x" }), "must be the same"},
		"redacted":             {sound, Redact(sound), "secrets of the data plane were dropped"},
		"redacted both":        {Redact(sound), Redact(sound), "secrets of the data plane were dropped"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := MergePatch(test.before, test.after)
			require.ErrorContains(t, err, test.says)
		})
	}
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

// Redaction in package v1alpha1 knows of the same copies.
func TestCopiesAreRedactedEverywhere(t *testing.T) {
	dp := &v1alpha1.DataPlane{}
	for _, annotation := range copyAnnotations {
		metav1.SetMetaDataAnnotation(&dp.ObjectMeta, annotation, "secret")
	}
	for annotation, value := range dp.Redacted().Annotations {
		assert.Equal(t, v1alpha1.Redacted, value, annotation)
	}
	source, err := os.ReadFile("../apis/openchoreo/v1alpha1/redaction.go")
	require.NoError(t, err)
	_, list, _ := strings.Cut(string(source), "copyAnnotations = [...]string{")
	list, _, _ = strings.Cut(list, "}")
	assert.Equal(t, len(copyAnnotations), strings.Count(list, ","))
}

func TestPatchConditionsOfAFake(t *testing.T) {
	for name, client := range map[string]*fake.Clientset{"NewClientset": fake.NewClientset(), "NewSimpleClientset": fake.NewSimpleClientset()} {
		t.Run(name, func(t *testing.T) {
			dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
			dp, err := dataPlanes.Create(t.Context(), newDataPlane(t), metav1.CreateOptions{})
			require.NoError(t, err)
			for _, status := range []metav1.ConditionStatus{"True", "False"} {
				patched, err := PatchConditions(t.Context(), dataPlanes, dp, metav1.Condition{Type: ready, Status: status, Reason: "Tested"})
				require.NoError(t, err)
				assert.Equal(t, status, EvaluateCondition(patched, ready).Status)
			}
		})
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
