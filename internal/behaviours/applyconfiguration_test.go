// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
)

func TestExtractKeepsSubresourcesApart(t *testing.T) {
	dp := newDataPlane("prod")
	dp.Spec.Gateway.PublicVirtualHost = "api.example.com"
	dp.Status.Conditions = []metav1.Condition{
		{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"},
		{Type: "Connected", Status: metav1.ConditionFalse, Reason: "Tested"},
	}
	dp.ManagedFields = []metav1.ManagedFieldsEntry{
		managed("one", "", metav1.ManagedFieldsOperationApply, `{"f:spec":{"f:registry":{"f:prefix":{}}}}`),
		managed("one", "", metav1.ManagedFieldsOperationUpdate, `{"f:spec":{"f:gateway":{"f:publicVirtualHost":{}}}}`),
		managed("one", "status", metav1.ManagedFieldsOperationApply,
			`{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{}}}}}`),
	}

	extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, registryPrefix("docker.io/myorg"), extracted, "no fields of updates or of the status")

	status, err := openchoreoapply.ExtractDataPlaneStatus(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, openchoreoapply.DataPlane("prod", "default").WithStatus(openchoreoapply.DataPlaneStatus().
		WithConditions(applymetav1.Condition().WithType("Ready").WithStatus(metav1.ConditionTrue))), status,
		"the key of a list entry is included though the manager doesn't own it")
}

