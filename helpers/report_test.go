// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	assert.Equal(t, "data plane default/prod: "+
		"Ready=Unknown, stale (observed generation 3 of 4): reported False (AgentUnreachable: dial tcp: refused); "+
		"GatewayProvisioned=True (Tested); Created=True (Tested: as tested); not reported: Connected", report.String())
	assert.Equal(t, "Ready=Unknown, stale (observed generation 3 of 4): reported False (AgentUnreachable: dial tcp: refused) for 4m12s; "+
		"GatewayProvisioned=True (Tested); Created=True (Tested: as tested) for 4m12s; not reported: Connected",
		report.Summary(longAgo.Add(252*time.Second+time.Millisecond)))
	assert.Equal(t, "data plane: no object", helpers.Evaluate(nil).String())
	assert.Equal(t, "data plane: no object", helpers.Report{}.String(), "as in an await.Error without an object")
}

// The object is at generation 4.
func TestReportText(t *testing.T) {
	type conditions = []metav1.Condition
	type options = []helpers.EvaluateOption
	const nothingElse = "; not reported: Connected, GatewayProvisioned, Created"
	for name, test := range map[string]struct {
		conditions conditions
		observed   int64 // of the status
		deleted    bool
		opts       options
		want       string
	}{
		"True":    {conditions: conditions{condition(ready, yes, 4)}, want: "Ready=True (Tested: as tested)" + nothingElse},
		"False":   {conditions: conditions{condition(ready, no, 4)}, want: "Ready=False (Tested: as tested)" + nothingElse},
		"Unknown": {conditions: conditions{condition(ready, unknown, 4)}, want: "Ready=Unknown (Tested: as tested)" + nothingElse},
		"a reason alone": {
			conditions: conditions{{Type: ready, Status: no, Reason: "Tested"}}, want: "Ready=False (Tested)" + nothingElse,
		},
		"a message alone": {
			conditions: conditions{{Type: ready, Status: no, Message: "as tested"}}, want: "Ready=False (as tested)" + nothingElse,
		},
		"no text":      {conditions: conditions{{Type: ready, Status: no}}, want: "Ready=False" + nothingElse},
		"no condition": {want: "not reported: Ready, Connected, GatewayProvisioned, Created"},

		"the condition is stale": {
			conditions: conditions{condition(ready, yes, 3)}, observed: 4,
			want: "Ready=Unknown, stale (observed generation 3 of 4): reported True (Tested: as tested)" + nothingElse,
		},
		"the status is stale": {
			conditions: conditions{condition(ready, yes, 4)}, observed: 2,
			want: "Ready=Unknown, stale (observed generation 2 of 4): reported True (Tested: as tested)" + nothingElse,
		},
		"both are stale": {
			conditions: conditions{condition(ready, yes, 3)}, observed: 2,
			want: "Ready=Unknown, stale (observed generation 3 of 4): reported True (Tested: as tested)" + nothingElse,
		},
		"the status is stale, the condition ahead": {
			conditions: conditions{condition(ready, yes, 6)}, observed: 2,
			want: "Ready=Unknown, stale (observed generation 2 of 4): reported True (Tested: as tested)" + nothingElse,
		},
		"the status is stale, which alone counts": {
			conditions: conditions{condition(ready, yes, 1)}, observed: 3, opts: options{helpers.StatusGenerationOnly()},
			want: "Ready=Unknown, stale (observed generation 3 of 4): reported True (Tested: as tested)" + nothingElse,
		},
		"the condition is ahead": {
			conditions: conditions{condition(ready, yes, 6)},
			want:       "Ready=Unknown, ahead (observed generation 6 of 4): reported True (Tested: as tested)" + nothingElse,
		},
		"the status is ahead": {
			conditions: conditions{condition(ready, yes, 4)}, observed: 5,
			want: "Ready=Unknown, ahead (observed generation 5 of 4): reported True (Tested: as tested)" + nothingElse,
		},
		"no observed generation, which is required": {
			conditions: conditions{condition(ready, no, 0)}, opts: options{helpers.RequireObserved()},
			want: "Ready=Unknown, observed generation not reported: reported False (Tested: as tested)" + nothingElse,
		},
		"an Unknown without an observed generation, which is required": {
			conditions: conditions{condition(ready, unknown, 0)}, opts: options{helpers.RequireObserved()},
			want: "Ready=Unknown (Tested: as tested)" + nothingElse,
		},
		"True for too short a time": {
			conditions: conditions{condition(ready, yes, 4)},
			opts:       options{helpers.StableFor(time.Hour, func() time.Time { return longAgo.Time })},
			want:       "Ready=Unknown, not for long enough: reported True (Tested: as tested)" + nothingElse,
		},
		"an invalid status": {
			conditions: conditions{condition(ready, "Maybe", 4)},
			want:       `Ready=Unknown, invalid status: reported "Maybe" (Tested: as tested)` + nothingElse,
		},
		"an empty status": {
			conditions: conditions{condition(ready, "", 4)}, want: `Ready=Unknown, invalid status: reported "" (Tested: as tested)` + nothingElse,
		},
		"being deleted": {
			conditions: conditions{condition(ready, yes, 4)}, deleted: true,
			want: "Ready=False, being deleted: reported True (Tested: as tested)" + nothingElse,
		},
		"being deleted, without a condition": {deleted: true, want: "Ready=False, being deleted" + nothingElse},
		"twice": {
			conditions: conditions{condition(ready, yes, 4), condition(ready, no, 4)},
			want:       "Ready=False (Tested: as tested), reported more than once" + nothingElse,
		},

		"by another type": {
			conditions: conditions{condition(created, yes, 4)}, opts: options{helpers.ReadyFrom(created)},
			want: "Ready=True by Created; Created=True (Tested: as tested); not reported: Connected, GatewayProvisioned",
		},
		"by a defined type": {
			conditions: conditions{condition(connected, no, 4)}, opts: options{helpers.ReadyFrom(connected)},
			want: "Ready=False by Connected; Connected=False (Tested: as tested); not reported: GatewayProvisioned, Created",
		},
		"by a stale type": {
			conditions: conditions{condition(created, yes, 1)}, opts: options{helpers.ReadyFrom(created)},
			want: "Ready=Unknown by Created; Created=Unknown, stale (observed generation 1 of 4): reported True (Tested: as tested); not reported: Connected, GatewayProvisioned",
		},
		"by a type that is not reported": {
			opts: options{helpers.ReadyFrom(created)}, want: "Ready=Unknown by Created" + nothingElse,
		},
		"by a defined type that is not reported": {
			opts: options{helpers.ReadyFrom(connected)}, want: "Ready=Unknown by Connected" + nothingElse,
		},

		"other types": {
			conditions: conditions{condition("Finalizing", "", 4), condition(created, no, 2)},
			want: `Created=Unknown, stale (observed generation 2 of 4): reported False (Tested: as tested); ` +
				`Finalizing=Unknown, invalid status: reported "" (Tested: as tested); not reported: Ready, Connected, GatewayProvisioned`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := withConditions(4, test.conditions...)
			dp.Status.ObservedGeneration = test.observed
			if test.deleted {
				dp.DeletionTimestamp = &longAgo
			}
			assert.Equal(t, test.want, helpers.Evaluate(dp, test.opts...).Summary(time.Time{}))
		})
	}
}

func TestReportShowsAgesAsKubectlDoes(t *testing.T) {
	report := helpers.Evaluate(withConditions(1, condition(ready, yes, 1)))
	for age, want := range map[time.Duration]string{
		0: "tested);", 999 * time.Millisecond: "tested);", -time.Hour: "tested);",
		90 * time.Second: "tested) for 90s;", 252 * time.Second: "tested) for 4m12s;", 100 * 24 * time.Hour: "tested) for 100d;",
	} {
		assert.Contains(t, report.Summary(longAgo.Add(age)), want)
	}
}

func TestReportShowsSomeOfManyTypes(t *testing.T) {
	dp := withConditions(1)
	for i := range 13 {
		dp.Status.Conditions = append(dp.Status.Conditions, condition(fmt.Sprintf("Type%02d", i), yes, 1))
	}
	text := helpers.Evaluate(dp).String()
	assert.Contains(t, text, "Type09=True (Tested: as tested); 3 more types; not reported: Ready, Connected, GatewayProvisioned, Created")
	assert.Len(t, helpers.Evaluate(dp).Others, 13)
}

// Other programs' text must not reach a terminal as control sequences.
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
