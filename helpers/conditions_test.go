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

const (
	ready     = v1alpha1.DataPlaneConditionReady
	connected = v1alpha1.DataPlaneConditionConnected
	gateway   = v1alpha1.DataPlaneConditionGatewayProvisioned
	created   = v1alpha1.DataPlaneConditionCreated

	yes     = metav1.ConditionTrue
	no      = metav1.ConditionFalse
	unknown = metav1.ConditionUnknown
)

var longAgo = metav1.NewTime(time.Unix(1_700_000_000, 0))

func condition(conditionType string, status metav1.ConditionStatus, observed int64) metav1.Condition {
	return metav1.Condition{
		Type: conditionType, Status: status, ObservedGeneration: observed, LastTransitionTime: longAgo,
		Reason: "Tested", Message: "as tested",
	}
}

func withConditions(generation int64, conditions ...metav1.Condition) *v1alpha1.DataPlane {
	return &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod", Generation: generation},
		Status:     v1alpha1.DataPlaneStatus{Conditions: conditions},
	}
}

// allTrue returns a DataPlane whose conditions are all True: others first, then the defined types.
func allTrue(others ...string) *v1alpha1.DataPlane {
	dp := withConditions(1)
	for _, conditionType := range append(others, connected, gateway, ready) {
		dp.Status.Conditions = append(dp.Status.Conditions, condition(conditionType, yes, 1))
	}
	return dp
}