// Extract does the same as client-go's, except for the keys of list items that a manager owns in
// part. An apply that names an item twice is refused.
func TestExtractTakesMetadataAsClientGoDoes(t *testing.T) {
	const key = `"k:{\"uid\":\"1\"}"`
	for name, fields := range map[string]string{
		"an owner reference":   `{"f:metadata":{"f:ownerReferences":{` + key + `:{}}}}`,
		"two owner references": `{"f:metadata":{"f:ownerReferences":{` + key + `:{},"k:{\"uid\":\"2\"}":{}}}}`,
		"finalizers":           `{"f:metadata":{"f:finalizers":{".":{},"v:\"example.com/one\"":{},"v:\"example.com/two\"":{}}}}`,
		"labels":               `{"f:metadata":{"f:labels":{"f:app":{}},"f:annotations":{".":{},"f:note":{}}}}`,
		"removed fields":       `{"f:metadata":{"f:labels":{"f:gone":{}},"f:ownerReferences":{"k:{\"uid\":\"3\"}":{}}}}`,
		"all": `{"f:metadata":{"f:finalizers":{"v:\"example.com/one\"":{}},"f:labels":{"f:app":{}},
			"f:ownerReferences":{".":{},` + key + `:{}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			meta := metav1.ObjectMeta{
				Name: "prod", Namespace: "default",
				Labels:      map[string]string{"app": "x", "other": "y"},
				Annotations: map[string]string{"note": "x"},
				Finalizers:  []string{"example.com/one", "example.com/two"},
				OwnerReferences: []metav1.OwnerReference{
					{APIVersion: "v1", Kind: "ConfigMap", Name: "one", UID: "1", Controller: ptr(true)},
					{APIVersion: "v1", Kind: "ConfigMap", Name: "two", UID: "2"},
				},
				ManagedFields: []metav1.ManagedFieldsEntry{managed("one", "", metav1.ManagedFieldsOperationApply, fields)},
			}
			want, err := applycorev1.ExtractConfigMap(&corev1.ConfigMap{ObjectMeta: meta}, "one")
			require.NoError(t, err)
			got, err := openchoreoapply.ExtractDataPlane(&openchoreov1alpha1.DataPlane{ObjectMeta: meta}, "one")
			require.NoError(t, err)
			assert.Equal(t, want.ObjectMetaApplyConfiguration, got.ObjectMetaApplyConfiguration)

			cluster := meta
			cluster.Namespace, want.Namespace = "", nil
			ofCluster, err := openchoreoapply.ExtractClusterDataPlane(&openchoreov1alpha1.ClusterDataPlane{ObjectMeta: cluster}, "one")
			require.NoError(t, err)
			assert.Equal(t, want.ObjectMetaApplyConfiguration, ofCluster.ObjectMetaApplyConfiguration)
		})
	}
}

func TestExtractRefusesInvalidManagedFields(t *testing.T) {
	dp := newDataPlane("prod")
	dp.ManagedFields = []metav1.ManagedFieldsEntry{managed("one", "", metav1.ManagedFieldsOperationApply, `{"f:spec":1}`)}
	_, err := openchoreoapply.ExtractDataPlane(dp, "one")
	assert.ErrorContains(t, err, `managed fields of "one"`)

	nothing := openchoreoapply.DataPlane("prod", "default")
	for name, fields := range map[string]*metav1.FieldsV1{
		"no fields":                   nil,
		"fields that no longer exist": managed("", "", "", `{"f:spec":{"f:observer":{"f:url":{}}}}`).FieldsV1,
	} {
		t.Run(name, func(t *testing.T) {
			dp.ManagedFields[0].FieldsV1 = fields
			extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
			require.NoError(t, err)
			assert.Equal(t, nothing, extracted)
		})
	}
}

func managed(manager, subresource string, operation metav1.ManagedFieldsOperationType, fields string) metav1.ManagedFieldsEntry {
	entry := metav1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, Subresource: subresource,
		APIVersion: "openchoreo.dev/v1alpha1", FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{},
	}
	if err := entry.FieldsV1.UnmarshalJSON([]byte(fields)); err != nil {
		panic(err)
	}
	return entry
}

func ptr[T any](v T) *T { return &v }

// controller-runtime and apimachinery 0.34 need these methods, which generators write only from
// 0.34 on.
func TestApplyConfigurationHasTheMethodsOfLaterGenerators(t *testing.T) {
	var _ interface{ IsApplyConfiguration() } = openchoreoapply.DataPlane("", "")
	prod := openchoreoapply.DataPlane("prod", "default")
	assert.Equal(t, "prod", *prod.GetName())
	assert.Equal(t, "default", *prod.GetNamespace())
	assert.Equal(t, "DataPlane", *prod.GetKind())
	assert.Equal(t, "openchoreo.dev/v1alpha1", *prod.GetAPIVersion())
	assert.Nil(t, (&openchoreoapply.DataPlaneApplyConfiguration{}).GetNamespace())

	var _ interface{ IsApplyConfiguration() } = openchoreoapply.ClusterDataPlane("")
	cluster := openchoreoapply.ClusterDataPlane("default")
	assert.Equal(t, "default", *cluster.GetName())
	assert.Nil(t, cluster.GetNamespace())
	assert.Equal(t, "ClusterDataPlane", *cluster.GetKind())
	assert.Equal(t, "openchoreo.dev/v1alpha1", *cluster.GetAPIVersion())
}

func TestLoggersShowNoSecretOfAnApplyConfiguration(t *testing.T) {
	prod := openchoreoapply.DataPlane("prod", "default").WithSpec(openchoreoapply.DataPlaneSpec().
		WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().
			WithCredentials(openchoreoapply.APIServerCredentials().WithClientKey("hunter2"))))
	for name, value := range map[string]any{
		"pointer": prod, "value": *prod, "group": slog.GroupValue(slog.Any("x", prod)), "empty": &openchoreoapply.DataPlaneApplyConfiguration{},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			slog.New(slog.NewJSONHandler(&out, nil)).Info("applying", "value", value)
			slog.New(slog.NewTextHandler(&out, nil)).Info("applying", "value", value)
			if name != "empty" {
				assert.Contains(t, out.String(), "prod")
			}
			assert.NotContains(t, out.String(), "hunter2")
			assert.NotContains(t, out.String(), "panic")
		})
	}
	logged, err := json.Marshal(prod.MarshalLog())
	require.NoError(t, err)
	assert.JSONEq(t, `{"namespace":"default","name":"prod"}`, string(logged))
}
