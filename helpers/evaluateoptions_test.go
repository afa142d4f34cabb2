// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

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
		"a missing type is Unknown": {
			conditions: conditions{condition(created, yes, 2)}, from: []string{created, connected},
			want: unknown, code: helpers.CodeNotReported, wantFrom: connected,
		},
		"a stale type is Unknown": {
			conditions: conditions{condition(created, yes, 1)}, from: []string{created},
			want: unknown, code: helpers.CodeStale, wantFrom: created,
		},
		"a reported Ready counts": {
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
