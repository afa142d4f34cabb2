// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
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

// allTrue returns a DataPlane on which the defined conditions are True, after others.
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
		"RequireObserved of what is observed": {
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
		"StatusGenerationOnly without that of the status": {
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
		"duplicates: StatusGenerationOnly knows no earlier one": {
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
		"StableFor: by the clock of the machine": {
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
		"StableFor: less than nothing": {
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

func TestReadyFrom(t *testing.T) {
	type conditions = []metav1.Condition
	for name, test := range map[string]struct {
		conditions conditions
		from       []string
		deleted    bool
		want       metav1.ConditionStatus
		code       helpers.Code
		wantFrom   string
	}{
		"True": {
			conditions: conditions{condition(created, yes, 2)}, from: []string{created},
			want: yes, code: helpers.CodeCurrent, wantFrom: created,
		},
		"the worst decides": {
			conditions: conditions{condition(created, unknown, 2), condition(connected, no, 2)}, from: []string{created, connected, gateway},
			want: no, code: helpers.CodeCurrent, wantFrom: connected,
		},
		"the first of the worst decides": {
			conditions: conditions{condition(created, no, 2), condition(connected, no, 2)}, from: []string{connected, created},
			want: no, code: helpers.CodeCurrent, wantFrom: connected,
		},
		"what is missing is Unknown": {
			conditions: conditions{condition(created, yes, 2)}, from: []string{created, connected},
			want: unknown, code: helpers.CodeNotReported, wantFrom: connected,
		},
		"what is stale is Unknown": {
			conditions: conditions{condition(created, yes, 1)}, from: []string{created},
			want: unknown, code: helpers.CodeStale, wantFrom: created,
		},
		"a Ready that is reported counts": {
			conditions: conditions{condition(created, yes, 2), condition(ready, no, 2)}, from: []string{created},
			want: no, code: helpers.CodeCurrent,
		},
		"a stale Ready counts": {
			conditions: conditions{condition(created, yes, 2), condition(ready, yes, 1)}, from: []string{created},
			want: unknown, code: helpers.CodeStale,
		},
		"deletion wins": {
			conditions: conditions{condition(created, yes, 2)}, from: []string{created}, deleted: true,
			want: no, code: helpers.CodeTerminating,
		},
		"from nothing": {want: unknown, code: helpers.CodeNotReported},
		"from itself":  {from: []string{ready}, want: unknown, code: helpers.CodeNotReported, wantFrom: ready},
	} {
		t.Run(name, func(t *testing.T) {
			dp := withConditions(2, test.conditions...)
			if test.deleted {
				dp.DeletionTimestamp = &longAgo
			}
			opt := helpers.ReadyFrom(test.from...)
			verdict := helpers.EvaluateCondition(dp, ready, opt)
			assert.Equal(t, ready, verdict.Type)
			assert.Equal(t, test.want, verdict.Status)
			assert.Equal(t, test.code, verdict.Code)
			assert.Equal(t, test.wantFrom, verdict.From)
			assert.Equal(t, test.want == yes, helpers.IsReady(dp, opt))

			report := helpers.Evaluate(dp, opt)
			assert.Equal(t, verdict, report.Verdict(ready))
			for _, other := range []string{connected, gateway, created} {
				assert.Equal(t, helpers.EvaluateCondition(dp, other), report.Verdict(other), "only Ready is derived")
			}
		})
	}
	assert.Equal(t, helpers.CodeNoObject, helpers.EvaluateCondition(nil, ready, helpers.ReadyFrom(created)).Code)
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

// Whoever may write a status must not stall its readers: one call with 16 times as many
// types must not take much longer than 16 calls. Other programs can slow an attempt.
func TestManyTypesTakeLinearTime(t *testing.T) {
	const times, attempts = 16, 5
	for name, test := range map[string]struct {
		few  int
		call func(t *testing.T, dp *v1alpha1.DataPlane)
	}{
		"Evaluate": {2000, func(t *testing.T, dp *v1alpha1.DataPlane) {
			assert.Len(t, helpers.Evaluate(dp).Others, len(dp.Status.Conditions))
		}},
		"SetCondition": {2000, func(t *testing.T, dp *v1alpha1.DataPlane) {
			_, err := helpers.SetCondition(dp.DeepCopy(), condition(ready, yes, 1))
			require.NoError(t, err)
		}},
		"PatchConditions": {300, func(t *testing.T, dp *v1alpha1.DataPlane) {
			before := withConditions(1)
			stored, err := helpers.PatchConditions(t.Context(), serve(before), before, dp.Status.Conditions, helpers.PatchConditionsOptions{})
			require.NoError(t, err)
			assert.Len(t, stored.Status.Conditions, len(dp.Status.Conditions))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var dps [2]*v1alpha1.DataPlane
			for i, count := range []int{test.few, test.few * times} {
				dps[i] = withConditions(1)
				for n := range count {
					dps[i].Status.Conditions = append(dps[i].Status.Conditions, condition(fmt.Sprintf("Type%d", n), yes, 1))
				}
			}
			var one, many time.Duration
			for range attempts {
				start := time.Now()
				for range times {
					test.call(t, dps[0])
				}
				many = time.Since(start)
				start = time.Now()
				test.call(t, dps[1])
				if one = time.Since(start); one < 6*many {
					return
				}
			}
			assert.Failf(t, "more than linear", "%s for one call, %s for %d", one, many, times)
		})
	}
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

func TestReadersDoNotAllocate(t *testing.T) {
	stock := helpers.Stock()
	for name, test := range map[string]struct {
		dp   *v1alpha1.DataPlane
		opts []helpers.EvaluateOption
	}{
		"the defined types":           {dp: allTrue(created)},
		"ReadyFrom":                   {dp: stockV03(), opts: []helpers.EvaluateOption{helpers.ReadyFrom(created)}},
		"v0.3":                        {dp: stockV03(), opts: []helpers.EvaluateOption{stock}},
		"v1":                          {dp: stockV1(), opts: []helpers.EvaluateOption{stock}},
		"v1 with a limited heartbeat": {dp: stockV1(), opts: []helpers.EvaluateOption{stock, heartbeatWithin(time.Minute, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Zero(t, testing.AllocsPerRun(100, func() {
				if !helpers.IsReady(test.dp, test.opts...) || helpers.Evaluate(test.dp, test.opts...).Ready.Status != yes {
					t.Fail()
				}
			}))
		})
	}
	others := allTrue("A", "B", "C", "D", created)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if !helpers.IsReady(others) || !helpers.IsConnected(others) || !helpers.IsGatewayProvisioned(others) {
			t.Fail()
		}
	}))
	assert.EqualValues(t, 1, testing.AllocsPerRun(100, func() { helpers.Evaluate(others) }), "the list of the others")
}

// The floors do the least by hand: find the three conditions, or what stock OpenChoreo
// writes, and read the status.
func BenchmarkConditions(b *testing.B) {
	type read = func(*v1alpha1.DataPlane) bool
	stock := helpers.Stock()
	defined := map[string]read{
		"floor": func(dp *v1alpha1.DataPlane) bool {
			return meta.IsStatusConditionTrue(dp.Status.Conditions, ready) && meta.IsStatusConditionTrue(dp.Status.Conditions, connected) &&
				meta.IsStatusConditionTrue(dp.Status.Conditions, gateway)
		},
		"IsReady": func(dp *v1alpha1.DataPlane) bool { return helpers.IsReady(dp) },
		"three-readers": func(dp *v1alpha1.DataPlane) bool {
			return helpers.IsReady(dp) && helpers.IsConnected(dp) && helpers.IsGatewayProvisioned(dp)
		},
		"Evaluate":       func(dp *v1alpha1.DataPlane) bool { return helpers.Evaluate(dp).Ready.Status == yes },
		"Evaluate-Stock": func(dp *v1alpha1.DataPlane) bool { return helpers.Evaluate(dp, stock).Ready.Status == yes },
	}
	byStock := map[string]read{
		"floor": func(dp *v1alpha1.DataPlane) bool {
			if dp.Status.AgentConnection != nil {
				return dp.Status.AgentConnection.Connected
			}
			return meta.IsStatusConditionTrue(dp.Status.Conditions, created)
		},
		"IsReady":        func(dp *v1alpha1.DataPlane) bool { return !helpers.IsReady(dp) },
		"IsReady-Stock":  func(dp *v1alpha1.DataPlane) bool { return helpers.IsReady(dp, stock) },
		"Evaluate":       func(dp *v1alpha1.DataPlane) bool { return helpers.Evaluate(dp).Created.Reported == yes },
		"Evaluate-Stock": func(dp *v1alpha1.DataPlane) bool { return helpers.Evaluate(dp, stock).Ready.Status == yes },
	}
	for _, status := range []struct {
		name  string
		dp    *v1alpha1.DataPlane
		reads map[string]read
	}{
		{"v0.3", stockV03(), byStock},
		{"v1", stockV1(), byStock},
		{"three", allTrue(), defined},
		{"three-and-Created", allTrue(created), defined},
		{"eight", allTrue("A", "B", "C", "D", created), defined},
	} {
		for _, name := range slices.Sorted(maps.Keys(status.reads)) {
			read := status.reads[name]
			b.Run(status.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !read(status.dp) {
						b.Fatal()
					}
				}
			})
		}
	}
}
