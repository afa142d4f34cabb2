// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

const (
	ready     = v1alpha1.DataPlaneConditionReady
	connected = v1alpha1.DataPlaneConditionConnected
	gateway   = v1alpha1.DataPlaneConditionGatewayProvisioned
)

func condition(conditionType string, status metav1.ConditionStatus, observed int64) metav1.Condition {
	return metav1.Condition{Type: conditionType, Status: status, ObservedGeneration: observed, Reason: "Tested", Message: "as tested"}
}

func TestEvaluateCondition(t *testing.T) {
	const (
		yes     = metav1.ConditionTrue
		no      = metav1.ConditionFalse
		unknown = metav1.ConditionUnknown
	)
	type conditions = []metav1.Condition
	deleted := &metav1.Time{Time: time.Unix(1, 0)}

	for name, test := range map[string]struct {
		generation int64
		observed   int64 // of the status
		deletion   *metav1.Time
		conditions conditions
		ofType     string // Ready unless set
		opts       []EvaluateOption
		want       metav1.ConditionStatus
		code       Code
		duplicated bool
	}{
		"deleted: not ready whatever the condition says": {
			generation: 1, deletion: deleted, conditions: conditions{condition(ready, yes, 1)},
			want: no, code: CodeTerminating,
		},
		"deleted: not ready without a condition": {generation: 1, deletion: deleted, want: no, code: CodeTerminating},
		"deleted: may still be connected": {
			generation: 1, deletion: deleted, ofType: connected, conditions: conditions{condition(connected, yes, 1)},
			want: yes, code: CodeCurrent,
		},
		"the gateway's": {
			generation: 1, ofType: gateway, conditions: conditions{condition(gateway, yes, 1)},
			want: yes, code: CodeCurrent,
		},
		"absent": {generation: 1, conditions: conditions{condition("Created", yes, 1)}, want: unknown, code: CodeNotReported},
		"type differs in case": {
			generation: 1, conditions: conditions{condition("ready", yes, 1)}, want: unknown, code: CodeNotReported,
		},

		"current": {generation: 2, observed: 2, conditions: conditions{condition(ready, yes, 2)}, want: yes, code: CodeCurrent},
		"current False": {
			generation: 2, conditions: conditions{condition(ready, no, 2)}, want: no, code: CodeCurrent,
		},
		"current Unknown": {
			generation: 2, conditions: conditions{condition(ready, unknown, 2)}, want: unknown, code: CodeCurrent,
		},
		"only the condition reports a generation": {
			generation: 2, conditions: conditions{condition(ready, yes, 2)}, want: yes, code: CodeCurrent,
		},
		"only the status reports a generation": {
			generation: 2, observed: 2, conditions: conditions{condition(ready, yes, 0)}, want: yes, code: CodeCurrent,
		},

		"invalid status": {generation: 1, conditions: conditions{condition(ready, "true", 1)}, want: unknown, code: CodeInvalidStatus},
		"empty status":   {generation: 1, conditions: conditions{condition(ready, "", 1)}, want: unknown, code: CodeInvalidStatus},
		"invalid comes before stale": {
			generation: 2, conditions: conditions{condition(ready, "Yes", 1)}, want: unknown, code: CodeInvalidStatus,
		},

		"stale condition":          {generation: 3, observed: 3, conditions: conditions{condition(ready, yes, 2)}, want: unknown, code: CodeStale},
		"stale status":             {generation: 3, observed: 2, conditions: conditions{condition(ready, yes, 3)}, want: unknown, code: CodeStale},
		"stale False":              {generation: 3, conditions: conditions{condition(ready, no, 2)}, want: unknown, code: CodeStale},
		"stale comes before ahead": {generation: 3, observed: 4, conditions: conditions{condition(ready, yes, 2)}, want: unknown, code: CodeStale},
		"condition ahead":          {generation: 1, conditions: conditions{condition(ready, yes, 7)}, want: unknown, code: CodeGenerationAhead},
		"status ahead":             {generation: 1, observed: 7, conditions: conditions{condition(ready, yes, 1)}, want: unknown, code: CodeGenerationAhead},

		"nothing reports a generation": {generation: 5, conditions: conditions{condition(ready, yes, 0)}, want: yes, code: CodeUnverified},
		"a fake has no generation":     {conditions: conditions{condition(ready, yes, 3)}, want: yes, code: CodeUnverified},
		"unverified False":             {generation: 5, conditions: conditions{condition(ready, no, 0)}, want: no, code: CodeUnverified},
		"RequireObserved": {
			generation: 5, conditions: conditions{condition(ready, yes, 0)}, opts: []EvaluateOption{RequireObserved()},
			want: unknown, code: CodeUnverified,
		},
		"RequireObserved of what is observed": {
			generation: 5, conditions: conditions{condition(ready, yes, 5)}, opts: []EvaluateOption{RequireObserved()},
			want: yes, code: CodeCurrent,
		},
		"ConditionGenerationOnly": {
			generation: 3, observed: 1, conditions: conditions{condition(ready, yes, 3)}, opts: []EvaluateOption{ConditionGenerationOnly()},
			want: yes, code: CodeCurrent,
		},
		"ConditionGenerationOnly of a stale one": {
			generation: 3, observed: 3, conditions: conditions{condition(ready, yes, 2)}, opts: []EvaluateOption{ConditionGenerationOnly()},
			want: unknown, code: CodeStale,
		},
		"StatusGenerationOnly": {
			generation: 3, observed: 3, conditions: conditions{condition(ready, yes, 1)}, opts: []EvaluateOption{StatusGenerationOnly()},
			want: yes, code: CodeCurrent,
		},
		"StatusGenerationOnly of a stale one": {
			generation: 3, observed: 2, conditions: conditions{condition(ready, yes, 3)}, opts: []EvaluateOption{StatusGenerationOnly()},
			want: unknown, code: CodeStale,
		},

		"duplicates: the worst of the newest": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, no, 2)},
			want: no, code: CodeCurrent, duplicated: true,
		},
		"duplicates: Unknown is worse than True": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, unknown, 2)},
			want: unknown, code: CodeCurrent, duplicated: true,
		},
		"duplicates: an older one doesn't count": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, no, 1)},
			want: yes, code: CodeCurrent, duplicated: true,
		},
		"duplicates: False by the newest though an older one comes first": {
			generation: 2, conditions: conditions{condition(ready, yes, 1), condition(ready, no, 2)},
			want: no, code: CodeCurrent, duplicated: true,
		},
		"duplicates: True needs the one that other tools read": {
			generation: 2, conditions: conditions{condition(ready, no, 1), condition(ready, yes, 2)},
			want: unknown, code: CodeStale, duplicated: true,
		},
		"duplicates: an older one first, on a fake without generation": {
			conditions: conditions{condition(ready, no, 1), condition(ready, yes, 2)},
			want:       unknown, code: CodeUnverified, duplicated: true,
		},
		"duplicates: one first that reports no generation": {
			generation: 2, conditions: conditions{condition(ready, no, 0), condition(ready, yes, 2)},
			want: unknown, code: CodeUnverified, duplicated: true,
		},
		"duplicates: StatusGenerationOnly does not rank by generation": {
			generation: 2, observed: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, no, 1)},
			opts: []EvaluateOption{StatusGenerationOnly()}, want: no, code: CodeCurrent, duplicated: true,
		},
		"a type that differs in case comes first": {
			generation: 2, conditions: conditions{condition("READY", no, 2), condition(ready, yes, 2)},
			want: unknown, code: CodeCurrent,
		},
		"a type that differs in case comes later": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition("READY", no, 2)},
			want: yes, code: CodeCurrent,
		},
		"duplicates: all the same": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, yes, 2)},
			want: yes, code: CodeCurrent, duplicated: true,
		},
		"duplicates: invalid is worse than True": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, "Maybe", 2)},
			want: unknown, code: CodeInvalidStatus, duplicated: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := &v1alpha1.DataPlane{
				ObjectMeta: metav1.ObjectMeta{Generation: test.generation, DeletionTimestamp: test.deletion},
				Status:     v1alpha1.DataPlaneStatus{ObservedGeneration: test.observed, Conditions: test.conditions},
			}
			before := dp.DeepCopy()
			ofType := test.ofType
			if ofType == "" {
				ofType = ready
			}
			verdict := EvaluateCondition(dp, ofType, test.opts...)
			assert.Equal(t, before, dp, "must not be changed")
			assert.Equal(t, ofType, verdict.Type)
			assert.Equal(t, test.want, verdict.Status)
			assert.Equal(t, test.code, verdict.Code)
			assert.Equal(t, test.duplicated, verdict.Duplicated)
			assert.Equal(t, verdict, Evaluate(dp, test.opts...).Verdict(ofType), "Evaluate must agree")
			if len(test.opts) == 0 {
				is := map[string]func(*v1alpha1.DataPlane) bool{
					ready: IsReady, connected: IsConnected, gateway: IsGatewayProvisioned,
				}[ofType]
				assert.Equal(t, test.want == yes, is(dp))
			}
		})
	}
}