func TestEvaluateCondition(t *testing.T) {
	type conditions = []metav1.Condition
	type options = []helpers.EvaluateOption
	now := func() time.Time { return longAgo.Add(time.Minute) }

	for name, test := range map[string]struct {
		generation int64
		observed   int64 // of the status
		deleted    bool
		conditions conditions
		ofType     string // Ready unless set
		opts       options
		want       metav1.ConditionStatus
		code       helpers.Code
		duplicated bool
	}{
		"deleted: not ready whatever the condition says": {
			generation: 1, deleted: true, conditions: conditions{condition(ready, yes, 1)},
			want: no, code: helpers.CodeTerminating,
		},
		"deleted: not ready without a condition": {generation: 1, deleted: true, want: no, code: helpers.CodeTerminating},
		"deleted: may still be connected": {
			generation: 1, deleted: true, ofType: connected, conditions: conditions{condition(connected, yes, 1)},
			want: yes, code: helpers.CodeCurrent,
		},
		"the gateway's": {
			generation: 1, ofType: gateway, conditions: conditions{condition(gateway, yes, 1)},
			want: yes, code: helpers.CodeCurrent,
		},
		"absent":               {generation: 1, conditions: conditions{condition(created, yes, 1)}, want: unknown, code: helpers.CodeNotReported},
		"type differs in case": {generation: 1, conditions: conditions{condition("ready", yes, 1)}, want: unknown, code: helpers.CodeNotReported},
		"another case comes first": {
			generation: 1, conditions: conditions{condition("READY", no, 1), condition(ready, yes, 1)},
			want: yes, code: helpers.CodeCurrent,
		},

		"current":         {generation: 2, observed: 2, conditions: conditions{condition(ready, yes, 2)}, want: yes, code: helpers.CodeCurrent},
		"current False":   {generation: 2, conditions: conditions{condition(ready, no, 2)}, want: no, code: helpers.CodeCurrent},
		"current Unknown": {generation: 2, conditions: conditions{condition(ready, unknown, 2)}, want: unknown, code: helpers.CodeCurrent},
		"only the status reports a generation": {
			generation: 2, observed: 2, conditions: conditions{condition(ready, yes, 0)}, want: yes, code: helpers.CodeCurrent,
		},

		"invalid status": {generation: 1, conditions: conditions{condition(ready, "true", 1)}, want: unknown, code: helpers.CodeInvalidStatus},
		"empty status":   {generation: 1, conditions: conditions{condition(ready, "", 1)}, want: unknown, code: helpers.CodeInvalidStatus},
		"invalid comes before stale": {
			generation: 2, conditions: conditions{condition(ready, "Yes", 1)}, want: unknown, code: helpers.CodeInvalidStatus,
		},

		"stale condition":          {generation: 3, observed: 3, conditions: conditions{condition(ready, yes, 2)}, want: unknown, code: helpers.CodeStale},
		"stale status":             {generation: 3, observed: 2, conditions: conditions{condition(ready, yes, 3)}, want: unknown, code: helpers.CodeStale},
		"stale False":              {generation: 3, conditions: conditions{condition(ready, no, 2)}, want: unknown, code: helpers.CodeStale},
		"stale comes before ahead": {generation: 3, observed: 4, conditions: conditions{condition(ready, yes, 2)}, want: unknown, code: helpers.CodeStale},
		"condition ahead":          {generation: 1, conditions: conditions{condition(ready, yes, 7)}, want: unknown, code: helpers.CodeGenerationAhead},
		"status ahead":             {generation: 1, observed: 7, conditions: conditions{condition(ready, yes, 1)}, want: unknown, code: helpers.CodeGenerationAhead},

		"nothing reports a generation": {generation: 5, conditions: conditions{condition(ready, yes, 0)}, want: yes, code: helpers.CodeUnverified},
		"a fake has no generation":     {conditions: conditions{condition(ready, yes, 3)}, want: yes, code: helpers.CodeUnverified},
		"unverified False":             {generation: 5, conditions: conditions{condition(ready, no, 0)}, want: no, code: helpers.CodeUnverified},

		"RequireObserved": {
			generation: 5, conditions: conditions{condition(ready, yes, 0)}, opts: options{helpers.RequireObserved()},
			want: unknown, code: helpers.CodeUnverified,
		},
		"RequireObserved of an observed generation": {
			generation: 5, conditions: conditions{condition(ready, yes, 5)}, opts: options{helpers.RequireObserved()},
			want: yes, code: helpers.CodeCurrent,
		},
		"StatusGenerationOnly": {
			generation: 3, observed: 3, conditions: conditions{condition(ready, yes, 1)}, opts: options{helpers.StatusGenerationOnly()},
			want: yes, code: helpers.CodeCurrent,
		},
		"StatusGenerationOnly of a stale status": {
			generation: 3, observed: 2, conditions: conditions{condition(ready, yes, 3)}, opts: options{helpers.StatusGenerationOnly()},
			want: unknown, code: helpers.CodeStale,
		},
		"StatusGenerationOnly without a generation of the status": {
			generation: 3, conditions: conditions{condition(ready, yes, 1)}, opts: options{helpers.StatusGenerationOnly(), helpers.RequireObserved()},
			want: unknown, code: helpers.CodeUnverified,
		},

		"duplicates: the worst": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, no, 2), condition(ready, unknown, 2)},
			want: no, code: helpers.CodeCurrent, duplicated: true,
		},
		"duplicates: Unknown is worse than True": {
			generation: 2, conditions: conditions{condition(ready, unknown, 2), condition(ready, yes, 2)},
			want: unknown, code: helpers.CodeCurrent, duplicated: true,
		},
		"duplicates: invalid is worse than True": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, "Maybe", 2)},
			want: unknown, code: helpers.CodeInvalidStatus, duplicated: true,
		},
		"duplicates: one of an earlier generation is Unknown": {
			generation: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, no, 1)},
			want: unknown, code: helpers.CodeStale, duplicated: true,
		},
		"duplicates: StatusGenerationOnly ignores their generations": {
			generation: 2, observed: 2, conditions: conditions{condition(ready, yes, 2), condition(ready, no, 1)},
			opts: options{helpers.StatusGenerationOnly()}, want: no, code: helpers.CodeCurrent, duplicated: true,
		},

		"StableFor: long enough": {
			conditions: conditions{condition(ready, yes, 0)}, opts: options{helpers.StableFor(time.Minute, now)},
			want: yes, code: helpers.CodeUnverified,
		},
		"StableFor: not yet": {
			conditions: conditions{condition(ready, yes, 0)}, opts: options{helpers.StableFor(time.Minute+1, now)},
			want: unknown, code: helpers.CodeUnsettled,
		},
		"StableFor: by the real clock": {
			conditions: conditions{condition(ready, yes, 0)}, opts: options{helpers.StableFor(time.Minute, nil)},
			want: yes, code: helpers.CodeUnverified,
		},
		"StableFor: a time in the future": {
			conditions: conditions{condition(ready, yes, 0)},
			opts:       options{helpers.StableFor(time.Second, func() time.Time { return longAgo.Add(-time.Hour) })},
			want:       unknown, code: helpers.CodeUnsettled,
		},
		"StableFor: no time": {
			conditions: conditions{{Type: ready, Status: yes}}, opts: options{helpers.StableFor(time.Second, now)},
			want: unknown, code: helpers.CodeUnsettled,
		},
		"StableFor: False needs no time": {
			conditions: conditions{condition(ready, no, 0)}, opts: options{helpers.StableFor(time.Hour, now)},
			want: no, code: helpers.CodeUnverified,
		},
		"StableFor: a negative duration": {
			conditions: conditions{{Type: ready, Status: yes}}, opts: options{helpers.StableFor(-time.Hour, now)},
			want: yes, code: helpers.CodeUnverified,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := withConditions(test.generation, test.conditions...)
			dp.Status.ObservedGeneration = test.observed
			if test.deleted {
				dp.DeletionTimestamp = &longAgo
			}
			before := dp.DeepCopy()
			ofType := test.ofType
			if ofType == "" {
				ofType = ready
			}
			verdict := helpers.EvaluateCondition(dp, ofType, test.opts...)
			assert.Equal(t, before, dp, "must not be changed")
			assert.Equal(t, ofType, verdict.Type)
			assert.Equal(t, test.want, verdict.Status)
			assert.Equal(t, test.code, verdict.Code)
			assert.Equal(t, test.duplicated, verdict.Duplicated)
			assert.Equal(t, verdict, helpers.Evaluate(dp, test.opts...).Verdict(ofType), "Evaluate must agree")
			is := map[string]func(*v1alpha1.DataPlane, ...helpers.EvaluateOption) bool{
				ready: helpers.IsReady, connected: helpers.IsConnected, gateway: helpers.IsGatewayProvisioned,
			}[ofType]
			assert.Equal(t, test.want == yes, is(dp, test.opts...))
		})
	}
}

