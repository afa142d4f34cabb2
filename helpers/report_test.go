// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

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
	assert.Equal(t, "dataplane default/prod: Ready=False (AgentUnreachable: dial tcp: refused), observed generation 3 of 4 (stale); "+
		"Connected not reported; GatewayProvisioned=True (Configured); other types: Created=True", Evaluate(reported()).String())
	assert.Equal(t, "dataplane : Ready: no object; Connected: no object; GatewayProvisioned: no object", Evaluate(nil).String())

	deleted := conditioned()
	deleted.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	assert.Contains(t, Evaluate(deleted).String(), "Ready=True (Tested: as tested), being deleted")
	contradictory := conditioned()
	contradictory.Status.Conditions[5].Status = metav1.ConditionFalse
	assert.Contains(t, Evaluate(contradictory).String(), "Ready contradicts the others")
}

// The generation that is shown is the one at fault.
func TestReportStringNamesTheObservedGeneration(t *testing.T) {
	for name, test := range map[string]struct {
		generation, ofStatus, ofCondition int64
		want                              string
	}{
		"condition behind":   {4, 4, 3, "observed generation 3 of 4 (stale)"},
		"status behind":      {4, 2, 4, "observed generation 2 of 4 (stale)"},
		"both behind":        {4, 2, 3, "observed generation 3 of 4 (stale)"},
		"status ahead":       {4, 5, 4, "observed generation 5 of 4 (ahead)"},
		"condition ahead":    {4, 0, 6, "observed generation 6 of 4 (ahead)"},
		"of different minds": {4, 2, 6, "observed generation 2 of 4 (stale)"},
	} {
		t.Run(name, func(t *testing.T) {
			dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: "prod", Generation: test.generation}}
			dp.Status.ObservedGeneration = test.ofStatus
			dp.Status.Conditions = []metav1.Condition{condition(ready, metav1.ConditionTrue, test.ofCondition)}
			assert.Contains(t, Evaluate(dp).String(), test.want)
		})
	}
}

func TestReportTable(t *testing.T) {
	assert.Equal(t, ""+
		"CONDITION           VERDICT  BECAUSE      REPORTED  OBSERVED  AGE    REASON            MESSAGE\n"+
		"Ready               Unknown  Stale        False     3 of 4    4m12s  AgentUnreachable  dial tcp: refused\n"+
		"Connected           Unknown  NotReported  -         -         -      -                 -\n"+
		"GatewayProvisioned  True     Current      True      4 of 4    0s     Configured        -\n"+
		"Created             True     Current      True      4 of 4    -      Made              -\n",
		Evaluate(reported()).Table(time.Unix(1_700_000_000, 0)))

	odd := conditioned()
	odd.Status.ObservedGeneration = 7
	odd.Status.Conditions = append(odd.Status.Conditions, condition(gateway, metav1.ConditionTrue, 1))
	assert.Regexp(t, `GatewayProvisioned +Unknown +GenerationAhead +True \(twice\) +7 of 1`, Evaluate(odd).Table(time.Now()))
	contradictory := conditioned()
	contradictory.Status.Conditions[5].Status = metav1.ConditionFalse
	assert.Contains(t, Evaluate(contradictory).Table(time.Now()), "\nReady contradicts the others.\n")
}

// What other programs write must not reach a terminal as commands.
func TestReportIsSafeToPrint(t *testing.T) {
	dp := conditioned()
	dp.Status.Conditions[7].Message = "\x1b[2J\x1b]0;title\a hi\u202e\xff" + strings.Repeat("x", 40_000)
	for _, text := range []string{Evaluate(dp).String(), Evaluate(dp).Table(time.Now())} {
		for _, r := range strings.ReplaceAll(text, "\n", "") {
			require.True(t, unicode.IsPrint(r), "%q", r)
		}
		assert.True(t, utf8.ValidString(text))
		assert.Less(t, len(text), 2000)
		assert.Contains(t, text, "xxx…")
	}
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

func TestOptional(t *testing.T) {
	const yes, no, unknown = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	dp := func(conditions ...metav1.Condition) *v1alpha1.DataPlane {
		return &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{Conditions: conditions}}
	}
	isReady, noGateway := condition(ready, yes, 0), condition(gateway, no, 0)
	optional := Optional(connected, gateway)
	assert.Equal(t, unknown, Evaluate(dp(isReady)).Operational())
	assert.Equal(t, unknown, Evaluate(dp(isReady), Optional(gateway)).Operational())
	assert.Equal(t, yes, Evaluate(dp(isReady), optional).Operational())
	assert.Equal(t, yes, Evaluate(dp(isReady), Optional(connected), Optional(gateway)).Operational(), "options add up")
	assert.Equal(t, no, Evaluate(dp(isReady, noGateway), optional).Operational(), "what is reported counts")
	assert.Equal(t, unknown, Evaluate(dp(), optional).Operational(), "the other is missing")
	assert.Equal(t, unknown, Evaluate(dp(), optional, Optional(ready)).Operational(), "nothing says yes")
	assert.Equal(t, unknown, Evaluate(nil, optional, Optional(ready)).Operational())

	report := Evaluate(dp(isReady), optional)
	assert.True(t, report.Verdict(gateway).Optional)
	assert.False(t, report.Verdict(ready).Optional)
	assert.Equal(t, CodeNotReported, report.Verdict(gateway).Code)
}

func TestStableFor(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	for name, test := range map[string]struct {
		since  metav1.Time
		status metav1.ConditionStatus
		d      time.Duration
		want   metav1.ConditionStatus
		code   Code
	}{
		"long enough":           {metav1.NewTime(now.Add(-time.Minute)), "True", time.Minute, "True", CodeUnverified},
		"not yet":               {metav1.NewTime(now.Add(-time.Minute)), "True", time.Minute + 1, "Unknown", CodeUnsettled},
		"in the future":         {metav1.NewTime(now.Add(time.Hour)), "True", time.Second, "Unknown", CodeUnsettled},
		"at an unknown time":    {metav1.Time{}, "True", time.Second, "Unknown", CodeUnsettled},
		"False needs no time":   {metav1.NewTime(now), "False", time.Minute, "False", CodeUnverified},
		"no bound":              {metav1.NewTime(now), "True", 0, "True", CodeUnverified},
		"a negative bound":      {metav1.NewTime(now), "True", -time.Minute, "True", CodeUnverified},
		"in the future, but 0s": {metav1.NewTime(now.Add(time.Hour)), "True", 0, "True", CodeUnverified},
	} {
		t.Run(name, func(t *testing.T) {
			c := condition(ready, test.status, 0)
			c.LastTransitionTime = test.since
			dp := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{c}}}
			verdict := EvaluateCondition(dp, ready, StableFor(test.d, clock))
			assert.Equal(t, test.want, verdict.Status)
			assert.Equal(t, test.code, verdict.Code)
		})
	}
	c := condition(ready, metav1.ConditionTrue, 0)
	c.LastTransitionTime = metav1.NewTime(time.Now().Add(-time.Hour))
	dp := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{c}}}
	assert.Equal(t, metav1.ConditionTrue, EvaluateCondition(dp, ready, StableFor(time.Minute, nil)).Status)
	assert.Contains(t, Evaluate(dp, StableFor(2*time.Hour, nil)).String(), "not for long enough")
}

var conditionedOnce = conditioned()
