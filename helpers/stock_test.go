// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// agent returns an agent's connection as OpenChoreo v1 reports it, with a heartbeat at longAgo.
func agent(isConnected bool) *v1alpha1.AgentConnectionStatus {
	connectedAt, disconnectedAt, heartbeat := metav1.NewTime(longAgo.Add(-time.Hour)), metav1.NewTime(longAgo.Add(-time.Minute)), longAgo
	return &v1alpha1.AgentConnectionStatus{
		Connected: isConnected, LastConnectedTime: &connectedAt, LastDisconnectedTime: &disconnectedAt,
		LastHeartbeatTime: &heartbeat, Message: "as the gateway says",
	}
}

// stockV03 returns a DataPlane with the status that OpenChoreo v0.3 writes.
func stockV03() *v1alpha1.DataPlane { return withConditions(2, condition(created, yes, 2)) }

// stockV1 returns a DataPlane with the status that OpenChoreo v1 writes while an agent is connected.
func stockV1() *v1alpha1.DataPlane {
	dp := withConditions(2, condition(created, yes, 1))
	dp.Status.ObservedGeneration, dp.Status.AgentConnection = 2, agent(true)
	return dp
}

// OpenChoreo leaves status.observedGeneration of a ClusterDataPlane at the first, so the observed
// generations of other controllers' conditions count alone there.
func TestConditionsOfAClusterDataPlaneCompareTheirOwnGeneration(t *testing.T) {
	for name, test := range map[string]struct {
		namespace string
		observed  int64
		want      metav1.ConditionStatus
		code      helpers.Code
	}{
		"current":                  {observed: 2, want: yes, code: helpers.CodeCurrent},
		"stale":                    {observed: 1, want: unknown, code: helpers.CodeStale},
		"no generation":            {want: unknown, code: helpers.CodeStale},
		"current, but a DataPlane": {namespace: "default", observed: 2, want: unknown, code: helpers.CodeStale},
	} {
		t.Run(name, func(t *testing.T) {
			dp := withConditions(2, condition(ready, yes, test.observed))
			dp.Namespace, dp.Status.ObservedGeneration = test.namespace, 1
			verdict := helpers.EvaluateCondition(dp, ready)
			assert.Equal(t, test.want, verdict.Status)
			assert.Equal(t, test.code, verdict.Code)
		})
	}
}

// OpenChoreo never updates either generation of a ClusterDataPlane.
func TestStockComparesNoGenerationOfCreatedInAClusterDataPlane(t *testing.T) {
	dp := withConditions(2, condition(created, yes, 1))
	dp.Namespace, dp.Status.ObservedGeneration = "", 1
	verdict := helpers.EvaluateCondition(dp, created, helpers.Stock())
	assert.Equal(t, yes, verdict.Status)
	assert.Equal(t, helpers.CodeUnverified, verdict.Code)
	assert.Equal(t, helpers.CodeStale, helpers.EvaluateCondition(dp, created).Code, "without Stock")
}

