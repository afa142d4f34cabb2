// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fieldset"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

const readyStatus = `.status.conditions[type="Ready"].status`

func TestFieldsWithConditionsMergedByType(t *testing.T) {
	testFields(t, shared, readyStatus)
}

// testFields runs with both kinds of condition list. conflict is the field that the API server names
// when managers apply different statuses of Ready.
func testFields(t *testing.T, p *plane, conflict string) {
	t.Run("changed fields are the fields that writers changed", func(t *testing.T) { testChangedFields(t, p.space(t)) })
	t.Run("field managers are the managers that the API server names", func(t *testing.T) {
		testFieldManagers(t, p.space(t), conflict)
	})
}

// writeAsSeveral creates a DataPlane that several managers have written.
func writeAsSeveral(t *testing.T, s *space) *openchoreov1alpha1.DataPlane {
	t.Helper()
	_, err := s.typed.Apply(t.Context(), behaviours.ApplySpec(s.namespace, "prod").WithLabels(map[string]string{"tier": "silver"}), behaviours.ApplyAs("operator"))
	require.NoError(t, err)
	_, err = s.typed.ApplyStatus(t.Context(),
		behaviours.ApplyConditions(s.namespace, "prod", behaviours.ApplyCondition("Ready", metav1.ConditionFalse)), behaviours.ApplyAs("controller"))
	require.NoError(t, err)
	dp := s.get(t, "prod")
	dp.Spec.Gateway.PublicVirtualHost = "www.example.com"
	_, err = s.typed.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "editor"})
	require.NoError(t, err)
	return s.get(t, "prod")
}

func testChangedFields(t *testing.T, s *space) {
	before := writeAsSeveral(t, s)

	_, err := s.typed.Apply(t.Context(), openchoreoapply.DataPlane("prod", s.namespace).
		WithLabels(map[string]string{"example.com/region": "eu"}).
		WithSpec(openchoreoapply.DataPlaneSpec().
			WithRegistry(openchoreoapply.Registry().WithSecretRef("registry-credentials")).
			WithObserver(openchoreoapply.ObserverAPI().WithURL("https://observer.example.com").
				WithAuthentication(openchoreoapply.ObserverAuthentication().
					WithBasicAuth(openchoreoapply.BasicAuthCredentials().WithUsername("hunter").WithPassword("hunter2"))))),
		behaviours.ApplyAs("other"))
	require.NoError(t, err)
	dp := s.get(t, "prod")
	delete(dp.Labels, "tier")
	dp.Spec.KubernetesCluster.Credentials.ClientCert = "aHVudGVyMQ=="
	dp.Spec.KubernetesCluster.Credentials.ClientKey = "aHVudGVyMg=="
	_, err = s.typed.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "rotation"})
	require.NoError(t, err)
	s.setCondition(t, "prod", "Ready", metav1.ConditionTrue)
	s.setCondition(t, "prod", "Connected", metav1.ConditionTrue)
	after := s.get(t, "prod")

	changes, err := fieldset.Changed(before, after)
	require.NoError(t, err)
	connected := func(field string) string { return `.status.conditions[type="Connected"]` + field }
	assert.Equal(t, fieldset.Changes{
		Added: []string{
			".metadata.labels.example.com/region",
			".spec.observer.authentication.basicAuth.password",
			".spec.observer.authentication.basicAuth.username",
			".spec.observer.url",
			".spec.registry.secretRef",
			connected(".lastTransitionTime"),
			connected(".message"),
			connected(".observedGeneration"),
			connected(".reason"),
			connected(".status"),
			connected(".type"),
			`.status.conditions[type="Ready"].observedGeneration`,
		},
		Modified: []string{
			".metadata.generation",
			".spec.kubernetesCluster.credentials.clientCert",
			".spec.kubernetesCluster.credentials.clientKey",
			`.status.conditions[type="Ready"].lastTransitionTime`,
			`.status.conditions[type="Ready"].message`,
			readyStatus,
		},
		Removed: []string{".metadata.labels.tier"},
	}, changes)
	for _, value := range []string{"hunter", "aHVudGVy", "a2V5", "registry-credentials", "Tested", "silver", "eu]"} {
		assert.NotContains(t, fmt.Sprintf("%+v", changes), value)
	}
	same, err := fieldset.Changed(after, s.get(t, "prod"))
	require.NoError(t, err)
	assert.True(t, same.Empty(), "%+v", same)
}

