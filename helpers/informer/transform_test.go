// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package informer_test

import (
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
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

// secretive returns a DataPlane with a secret in every field that can hold one.
func secretive(t *testing.T) *v1alpha1.DataPlane {
	t.Helper()
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	dp.ResourceVersion = "1"
	dp.Annotations = map[string]string{"stays": "x"}
	for _, key := range redact.Annotations {
		dp.Annotations[key] = dp.Spec.KubernetesCluster.Credentials.ClientKey
	}
	dp.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://admin:hunter2@k8s-api.example.com:6443/path"
	dp.Spec.Registry = v1alpha1.Registry{Prefix: "docker.io/myorg", SecretRef: "registry-credentials"}
	dp.Spec.Observer = &v1alpha1.ObserverAPI{URL: "https://hunter2@observer.example.com"}
	dp.Spec.Observer.Authentication.BasicAuth = v1alpha1.BasicAuthCredentials{Username: "admin", Password: "hunter2"}
	return dp
}

func redactedAnnotations() map[string]string {
	annotations := map[string]string{"stays": "x"}
	for _, key := range redact.Annotations {
		annotations[key] = v1alpha1.Redacted
	}
	return annotations
}

// withoutSecrets returns dp as DropSecrets must leave it.
func withoutSecrets(dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	dp = dp.DeepCopy()
	dp.Annotations = redactedAnnotations()
	dp.ManagedFields = nil
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.APIServerURL = "https://REDACTED@k8s-api.example.com:6443/path"
	creds.CACert, creds.ClientCert, creds.ClientKey = v1alpha1.Redacted, v1alpha1.Redacted, v1alpha1.Redacted
	dp.Spec.Observer.URL = "https://REDACTED@observer.example.com"
	dp.Spec.Observer.Authentication.BasicAuth.Password = v1alpha1.Redacted
	return dp
}

func toUnstructured(t *testing.T, dp *v1alpha1.DataPlane, apiVersion, kind string) *unstructured.Unstructured {
	t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(dp)
	require.NoError(t, err)
	u := &unstructured.Unstructured{Object: object}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	return u
}

func TestDropSecrets(t *testing.T) {
	dp := secretive(t)
	metadata := func(dp *v1alpha1.DataPlane, kind string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: kind}, ObjectMeta: *dp.ObjectMeta.DeepCopy()}
	}
	group, later := v1alpha1.SchemeGroupVersion.String(), v1alpha1.GroupName+"/v1beta1"
	empty := &v1alpha1.DataPlane{Spec: v1alpha1.DataPlaneSpec{Observer: &v1alpha1.ObserverAPI{}}}
	stripped := dp.DeepCopy()
	stripped.ManagedFields = nil
	for name, test := range map[string]struct{ in, want any }{
		"a typed object":                    {dp.DeepCopy(), withoutSecrets(dp)},
		"an untyped object":                 {toUnstructured(t, dp, group, "DataPlane"), toUnstructured(t, withoutSecrets(dp), group, "DataPlane")},
		"an untyped object of a version":    {toUnstructured(t, dp, later, "DataPlane"), toUnstructured(t, withoutSecrets(dp), later, "DataPlane")},
		"metadata without a kind":           {metadata(dp, ""), metadata(withoutSecrets(dp), "")},
		"metadata of PartialObjectMetadata": {metadata(dp, "PartialObjectMetadata"), metadata(withoutSecrets(dp), "PartialObjectMetadata")},
		"metadata of a DataPlane":           {metadata(dp, "DataPlane"), metadata(withoutSecrets(dp), "DataPlane")},
		"empty fields":                      {empty.DeepCopy(), empty},
		"an untyped object of another kind": {toUnstructured(t, dp, group, "Other"), toUnstructured(t, stripped, group, "Other")},
		"an object of another type":         {&corev1.Pod{}, &corev1.Pod{}},
		"nothing":                           {nil, nil},
		"a nil DataPlane":                   {(*v1alpha1.DataPlane)(nil), (*v1alpha1.DataPlane)(nil)},
		"a nil untyped object":              {(*unstructured.Unstructured)(nil), (*unstructured.Unstructured)(nil)},
		"nil metadata":                      {(*metav1.PartialObjectMetadata)(nil), (*metav1.PartialObjectMetadata)(nil)},
		"a deletion that the watch missed":  {cache.DeletedFinalStateUnknown{Key: "x"}, cache.DeletedFinalStateUnknown{Key: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := informer.DropSecrets(test.in)
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
			again, err := informer.DropSecrets(got)
			require.NoError(t, err)
			assert.Equal(t, test.want, again)
		})
	}
}

func TestDropSecretsReplacesUntypedValuesOfAnyType(t *testing.T) {
	object := map[string]any{
		"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "DataPlane",
		"metadata": map[string]any{"annotations": map[string]any{redact.Annotations[0]: int64(1)}},
		"spec": map[string]any{
			"kubernetesCluster": map[string]any{"auth": "hunter2", "credentials": map[string]any{
				"apiServerURL": []any{"hunter2"}, "caCert": nil, "clientCert": "", "clientKey": map[string]any{"a": "hunter2"},
			}},
			"observer": map[string]any{"url": "https://hun ter2@x", "authentication": "x"},
		},
	}
	_, err := informer.DropSecrets(&unstructured.Unstructured{Object: object})
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "DataPlane",
		"metadata": map[string]any{"annotations": map[string]any{redact.Annotations[0]: v1alpha1.Redacted}},
		"spec": map[string]any{
			"kubernetesCluster": map[string]any{"credentials": map[string]any{
				"apiServerURL": v1alpha1.Redacted, "caCert": nil, "clientCert": "", "clientKey": v1alpha1.Redacted,
			}},
			"observer": map[string]any{"url": v1alpha1.Redacted, "authentication": v1alpha1.Redacted},
		},
	}, object)
}