// Statuses that releases of OpenChoreo write, for both kinds. The spec of each object changed once,
// so it is at generation 2.
func TestStock(t *testing.T) {
	type conditions = []metav1.Condition
	for name, test := range map[string]struct {
		v1         bool // has a clusterAgent
		conditions conditions
		observed   int64
		agent      *v1alpha1.AgentConnectionStatus
		deleted    bool
		opts       []helpers.EvaluateOption
		want       metav1.ConditionStatus
		code       helpers.Code
		from       string
	}{
		"v0.3": {
			conditions: conditions{condition(created, yes, 2)}, want: yes, code: helpers.CodeCurrent, from: created,
		},
		"v0.3, not accepted": {
			conditions: conditions{condition(created, no, 2)}, want: no, code: helpers.CodeCurrent, from: created,
		},
		"v0.3, OpenChoreo has not seen the change": {
			conditions: conditions{condition(created, yes, 1)}, want: unknown, code: helpers.CodeStale, from: created,
		},
		"v0.3, nothing written": {want: unknown, code: helpers.CodeNotReported, from: created},
		"v0.3, another controller updates the generation of the status": {
			conditions: conditions{condition(created, yes, 1)}, observed: 2, want: yes, code: helpers.CodeCurrent, from: created,
		},
		"v0.3, another controller has not updated the generation of the status": {
			conditions: conditions{condition(created, yes, 1)}, observed: 1, want: unknown, code: helpers.CodeStale, from: created,
		},
		"v1, nothing written": {v1: true, want: unknown, code: helpers.CodeNotReported, from: connected},
		"v1, OpenChoreo has not looked for an agent": {
			v1: true, conditions: conditions{condition(created, yes, 2)}, observed: 2, want: unknown, code: helpers.CodeNotReported, from: connected,
		},
		"v1 DataPlane, connected": {
			v1: true, conditions: conditions{condition(created, yes, 1)}, observed: 2, agent: agent(true), want: yes, code: helpers.CodeCurrent, from: connected,
		},
		"v1 DataPlane, disconnected": {
			v1: true, conditions: conditions{condition(created, yes, 1)}, observed: 2, agent: agent(false), want: no, code: helpers.CodeCurrent, from: connected,
		},
		"v1 ClusterDataPlane, both generations at the first": {
			v1: true, conditions: conditions{condition(created, yes, 1)}, observed: 1, agent: agent(true), want: yes, code: helpers.CodeCurrent, from: connected,
		},
		"v1 ClusterDataPlane, disconnected": {
			v1: true, conditions: conditions{condition(created, yes, 1)}, observed: 1, agent: agent(false), want: no, code: helpers.CodeCurrent, from: connected,
		},
		"v1, being deleted": {
			v1: true, conditions: conditions{condition(created, yes, 1), condition("Finalizing", yes, 2)}, observed: 2, agent: agent(true), deleted: true,
			want: no, code: helpers.CodeTerminating,
		},
		"v1, the heartbeat is too old": {
			v1: true, agent: agent(true), opts: []helpers.EvaluateOption{heartbeatWithin(time.Minute, time.Hour)},
			want: unknown, code: helpers.CodeStale, from: connected,
		},
		"another controller reports Ready": {
			v1: true, conditions: conditions{condition(ready, no, 2), condition(created, yes, 2)}, agent: agent(true), want: no, code: helpers.CodeCurrent,
		},
		"another controller reports a stale Ready": {
			v1: true, conditions: conditions{condition(ready, yes, 1)}, agent: agent(true), want: unknown, code: helpers.CodeStale,
		},
		"another controller reports Connected on v0.3": {
			conditions: conditions{condition(connected, no, 2), condition(created, yes, 2)}, want: no, code: helpers.CodeCurrent, from: connected,
		},
		"another controller reports Connected on v1": {
			v1: true, conditions: conditions{condition(connected, no, 2)}, agent: agent(true), want: no, code: helpers.CodeCurrent, from: connected,
		},
		"ReadyFrom after Stock": {
			v1: true, conditions: conditions{condition(gateway, no, 2)}, agent: agent(true), opts: []helpers.EvaluateOption{helpers.ReadyFrom(gateway)},
			want: no, code: helpers.CodeCurrent, from: gateway,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := withConditions(2, test.conditions...)
			dp.Status.ObservedGeneration, dp.Status.AgentConnection = test.observed, test.agent
			if test.v1 {
				dp.Spec.ClusterAgent = &v1alpha1.ClusterAgentConfig{}
			}
			if test.deleted {
				dp.DeletionTimestamp = &longAgo
			}
			before := dp.DeepCopy()
			opts := append([]helpers.EvaluateOption{helpers.ReadyFrom("Nothing"), helpers.Stock()}, test.opts...)
			verdict := helpers.EvaluateCondition(dp, ready, opts...)
			assert.Equal(t, ready, verdict.Type)
			assert.Equal(t, test.want, verdict.Status)
			assert.Equal(t, test.code, verdict.Code)
			assert.Equal(t, test.from, verdict.From)
			assert.Equal(t, test.want == yes, helpers.IsReady(dp, opts...))

			report := helpers.Evaluate(dp, opts...)
			assert.Equal(t, verdict, report.Ready)
			for _, conditionType := range []string{connected, created} {
				assert.Equal(t, helpers.EvaluateCondition(dp, conditionType, opts...), report.Verdict(conditionType))
			}
			assert.Equal(t, before, dp, "must not be changed")

			if !test.v1 {
				return
			}
			cluster := &v1alpha1.ClusterDataPlane{ObjectMeta: dp.ObjectMeta}
			cluster.Status = dp.Status
			assert.Equal(t, test.want == yes, helpers.IsReady(cluster.AsDataPlane(), opts...), "a ClusterDataPlane")
		})
	}
	assert.Equal(t, helpers.CodeNoObject, helpers.EvaluateCondition(nil, ready, helpers.Stock()).Code)
}

// heartbeatWithin limits the age of the heartbeat at longAgo, by a clock that shows age.
func heartbeatWithin(d, age time.Duration) helpers.EvaluateOption {
	return helpers.HeartbeatWithin(d, func() time.Time { return longAgo.Add(age) })
}

