// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

type edits []func(*v1alpha1.DataPlane)

func TestEditsMakeTheStatesOfOpenChoreoV1(t *testing.T) {
	for name, test := range map[string]struct {
		edits edits
		want  metav1.ConditionStatus
		code  helpers.Code
	}{
		"an agent":                           {want: metav1.ConditionTrue, code: helpers.CodeCurrent},
		"an agent that is away":              {edits{dataplanetest.AgentAway}, metav1.ConditionFalse, helpers.CodeCurrent},
		"an agent that is back":              {edits{dataplanetest.AgentAway, dataplanetest.HeartbeatAgo(0)}, metav1.ConditionTrue, helpers.CodeCurrent},
		"a recent heartbeat":                 {edits{dataplanetest.HeartbeatAgo(time.Minute)}, metav1.ConditionTrue, helpers.CodeCurrent},
		"an old heartbeat":                   {edits{dataplanetest.HeartbeatAgo(time.Hour)}, metav1.ConditionUnknown, helpers.CodeStale},
		"away, after an old heartbeat":       {edits{dataplanetest.HeartbeatAgo(time.Hour), dataplanetest.AgentAway}, metav1.ConditionFalse, helpers.CodeCurrent},
		"a reported Ready":                   {edits{dataplanetest.AgentAway, dataplanetest.Ready}, metav1.ConditionTrue, helpers.CodeCurrent},
		"a reported Ready that is stale":     {edits{dataplanetest.Ready, dataplanetest.Stale}, metav1.ConditionUnknown, helpers.CodeStale},
		"a deletion that waits":              {edits{dataplanetest.Deleted}, metav1.ConditionFalse, helpers.CodeTerminating},
		"the shape of v1, for a second time": {edits{dataplanetest.AgentAway, dataplanetest.V1}, metav1.ConditionTrue, helpers.CodeCurrent},
	} {
		for kind, dp := range map[string]*v1alpha1.DataPlane{
			"a DataPlane":        dataplanetest.DataPlane("default", "prod", append(edits{dataplanetest.V1}, test.edits...)...),
			"a ClusterDataPlane": dataplanetest.ClusterDataPlane("prod", test.edits...).AsDataPlane(),
		} {
			t.Run(kind+" with "+name, func(t *testing.T) {
				warnings, errs := helpers.Validate(dp)
				assert.Empty(t, warnings)
				assert.Empty(t, errs)
				ready := helpers.Evaluate(dp, helpers.Stock(), helpers.HeartbeatWithin(5*time.Minute, nil)).Ready
				assert.Equal(t, test.want, ready.Status)
				assert.Equal(t, test.code, ready.Code)
			})
		}
	}
}

func TestAgentAwayKeepsTheTimesOfTheAgent(t *testing.T) {
	agent := dataplanetest.DataPlane("default", "prod", dataplanetest.V1, dataplanetest.HeartbeatAgo(time.Hour), dataplanetest.AgentAway).Status.AgentConnection
	require.NotNil(t, agent.LastDisconnectedTime)
	assert.True(t, agent.LastHeartbeatTime.Before(agent.LastDisconnectedTime))
	assert.Equal(t, agent.LastHeartbeatTime, agent.LastConnectedTime)
	agent.LastConnectedTime, agent.LastDisconnectedTime, agent.LastHeartbeatTime = nil, nil, nil
	assert.Equal(t, &v1alpha1.AgentConnectionStatus{Message: "No agents connected"}, agent)

	unseen := func(dp *v1alpha1.DataPlane) { dp.Status.AgentConnection = nil }
	never := dataplanetest.ClusterDataPlane("prod", unseen, dataplanetest.AgentAway)
	assert.Equal(t, agent, never.Status.AgentConnection, "no agent has ever connected")
}

// As OpenChoreo, which sets the time only when an agent connects.
func TestHeartbeatsOfAConnectedAgentKeepTheTimeOfItsConnection(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.V1, dataplanetest.HeartbeatAgo(time.Hour), dataplanetest.HeartbeatAgo(0))
	options := []helpers.EvaluateOption{helpers.Stock(), helpers.HeartbeatWithin(5*time.Minute, nil), helpers.StableFor(5*time.Minute, nil)}
	assert.True(t, helpers.IsReady(dp, options...))
	dataplanetest.AgentAway(dp)
	dataplanetest.HeartbeatAgo(0)(dp)
	assert.Equal(t, helpers.CodeUnsettled, helpers.Evaluate(dp, options...).Ready.Code)
}

