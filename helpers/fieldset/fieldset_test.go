// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fieldset_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fieldset"
)

func condition(conditionType string, status metav1.ConditionStatus) metav1.Condition {
	return metav1.Condition{Type: conditionType, Status: status, Reason: "Tested"}
}

func TestChanged(t *testing.T) {
	before := &v1alpha1.DataPlane{}
	before.Labels = map[string]string{"gone": "x", "stays": "x"}
	before.Status.Conditions = []metav1.Condition{condition("Ready", metav1.ConditionTrue), condition("Connected", metav1.ConditionTrue)}
	before.ResourceVersion = "1"
	after := before.DeepCopy()
	after.ResourceVersion, after.ManagedFields, after.Kind = "2", []metav1.ManagedFieldsEntry{{Manager: "x"}}, "DataPlane"
	changes, err := fieldset.Changed(before, after)
	require.NoError(t, err)
	assert.True(t, changes.Empty(), "%+v", changes)

	after.Labels = map[string]string{"new": "x", "stays": "x"}
	after.Spec.KubernetesCluster.Credentials.ClientKey = "hunter2"
	after.Spec.Registry.SecretRef = "registry-credentials"
	after.Spec.Observer = &v1alpha1.ObserverAPI{}
	after.Spec.Observer.Authentication.BasicAuth.Password = "hunter2"
	after.Status.Conditions = []metav1.Condition{ // order doesn't matter
		condition("Connected", metav1.ConditionTrue), condition("Ready", metav1.ConditionFalse),
	}
	unchanged := after.DeepCopy()
	changes, err = fieldset.Changed(before, after)
	require.NoError(t, err)
	assert.Equal(t, unchanged, after)
	assert.False(t, changes.Empty())
	assert.Equal(t, fieldset.Changes{
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

	changes, err = fieldset.Changed(after, before)
	require.NoError(t, err)
	assert.Contains(t, changes.Removed, ".spec.registry.secretRef")
}

// Compare ClusterDataPlanes with AsDataPlane.
func TestChangedKnowsTheFieldsOfV1(t *testing.T) {
	before := &v1alpha1.ClusterDataPlane{}
	before.Spec.PlaneID = "prod"
	before.Spec.ClusterAgent.ClientCA.Value = "PEM"
	before.Status.AgentConnection = &v1alpha1.AgentConnectionStatus{Connected: true, ConnectedAgents: 1}
	after := before.DeepCopy()
	after.Spec.PlaneID = "other"
	after.Spec.ClusterAgent.ClientCA = v1alpha1.ValueFrom{SecretKeyRef: &v1alpha1.SecretKeyReference{Name: "ca", Key: "ca.crt"}}
	after.Spec.Gateway = &v1alpha1.ClusterDataPlaneGateway{Ingress: &v1alpha1.GatewayNetworkSpec{
		External: &v1alpha1.GatewayEndpointSpec{Name: "gateway", HTTPS: &v1alpha1.GatewayListenerSpec{Port: 443}},
	}}
	after.Spec.SecretStoreRef = &v1alpha1.SecretStoreRef{Name: "default"}
	after.Spec.ObservabilityPlaneRef = &v1alpha1.ObservabilityPlaneRef{Name: "default"} // as v0.14 stores it
	after.Status.AgentConnection.Connected = false
	changes, err := fieldset.Changed(before.AsDataPlane(), after.AsDataPlane())
	require.NoError(t, err)
	const ingress = ".spec.gateway.ingress.external"
	assert.Equal(t, fieldset.Changes{
		Added: []string{
			".spec.clusterAgent.clientCA.secretKeyRef.key", ".spec.clusterAgent.clientCA.secretKeyRef.name",
			ingress + ".https.host", ingress + ".https.port", ingress + ".name", ingress + ".namespace",
			".spec.observabilityPlaneRef.kind", ".spec.observabilityPlaneRef.name", ".spec.secretStoreRef.name",
		},
		Modified: []string{".spec.planeID", ".status.agentConnection.connected"},
		Removed:  []string{".spec.clusterAgent.clientCA.value"},
	}, changes)
}

func TestChangedTakesNilForNoFields(t *testing.T) {
	changes, err := fieldset.Changed(nil, &v1alpha1.DataPlane{})
	require.NoError(t, err)
	assert.Contains(t, changes.Added, ".spec.kubernetesCluster.name")
	assert.Empty(t, changes.Removed)
	changes, err = fieldset.Changed(nil, nil)
	require.NoError(t, err)
	assert.True(t, changes.Empty())
}

func TestChangedReadsConditionsWithDuplicates(t *testing.T) {
	before := &v1alpha1.DataPlane{}
	before.Status.Conditions = []metav1.Condition{condition("Ready", metav1.ConditionTrue), condition("Ready", metav1.ConditionFalse)}
	after := before.DeepCopy()
	after.Spec.Registry.Prefix = "docker.io/other"
	changes, err := fieldset.Changed(before, after)
	require.NoError(t, err)
	assert.Equal(t, []string{".spec.registry.prefix"}, changes.Modified)
}

func TestManagers(t *testing.T) {
	dp := &v1alpha1.DataPlane{}
	for manager, fields := range map[string]string{
		"operator":   `{"f:spec":{"f:registry":{".":{},"f:prefix":{}},"f:gateway":{"f:publicVirtualHost":{}}}}`,
		"other":      `{"f:spec":{"f:registry":{"f:secretRef":{}}}}`,
		"controller": `{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{},"f:type":{}}}}}`,
		"labels":     `{"f:metadata":{"f:labels":{"f:app":{},"f:app.kubernetes.io/name":{}}}}`,
		"list":       `{"f:status":{"f:conditions":{}}}`,
		"items":      `{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{}}}}`,
		"indices":    `{"f:status":{"f:conditions":{"i:0":{}}}}`,
	} {
		entry := metav1.ManagedFieldsEntry{Manager: manager, FieldsV1: &metav1.FieldsV1{}}
		require.NoError(t, entry.FieldsV1.UnmarshalJSON([]byte(fields)))
		dp.ManagedFields = append(dp.ManagedFields, entry, entry, metav1.ManagedFieldsEntry{Manager: "nothing"})
	}
	for path, want := range map[string][]string{
		".spec.registry.prefix":                       {"operator"},
		".spec.registry":                              {"operator", "other"},
		".spec":                                       {"operator", "other"},
		".spec.registry.pre":                          nil,
		".spec.registry.prefix.more":                  nil,
		".spec.observer":                              nil,
		".metadata.labels.app":                        {"labels"},
		".metadata.labels.app.other":                  nil, // another label
		".status.conditions":                          {"controller", "indices", "items", "list"},
		`.status.conditions[type="Ready"]`:            {"controller", "items", "list"},
		`.status.conditions[type="Ready"].status`:     {"controller", "items", "list"},
		`.status.conditions[type="Ready"].message`:    {"items", "list"},
		`.status.conditions[type="Connected"].status`: {"list"},
		".status.conditions[0]":                       {"indices", "list"},
		".status.conditions[0].type":                  {"indices", "list"},
		".status.conditions[1].type":                  {"list"},
		`.status.conditions[type="a \"]["]`:           {"list"},
		`.metadata.finalizers[="example.com/hold"]`:   nil,
	} {
		got, err := fieldset.Managers(dp, path)
		require.NoError(t, err)
		assert.Equal(t, want, got, path)
	}
}

func TestManagersRefuses(t *testing.T) {
	for _, path := range []string{
		"", ".", "spec.registry", ".spec[", ".spec]", ".spec[]", "[0]", `.status.conditions[type="Ready]`, ".status.conditions[0]type",
	} {
		_, err := fieldset.Managers(&v1alpha1.DataPlane{}, path)
		require.ErrorContains(t, err, "field path")
	}
	_, err := fieldset.Managers(nil, ".spec")
	require.Error(t, err)
	broken := metav1.ManagedFieldsEntry{Manager: "broken", FieldsV1: &metav1.FieldsV1{}}
	require.NoError(t, broken.FieldsV1.UnmarshalJSON([]byte(`{"x":1}`)))
	dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{broken}}}
	_, err = fieldset.Managers(dp, ".spec")
	require.ErrorContains(t, err, `managed fields of "broken"`)
}