func TestConnectedFromTheAgentConnection(t *testing.T) {
	noHeartbeat := agent(true)
	noHeartbeat.LastHeartbeatTime = nil
	for name, test := range map[string]struct {
		agent *v1alpha1.AgentConnectionStatus
		opts  []helpers.EvaluateOption
		want  metav1.ConditionStatus
		code  helpers.Code
		text  string // an hour after the heartbeat
	}{
		"connected": {
			agent: agent(true), want: yes, code: helpers.CodeCurrent,
			text: "Connected=True by status.agentConnection (as the gateway says) for 120m",
		},
		"disconnected": {
			agent: agent(false), want: no, code: helpers.CodeCurrent,
			text: "Connected=False by status.agentConnection (as the gateway says) for 61m",
		},
		"only the state": {
			agent: &v1alpha1.AgentConnectionStatus{Connected: true}, want: yes, code: helpers.CodeCurrent, text: "Connected=True by status.agentConnection",
		},
		"the heartbeat is just recent enough": {
			agent: agent(true), opts: []helpers.EvaluateOption{heartbeatWithin(time.Minute, time.Minute)}, want: yes, code: helpers.CodeCurrent,
			text: "Connected=True by status.agentConnection (as the gateway says) for 120m",
		},
		"the heartbeat is too old": {
			agent: agent(true), opts: []helpers.EvaluateOption{heartbeatWithin(time.Minute, time.Minute+1)}, want: unknown, code: helpers.CodeStale,
			text: "Connected=Unknown by status.agentConnection, stale (last heartbeat 60m ago): reported True (as the gateway says) for 120m",
		},
		"the heartbeat is too old by the real clock": {
			agent: agent(true), opts: []helpers.EvaluateOption{helpers.HeartbeatWithin(time.Hour, nil)}, want: unknown, code: helpers.CodeStale,
			text: "Connected=Unknown by status.agentConnection, stale (last heartbeat 60m ago): reported True (as the gateway says) for 120m",
		},
		"a heartbeat in the future": {
			agent: agent(true), opts: []helpers.EvaluateOption{heartbeatWithin(time.Minute, -time.Hour)}, want: yes, code: helpers.CodeCurrent,
			text: "Connected=True by status.agentConnection (as the gateway says) for 120m",
		},
		"no heartbeat": {
			agent: noHeartbeat, opts: []helpers.EvaluateOption{heartbeatWithin(time.Minute, 0)}, want: unknown, code: helpers.CodeStale,
			text: "Connected=Unknown by status.agentConnection, stale (no recent heartbeat): reported True (as the gateway says) for 120m",
		},
		"no limit": {
			agent: noHeartbeat, opts: []helpers.EvaluateOption{heartbeatWithin(0, time.Hour)}, want: yes, code: helpers.CodeCurrent,
			text: "Connected=True by status.agentConnection (as the gateway says) for 120m",
		},
		"disconnected has no heartbeat": {
			agent: agent(false), opts: []helpers.EvaluateOption{heartbeatWithin(time.Minute, time.Hour)}, want: no, code: helpers.CodeCurrent,
			text: "Connected=False by status.agentConnection (as the gateway says) for 61m",
		},
		"StableFor": {
			agent: agent(true), opts: []helpers.EvaluateOption{helpers.StableFor(time.Hour+1, func() time.Time { return longAgo.Time })},
			want: unknown, code: helpers.CodeUnsettled,
			text: "Connected=Unknown by status.agentConnection, not for long enough: reported True (as the gateway says) for 120m",
		},
		"RequireObserved requires no generation of it": {
			agent: agent(true), opts: []helpers.EvaluateOption{helpers.RequireObserved()}, want: yes, code: helpers.CodeCurrent,
			text: "Connected=True by status.agentConnection (as the gateway says) for 120m",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := withConditions(7)
			dp.Status.ObservedGeneration, dp.Status.AgentConnection = 1, test.agent
			verdict := helpers.EvaluateCondition(dp, connected, test.opts...)
			assert.Equal(t, test.want, verdict.Status)
			assert.Equal(t, test.code, verdict.Code)
			assert.Equal(t, helpers.FromAgentConnection, verdict.From)
			assert.Equal(t, test.agent.Message, verdict.Message)
			assert.Equal(t, test.want == yes, helpers.IsConnected(dp, test.opts...))
			report := helpers.Evaluate(dp, test.opts...)
			assert.Equal(t, verdict, report.Connected)
			assert.Equal(t, helpers.CodeNotReported, report.Ready.Code, "Ready needs Stock")
			assert.Equal(t, test.text+"; not reported: Ready, GatewayProvisioned, Created", report.Summary(longAgo.Add(time.Hour)))
		})
	}
}

func TestReportShowsTheAgentConnection(t *testing.T) {
	dp := withConditions(2, condition(created, yes, 1))
	dp.Status.ObservedGeneration, dp.Status.AgentConnection = 2, agent(false)
	report := helpers.Evaluate(dp, helpers.Stock())
	assert.Equal(t, "data plane default/prod: Ready=False by Connected; Connected=False by status.agentConnection (as the gateway says); "+
		"Created=True (Tested: as tested); not reported: GatewayProvisioned", report.String())
	data, err := json.Marshal(report.Connected)
	require.NoError(t, err)
	assert.JSONEq(t, `{"type": "Connected", "status": "False", "code": "Current", "from": "status.agentConnection", "reported": "False",
		"message": "as the gateway says", "lastTransitionTime": "2023-11-14T22:12:20Z", "lastHeartbeatTime": "2023-11-14T22:13:20Z"}`, string(data))
}