func TestEvaluateListsDefinedTypesFirstAndOthersByName(t *testing.T) {
	dp := withConditions(4, condition("Finalizing", no, 4), condition(connected, no, 4), condition(created, yes, 4),
		condition(ready, yes, 4), condition(created, yes, 4))
	dp.Status.ObservedGeneration = 4
	report := helpers.Evaluate(dp)
	assert.Equal(t, "default", report.Namespace)
	assert.Equal(t, "prod", report.Name)
	assert.EqualValues(t, 4, report.Generation)
	assert.EqualValues(t, 4, report.ObservedGeneration)
	var order []string
	for _, verdict := range report.Verdicts() {
		order = append(order, verdict.Type)
	}
	assert.Equal(t, []string{ready, connected, gateway, created, "Finalizing"}, order)
	assert.Equal(t, helpers.Verdict{
		Type: created, Status: yes, Code: helpers.CodeCurrent, Reported: yes, Reason: "Tested", Message: "as tested",
		ObservedGeneration: 4, LastTransitionTime: longAgo, Duplicated: true,
	}, report.Verdict(created))
	assert.Equal(t, helpers.Verdict{Type: "Absent", Status: unknown, Code: helpers.CodeNotReported}, report.Verdict("Absent"))

	data, err := json.Marshal(report.Verdict(gateway))
	require.NoError(t, err)
	assert.JSONEq(t, `{"type":"GatewayProvisioned","status":"Unknown","code":"NotReported"}`, string(data))
}

func TestReadersAcceptNilOptions(t *testing.T) {
	assert.True(t, helpers.IsReady(allTrue(), nil))
	assert.False(t, helpers.IsReady(&v1alpha1.DataPlane{}, nil, helpers.RequireObserved()))
}

func TestReadersAcceptNil(t *testing.T) {
	assert.False(t, helpers.IsReady(nil))
	assert.False(t, helpers.IsConnected(nil))
	assert.False(t, helpers.IsGatewayProvisioned(nil))
	report := helpers.Evaluate(nil)
	assert.Len(t, report.Verdicts(), 4)
	for _, verdict := range report.Verdicts() {
		assert.Equal(t, helpers.CodeNoObject, verdict.Code)
		assert.Equal(t, unknown, verdict.Status)
	}
}
