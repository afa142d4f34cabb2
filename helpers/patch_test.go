// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
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
