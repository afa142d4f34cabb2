// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

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
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func unreachable() *v1alpha1.DataPlane {
	notReady := condition(ready, no, 3)
	notReady.Reason, notReady.Message = "AgentUnreachable", "dial tcp:\nrefused"
	provisioned := condition(gateway, yes, 4)
	provisioned.Message, provisioned.LastTransitionTime = "", metav1.NewTime(longAgo.Add(time.Hour))
	return withConditions(4, condition(created, yes, 4), notReady, provisioned)
}

func TestReportInOneLine(t *testing.T) {
	report := helpers.Evaluate(unreachable())
	assert.Equal(t, "data plane default/prod: Ready=False (AgentUnreachable: dial tcp: refused), observed generation 3 of 4 (stale); "+
		"Connected not reported; GatewayProvisioned=True (Tested); other types: Created=True", report.String())
	assert.Equal(t, "Ready=False (AgentUnreachable: dial tcp: refused) for 4m12s, observed generation 3 of 4 (stale); "+
		"Connected not reported; GatewayProvisioned=True (Tested); other types: Created=True",
		report.Summary(longAgo.Add(252*time.Second+time.Millisecond)))
	assert.Equal(t, "data plane: no object", helpers.Evaluate(nil).String())
}

func TestReportSaysWhyAConditionDoesNotCount(t *testing.T) {
	unreported := condition(ready, yes, 0)
	unreported.Reason, unreported.Message = "", ""
	for name, test := range map[string]struct {
		conditions []metav1.Condition
		observed   int64 // of the status; the object is at generation 4
		deleted    bool
		opts       []helpers.EvaluateOption
		want       string
	}{
		"condition behind":   {conditions: []metav1.Condition{condition(ready, yes, 3)}, observed: 4, want: "observed generation 3 of 4 (stale)"},
		"status behind":      {conditions: []metav1.Condition{condition(ready, yes, 4)}, observed: 2, want: "observed generation 2 of 4 (stale)"},
		"both behind":        {conditions: []metav1.Condition{condition(ready, yes, 3)}, observed: 2, want: "observed generation 3 of 4 (stale)"},
		"status ahead":       {conditions: []metav1.Condition{condition(ready, yes, 4)}, observed: 5, want: "observed generation 5 of 4 (ahead)"},
		"condition ahead":    {conditions: []metav1.Condition{condition(ready, yes, 6)}, want: "observed generation 6 of 4 (ahead)"},
		"of different minds": {conditions: []metav1.Condition{condition(ready, yes, 6)}, observed: 2, want: "observed generation 2 of 4 (stale)"},
		"only the status counts": {
			conditions: []metav1.Condition{condition(ready, yes, 1)}, observed: 3, opts: []helpers.EvaluateOption{helpers.StatusGenerationOnly()},
			want: "observed generation 3 of 4 (stale)",
		},
		"not observed": {
			conditions: []metav1.Condition{unreported}, opts: []helpers.EvaluateOption{helpers.RequireObserved()},
			want: "Ready=True, observed generation not reported;",
		},
		"invalid": {conditions: []metav1.Condition{condition(ready, "Maybe", 4)}, want: "Ready=Maybe (Tested: as tested), which is not a valid status;"},
		"unsettled": {
			conditions: []metav1.Condition{condition(ready, yes, 4)},
			opts:       []helpers.EvaluateOption{helpers.StableFor(time.Hour, func() time.Time { return longAgo.Time })},
			want:       "Ready=True (Tested: as tested), not for long enough;",
		},
		"twice": {
			conditions: []metav1.Condition{condition(ready, yes, 4), condition(ready, no, 4)},
			want:       "Ready=False (Tested: as tested), reported more than once;",
		},
		"deleted":                {conditions: []metav1.Condition{condition(ready, yes, 4)}, deleted: true, want: "Ready=True (Tested: as tested), being deleted;"},
		"deleted and unreported": {deleted: true, want: "Ready=False, being deleted;"},
	} {
		t.Run(name, func(t *testing.T) {
			dp := withConditions(4, test.conditions...)
			dp.Status.ObservedGeneration = test.observed
			if test.deleted {
				dp.DeletionTimestamp = &longAgo
			}
			assert.Contains(t, helpers.Evaluate(dp, test.opts...).String(), test.want)
		})
	}
}

// Text of other programs must not reach a terminal as commands.
func TestReportIsSafeToPrint(t *testing.T) {
	dp := allTrue()
	dp.Status.Conditions[2].Message = "\x1b[2J\x1b]0;title\a hi\u202e\xff" + strings.Repeat("x", 40_000)
	dp.Status.Conditions = append(dp.Status.Conditions, condition("\x1b[2J", "\x1b[2J", 1))
	text := helpers.Evaluate(dp, helpers.ReadyFrom("\x1b[2J")).String()
	for _, r := range text {
		require.True(t, unicode.IsPrint(r), "%q", r)
	}
	assert.True(t, utf8.ValidString(text))
	assert.Less(t, len(text), 1000)
	assert.Contains(t, text, "xxx…")
}

func TestReportForToolsAndLoggers(t *testing.T) {
	report := helpers.Evaluate(unreachable(), helpers.ReadyFrom(created))
	data, err := json.Marshal(report)
	require.NoError(t, err)
	var read helpers.Report
	require.NoError(t, json.Unmarshal(data, &read))
	assert.Equal(t, report.String(), read.String())
	logged, err := json.Marshal(report.MarshalLog())
	require.NoError(t, err)
	assert.JSONEq(t, string(data), string(logged))

	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "report", report)
	assert.Contains(t, out.String(), "report.dataplane=default/prod")
	assert.Contains(t, out.String(), "report.Ready.status=Unknown report.Ready.code=Stale")
	assert.Contains(t, out.String(), `report.Ready.message="dial tcp:\nrefused"`)
}
