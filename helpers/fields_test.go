// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func TestChangedFields(t *testing.T) {
	before := newDataPlane(t)
	before.Labels = map[string]string{"gone": "x", "stays": "x"}
	before.Status.Conditions = []metav1.Condition{
		condition(ready, metav1.ConditionTrue, 1), condition(connected, metav1.ConditionTrue, 1),
	}
	before.ResourceVersion = "1"
	after := before.DeepCopy()
	after.ResourceVersion, after.ManagedFields = "2", []metav1.ManagedFieldsEntry{{Manager: "x"}}
	changes, err := ChangedFields(before, after)
	require.NoError(t, err)
	assert.True(t, changes.Empty(), "%+v", changes)

	after.Labels = map[string]string{"new": "x", "stays": "x"}
	after.Spec.KubernetesCluster.Credentials.ClientKey = "hunter2"
	after.Spec.Registry.SecretRef = "registry-credentials"
	after.Spec.Observer = &v1alpha1.ObserverAPI{}
	after.Spec.Observer.Authentication.BasicAuth.Password = "hunter2"
	after.Status.Conditions = []metav1.Condition{ // another order is no change
		condition(connected, metav1.ConditionTrue, 1), condition(ready, metav1.ConditionFalse, 1),
	}
	changes, err = ChangedFields(before, after)
	require.NoError(t, err)
	assert.Equal(t, Changes{
		Added: []string{
			".metadata.labels.new",
			".spec.observer.authentication.basicAuth.password",
			".spec.observer.authentication.basicAuth.username",
			".spec.observer.url",
			".spec.registry.secretRef",
		},
		Modified: []string{
			".spec.kubernetesCluster.credentials.clientKey",
			`.status.conditions[type="Ready"].status`,
		},
		Removed: []string{".metadata.labels.gone"},
	}, changes)
	assert.NotContains(t, fmt.Sprintf("%+v", changes), "hunter2")

	changes, err = ChangedFields(after, before)
	require.NoError(t, err)
	assert.Contains(t, changes.Removed, ".spec.registry.secretRef")

	changes, err = ChangedFields(nil, before)
	require.NoError(t, err)
	assert.Contains(t, changes.Added, ".spec.kubernetesCluster.name")
	assert.Empty(t, changes.Removed)
	changes, err = ChangedFields(nil, nil)
	require.NoError(t, err)
	assert.True(t, changes.Empty())
}

func TestChangedFieldsWithDuplicates(t *testing.T) {
	before := newDataPlane(t)
	before.Status.Conditions = []metav1.Condition{condition(ready, metav1.ConditionTrue, 1), condition(ready, metav1.ConditionFalse, 1)}
	after := before.DeepCopy()
	after.Spec.Registry.Prefix = "docker.io/other"
	changes, err := ChangedFields(before, after)
	require.NoError(t, err)
	assert.Equal(t, []string{".spec.registry.prefix"}, changes.Modified)
}

func TestFieldManagers(t *testing.T) {
	dp := newDataPlane(t)
	managed := func(manager, fields string) metav1.ManagedFieldsEntry {
		entry := metav1.ManagedFieldsEntry{Manager: manager, FieldsV1: &metav1.FieldsV1{}}
		require.NoError(t, entry.FieldsV1.UnmarshalJSON([]byte(fields)))
		return entry
	}
	dp.ManagedFields = []metav1.ManagedFieldsEntry{
		managed("operator", `{"f:spec":{"f:registry":{".":{},"f:prefix":{}},"f:gateway":{"f:publicVirtualHost":{}}}}`),
		managed("other", `{"f:spec":{"f:registry":{"f:secretRef":{}}}}`),
		managed("controller", `{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{},"f:type":{}}}}}`),
		managed("atomic", `{"f:status":{"f:conditions":{}}}`),
		{Manager: "nothing"},
	}
	for path, want := range map[string][]string{
		".spec.registry.prefix": {"operator"},
		".spec.registry":        {"operator", "other"},
		".spec":                 {"operator", "other"},
		".spec.registry.pre":    nil,
		".spec.observer":        nil,
		`.status.conditions[type="Ready"].status`:     {"atomic", "controller"},
		`.status.conditions[type="Connected"].status`: {"atomic"},
	} {
		got, err := FieldManagers(dp, path)
		require.NoError(t, err)
		assert.Equal(t, want, got, path)
	}
	for _, path := range []string{"", ".", "spec.registry"} {
		_, err := FieldManagers(dp, path)
		require.ErrorContains(t, err, "field path")
	}
	_, err := FieldManagers(nil, ".spec")
	require.Error(t, err)
}