func TestStoredTimesOfAnAgentAreEqual(t *testing.T) {
	cdp := dataplanetest.ClusterDataPlane("prod", dataplanetest.HeartbeatAgo(1500*time.Millisecond), dataplanetest.AgentAway)
	stored, err := dataplanetest.NewClientset(cdp).OpenChoreoV1alpha1().ClusterDataPlanes().Get(t.Context(), "prod", metav1.GetOptions{})
	require.NoError(t, err)
	assert.True(t, equality.Semantic.DeepEqual(cdp.Status, stored.Status), "%v, stored %v", cdp.Status, stored.Status)
}

func TestEditsOfAClusterDataPlaneChangeAllItsFields(t *testing.T) {
	cdp := dataplanetest.ClusterDataPlane("prod", func(dp *v1alpha1.DataPlane) {
		dp.Labels = map[string]string{"region": "eu"}
		dp.Spec.PlaneID = "shared"
		dp.Spec.ClusterAgent.ClientCA = v1alpha1.ValueFrom{Value: "another"}
		dp.Spec.Gateway.Ingress, dp.Spec.Gateway.Egress = &v1alpha1.GatewayNetworkSpec{}, &v1alpha1.GatewayNetworkSpec{}
		dp.Spec.SecretStoreRef = &v1alpha1.SecretStoreRef{Name: "store"}
		dp.Spec.ObservabilityPlaneRef = &v1alpha1.ObservabilityPlaneRef{Name: "observability"}
		dp.Status = v1alpha1.DataPlaneStatus{ObservedGeneration: 7}
	})
	assert.Equal(t, map[string]string{"region": "eu"}, cdp.Labels)
	assert.Equal(t, v1alpha1.ClusterDataPlaneSpec{
		PlaneID:               "shared",
		ClusterAgent:          v1alpha1.ClusterAgentConfig{ClientCA: v1alpha1.ValueFrom{Value: "another"}},
		Gateway:               &v1alpha1.ClusterDataPlaneGateway{Ingress: &v1alpha1.GatewayNetworkSpec{}, Egress: &v1alpha1.GatewayNetworkSpec{}},
		SecretStoreRef:        &v1alpha1.SecretStoreRef{Name: "store"},
		ObservabilityPlaneRef: &v1alpha1.ObservabilityPlaneRef{Name: "observability"},
	}, cdp.Spec)
	assert.Equal(t, v1alpha1.DataPlaneStatus{ObservedGeneration: 7}, cdp.Status)

	plain := dataplanetest.ClusterDataPlane("prod").Spec
	assert.Equal(t, "prod", plain.PlaneID)
	assert.Nil(t, plain.Gateway)
}

func TestClusterDataPlaneIsDeletedWithItsOwnFinalizer(t *testing.T) {
	assert.Equal(t, []string{"openchoreo.dev/clusterdataplane-cleanup"}, dataplanetest.ClusterDataPlane("prod", dataplanetest.Deleted).Finalizers)
	assert.Equal(t, []string{"openchoreo.dev/dataplane-cleanup"}, dataplanetest.DataPlane("default", "prod", dataplanetest.Deleted).Finalizers)
}

func TestClusterDataPlaneRefusesEditsThatItCannotHold(t *testing.T) {
	for name, edit := range map[string]func(*v1alpha1.DataPlane){
		"credentials":     newServer(t, nil).As("alice"),
		"a namespace":     func(dp *v1alpha1.DataPlane) { dp.Namespace = "default" },
		"no clusterAgent": func(dp *v1alpha1.DataPlane) { dp.Spec.ClusterAgent = nil },
	} {
		t.Run(name, func(t *testing.T) {
			assert.PanicsWithValue(t, "an edit of ClusterDataPlane prod changes a field that only DataPlanes have, or removes the clusterAgent",
				func() { dataplanetest.ClusterDataPlane("prod", edit) })
		})
	}
}