func TestEvaluateReportsDefinedTypesFirstAndOthersByName(t *testing.T) {
	dp := &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod", Generation: 4},
		Status: v1alpha1.DataPlaneStatus{ObservedGeneration: 4, Conditions: []metav1.Condition{
			condition("Finalizing", metav1.ConditionFalse, 4),
			condition(connected, metav1.ConditionFalse, 4),
			condition("Created", metav1.ConditionTrue, 4),
			condition(ready, metav1.ConditionTrue, 4),
			condition("Created", metav1.ConditionTrue, 4),
		}},
	}
	report := Evaluate(dp)
	assert.Equal(t, "default", report.Namespace)
	assert.Equal(t, "prod", report.Name)
	assert.EqualValues(t, 4, report.Generation)
	assert.EqualValues(t, 4, report.ObservedGeneration)
	assert.True(t, report.Contradictory, "Ready=True with Connected=False")
	var order []string
	for _, verdict := range report.Verdicts {
		order = append(order, verdict.Type)
	}
	assert.Equal(t, []string{ready, connected, gateway, "Created", "Finalizing"}, order)
	assert.True(t, report.Verdict("Created").Duplicated)
	assert.Equal(t, "Tested", report.Verdict(ready).Reason)
	assert.Equal(t, "as tested", report.Verdict(ready).Message)
	assert.Equal(t, Verdict{Type: "Absent", Status: metav1.ConditionUnknown, Code: CodeNotReported}, report.Verdict("Absent"))

	data, err := json.Marshal(report.Verdict(gateway))
	require.NoError(t, err)
	assert.JSONEq(t, `{"type":"GatewayProvisioned","status":"Unknown","code":"NotReported"}`, string(data))
}