func testFieldManagers(t *testing.T, s *space, conflict string) {
	dp := writeAsSeveral(t, s)
	for path, want := range map[string][]string{
		".metadata.labels.tier":           {"operator"},
		".spec.registry.prefix":           {"operator"},
		".spec.registry.secretRef":        nil,
		".spec.gateway.publicVirtualHost": {"editor"},
		".spec.gateway":                   {"editor", "operator"},
		readyStatus:                       {"controller"},
		".status":                         {"controller"},
	} {
		got, err := fieldset.Managers(dp, path)
		require.NoError(t, err)
		assert.Equal(t, want, got, path)
	}

	// Conflicts with all three at once; one of them wrote by the subresource.
	contested := behaviours.ApplyPrefix(s.namespace, "prod", "docker.io/other").WithLabels(map[string]string{"tier": "gold"})
	contested.Spec.WithGateway(openchoreoapply.GatewaySpec().WithPublicVirtualHost("other.example.com"))
	_, err := s.typed.Apply(t.Context(), contested, behaviours.ApplyAs("rival"))
	requireExplained(t, dp, err, map[string]string{
		".metadata.labels.tier":           "operator",
		".spec.registry.prefix":           "operator",
		".spec.gateway.publicVirtualHost": "editor",
	})
	_, err = s.typed.ApplyStatus(t.Context(),
		behaviours.ApplyConditions(s.namespace, "prod", behaviours.ApplyCondition("Ready", metav1.ConditionTrue)), behaviours.ApplyAs("rival"))
	requireExplained(t, dp, err, map[string]string{conflict: "controller"})

	// A second manager with the same value is an owner too.
	_, err = s.typed.Apply(t.Context(), behaviours.ApplyPrefix(s.namespace, "prod", "docker.io/myorg"), behaviours.ApplyAs("second"))
	require.NoError(t, err)
	managers, err := fieldset.Managers(s.get(t, "prod"), ".spec.registry.prefix")
	require.NoError(t, err)
	assert.Equal(t, []string{"operator", "second"}, managers)
}

// requireExplained requires that err is a conflict of these fields, and that Managers returns for each
// the manager that the API server names.
func requireExplained(t *testing.T, dp *openchoreov1alpha1.DataPlane, err error, want map[string]string) {
	t.Helper()
	require.True(t, apierrors.IsConflict(err), "%v", err)
	var status apierrors.APIStatus
	require.ErrorAs(t, err, &status)
	explained := map[string]string{}
	for _, cause := range status.Status().Details.Causes {
		require.Equal(t, metav1.CauseTypeFieldManagerConflict, cause.Type)
		managers, err := fieldset.Managers(dp, cause.Field)
		require.NoError(t, err)
		require.Len(t, managers, 1, cause.Field)
		require.Contains(t, cause.Message, fmt.Sprintf("conflict with %q", managers[0]))
		explained[cause.Field] = managers[0]
	}
	require.Equal(t, want, explained)
}

// Keys of labels have dots, which don't separate elements of a path.
func TestFieldManagersOfLabels(t *testing.T) {
	s := shared.space(t)
	_, err := s.typed.Apply(t.Context(), behaviours.ApplySpec(s.namespace, "prod").WithLabels(map[string]string{"app": "x"}), behaviours.ApplyAs("one"))
	require.NoError(t, err)
	labels := openchoreoapply.DataPlane("prod", s.namespace).WithLabels(map[string]string{"app.kubernetes.io/name": "x"})
	_, err = s.typed.Apply(t.Context(), labels, behaviours.ApplyAs("two"))
	require.NoError(t, err)
	labels.WithLabels(map[string]string{"app.kubernetes.io/name": "y"})
	_, err = s.typed.Apply(t.Context(), labels, behaviours.ApplyAs("three"))
	dp := s.get(t, "prod")
	requireExplained(t, dp, err, map[string]string{".metadata.labels.app.kubernetes.io/name": "two"})
	for path, want := range map[string][]string{".metadata.labels.app": {"one"}, ".metadata.labels": {"one", "two"}} {
		managers, err := fieldset.Managers(dp, path)
		require.NoError(t, err)
		assert.Equal(t, want, managers, path)
	}
}