func TestDropSecretsReplacesOtherValuesWhereObjectsBelong(t *testing.T) {
	paths := [][]string{
		{"spec"},
		{"spec", "kubernetesCluster"},
		{"spec", "kubernetesCluster", "credentials"},
		{"spec", "observer"},
		{"spec", "observer", "authentication"},
		{"spec", "observer", "authentication", "basicAuth"},
	}
	for _, path := range paths {
		for name, value := range map[string]any{"text": "hunter2", "a list": []any{map[string]any{"clientKey": "hunter2"}}, "a number": int64(4)} {
			t.Run(strings.Join(path, ".")+" is "+name, func(t *testing.T) {
				object := func(value any) *unstructured.Unstructured {
					u := &unstructured.Unstructured{Object: map[string]any{}}
					require.NoError(t, unstructured.SetNestedField(u.Object, value, path...))
					u.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("DataPlane"))
					return u
				}
				got, err := informer.DropSecrets(object(value))
				require.NoError(t, err)
				assert.Equal(t, object(v1alpha1.Redacted), got)
			})
		}
	}
}

func TestDropSecretsRemovesCredentialsOfLaterReleases(t *testing.T) {
	object := func(cluster map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "DataPlane",
			"spec": map[string]any{"kubernetesCluster": cluster},
		}}
	}
	value := map[string]any{"value": "hunter2"}
	got, err := informer.DropSecrets(object(map[string]any{ // v0.4 to v0.8
		"server": "https://host:6443", "tls": map[string]any{"ca": value},
		"auth": map[string]any{"mTLS": map[string]any{"clientKey": value}, "bearerToken": value},
	}))
	require.NoError(t, err)
	assert.Equal(t, object(map[string]any{"server": "https://host:6443", "tls": map[string]any{"ca": value}}), got)
	got, err = informer.DropSecrets(object(nil))
	require.NoError(t, err)
	assert.Equal(t, object(nil), got)
}

func TestDataPlaneWithoutSecretsIsRefused(t *testing.T) {
	dp := secretive(t)
	dropped, err := informer.DropSecrets(dp.DeepCopy())
	require.NoError(t, err)
	_, err = helpers.RESTConfigFor(dropped.(*v1alpha1.DataPlane))
	require.ErrorIs(t, err, helpers.ErrSecretsDropped)
	_, err = helpers.MergePatch(dp, dropped.(*v1alpha1.DataPlane))
	require.ErrorIs(t, err, helpers.ErrSecretsDropped)
}

// Such a patch would overwrite the annotation, and kubectl apply would no longer remove fields.
func TestDataPlaneWithoutItsLastAppliedAnnotationIsRefused(t *testing.T) {
	dp := &v1alpha1.DataPlane{} // without credentials, as of later releases
	dp.ResourceVersion = "1"
	dp.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}"}
	dropped, err := informer.DropSecrets(dp.DeepCopy())
	require.NoError(t, err)
	_, err = helpers.MergePatch(dp, dropped.(*v1alpha1.DataPlane))
	require.ErrorIs(t, err, helpers.ErrSecretsDropped)

	dp.Annotations = nil
	dropped, err = informer.DropSecrets(dp.DeepCopy())
	require.NoError(t, err)
	_, err = helpers.MergePatch(dp, dropped.(*v1alpha1.DataPlane))
	require.NoError(t, err, "nothing was dropped")
}

// The shape of v1 holds no secrets.
func TestDropSecretsKeepsTheFieldsOfV1(t *testing.T) {
	cluster := &v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{
		Annotations: map[string]string{"note": "x"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}},
	}}
	cluster.Spec.ClusterAgent.ClientCA.Value = "PEM"
	cluster.Status.AgentConnection = &v1alpha1.AgentConnectionStatus{Connected: true}
	dp := cluster.AsDataPlane()
	want, wantDP := cluster.DeepCopy(), dp.DeepCopy()
	want.ManagedFields, wantDP.ManagedFields = nil, nil

	got, err := informer.DropSecrets(cluster)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got, err = informer.DropSecrets(dp)
	require.NoError(t, err)
	assert.Equal(t, wantDP, got)
}

func TestStripManagedFields(t *testing.T) {
	managed := []metav1.ManagedFieldsEntry{{Manager: "x"}}
	dp := secretive(t)
	want := dp.DeepCopy()
	want.ManagedFields = nil
	group := v1alpha1.SchemeGroupVersion.String()
	for name, test := range map[string]struct{ in, want any }{
		"a DataPlane":           {dp, want},
		"an untyped object":     {toUnstructured(t, dp, group, "Other"), toUnstructured(t, want, group, "Other")},
		"an object of any type": {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x", ManagedFields: managed}}, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}}},
		"metadata":              {&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ManagedFields: managed}}, &metav1.PartialObjectMetadata{}},
		"nothing":               {nil, nil},
		"a nil DataPlane":       {(*v1alpha1.DataPlane)(nil), (*v1alpha1.DataPlane)(nil)},
		"a nil object":          {(*corev1.Pod)(nil), (*corev1.Pod)(nil)},
		"another type":          {"x", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := informer.StripManagedFields(test.in)
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.in, got, "in place")
		})
	}
}