func TestReadersAcceptNil(t *testing.T) {
	assert.False(t, IsReady(nil))
	assert.False(t, IsConnected(nil))
	assert.False(t, IsGatewayProvisioned(nil))
	for _, verdict := range Evaluate(nil).Verdicts {
		assert.Equal(t, CodeNoObject, verdict.Code)
		assert.Equal(t, metav1.ConditionUnknown, verdict.Status)
	}
	assert.Len(t, Evaluate(nil).Verdicts, 3)
}

// OpenChoreo v0.3 writes no Ready condition, leaves the generation of the status at
// 0, and has an atomic list.
func TestEvaluateWhatOpenChoreoWrites(t *testing.T) {
	dp := &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Generation: 1},
		Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{
			condition("Created", metav1.ConditionTrue, 1), condition("Finalizing", metav1.ConditionTrue, 1),
		}},
	}
	assert.False(t, IsReady(dp))
	assert.Equal(t, CodeNotReported, EvaluateCondition(dp, ready).Code)
	assert.Equal(t, CodeCurrent, EvaluateCondition(dp, "Created").Code)
}

func TestIsReadyDoesNotAllocate(t *testing.T) {
	dp := conditioned()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if !IsReady(dp) {
			t.Fail()
		}
	}))
}

func TestEvaluateDoesNotAllocateWhereTheReportIsNotKept(t *testing.T) {
	dp := conditioned()
	dp.Status.Conditions = dp.Status.Conditions[4:] // three defined types and another
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		report := Evaluate(dp)
		if len(report.Verdicts) != 4 || report.Verdict(ready).Status != metav1.ConditionTrue {
			t.Fail()
		}
	}))
}

// IsOperational and Evaluate have a way of their own, for speed.
func TestEvaluateAndIsOperationalAgreeWithEachVerdict(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	yes := 0
	for range 20_000 {
		dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Generation: int64(random.IntN(3))}}
		dp.Status.ObservedGeneration = int64(random.IntN(2))
		if random.IntN(10) == 0 {
			dp.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		}
		types := []string{ready, connected, gateway}
		for range random.IntN(3) {
			types = append(types, pick(ready, connected, gateway, "ready", "CONNECTED", "gatewayProvisioned", "GatewayProvi\u017fioned", "", "Created"))
		}
		random.Shuffle(len(types), func(i, j int) { types[i], types[j] = types[j], types[i] })
		for _, conditionType := range types[random.IntN(2):] {
			status := metav1.ConditionStatus(pick("True", "True", "True", "True", "True", "True", "False", "Unknown", "true"))
			dp.Status.Conditions = append(dp.Status.Conditions, condition(conditionType, status, int64(random.IntN(2))))
		}
		var opts []EvaluateOption
		for _, opt := range []EvaluateOption{
			ConditionGenerationOnly(), StatusGenerationOnly(), RequireObserved(), Optional(ready), StableFor(time.Hour, nil),
		} {
			if random.IntN(5) == 0 {
				opts = append(opts, opt)
			}
		}
		report := Evaluate(dp, opts...)
		for _, verdict := range report.Verdicts {
			require.Equal(t, EvaluateCondition(dp, verdict.Type, opts...), verdict, "%+v", dp.Status)
		}
		for _, c := range dp.Status.Conditions {
			require.GreaterOrEqual(t, report.index(c.Type), 0, "no verdict on %q", c.Type)
		}

		want := true
		for _, conditionType := range definedConditions {
			want = want && EvaluateCondition(dp, conditionType).Status == metav1.ConditionTrue
		}
		require.Equal(t, want, IsOperational(dp), "%+v", dp.Status)
		require.Equal(t, want, Evaluate(dp).Operational() == metav1.ConditionTrue)
		if want {
			yes++
		}
	}
	require.Greater(t, yes, 1000, "few of the states are operational, so this shows little")
}

// conditioned returns a DataPlane with eight conditions, all of them True.
func conditioned() *v1alpha1.DataPlane {
	dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
	for _, conditionType := range []string{"A", "B", "C", "D", "E", connected, gateway, ready} {
		dp.Status.Conditions = append(dp.Status.Conditions, condition(conditionType, metav1.ConditionTrue, 1))
	}
	return dp
}
