// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func reported() *v1alpha1.DataPlane {
	now := time.Unix(1_700_000_000, 0)
	return &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod", Generation: 4},
		Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{
			{Type: "Created", Status: "True", ObservedGeneration: 4, Reason: "Made"},
			{
				Type: ready, Status: "False", ObservedGeneration: 3, Reason: "AgentUnreachable", Message: "dial tcp:\nrefused",
				LastTransitionTime: metav1.NewTime(now.Add(-252 * time.Second)),
			},
			{Type: gateway, Status: "True", ObservedGeneration: 4, Reason: "Configured", LastTransitionTime: metav1.NewTime(now.Add(time.Hour))},
		}},
	}
}

func TestReportString(t *testing.T) {
	assert.Equal(t, "dataplane default/prod: Ready=Unknown (AgentUnreachable: dial tcp: refused), stale: observed generation 3 of 4; "+
		"Connected not reported; GatewayProvisioned=True (Configured); other types: Created=True", Evaluate(reported()).String())
	assert.Equal(t, "dataplane : Ready: no object; Connected: no object; GatewayProvisioned: no object", Evaluate(nil).String())

	deleted := conditioned()
	deleted.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	assert.Contains(t, Evaluate(deleted).String(), "Ready=False (Tested: as tested), being deleted")
	contradictory := conditioned()
	contradictory.Status.Conditions[5].Status = metav1.ConditionFalse
	assert.Contains(t, Evaluate(contradictory).String(), "Ready contradicts the others")
}

func TestReportTable(t *testing.T) {
	assert.Equal(t, ""+
		"CONDITION           VERDICT  BECAUSE      OBSERVED  AGE    REASON            MESSAGE\n"+
		"Ready               Unknown  Stale        3 of 4    4m12s  AgentUnreachable  dial tcp: refused\n"+
		"Connected           Unknown  NotReported  -         -      -                 -\n"+
		"GatewayProvisioned  True     Current      4 of 4    0s     Configured        -\n"+
		"Created             True     Current      4 of 4    -      Made              -\n",
		Evaluate(reported()).Table(time.Unix(1_700_000_000, 0)))
}

func TestReportForToolsAndLoggers(t *testing.T) {
	report := Evaluate(reported())
	data, err := json.Marshal(report)
	require.NoError(t, err)
	var read Report
	require.NoError(t, json.Unmarshal(data, &read))
	assert.Equal(t, report.Verdict(ready).Code, read.Verdict(ready).Code)
	logged, err := json.Marshal(report.MarshalLog())
	require.NoError(t, err)
	assert.JSONEq(t, string(data), string(logged))

	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "report", report)
	assert.Contains(t, out.String(), "report.dataplane=default/prod")
	assert.Contains(t, out.String(), "report.Ready.status=Unknown report.Ready.code=Stale")
}

func TestOperationalIsTheWorst(t *testing.T) {
	const yes, no, unknown = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	for _, test := range []struct {
		ready, connected, gateway, want metav1.ConditionStatus
	}{
		{yes, yes, yes, yes},
		{yes, yes, unknown, unknown},
		{no, unknown, yes, no},
		{yes, no, yes, no},
		{unknown, yes, no, no},
	} {
		dp := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{
			condition(ready, test.ready, 0), condition(connected, test.connected, 0), condition(gateway, test.gateway, 0),
		}}}
		assert.Equal(t, test.want, Evaluate(dp).Operational(), test)
		assert.Equal(t, test.want == yes, IsOperational(dp), test)
	}
	assert.False(t, IsOperational(nil))
	assert.Equal(t, unknown, Evaluate(nil).Operational())
	assert.Equal(t, unknown, Evaluate(&v1alpha1.DataPlane{}).Operational())
	assert.Zero(t, testing.AllocsPerRun(100, func() { IsOperational(conditionedOnce) }))
}

var conditionedOnce = conditioned()
