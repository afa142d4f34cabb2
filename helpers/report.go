// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// String returns the report in one line, for a log or an error. It holds reasons and
// messages as their controllers wrote them, and nothing of the spec.
func (r Report) String() string {
	return fmt.Sprintf("dataplane %s: %s", r.name(), r.summary(time.Time{}))
}

// summary is String without the name, and with ages if there is a now.
func (r Report) summary(now time.Time) string {
	var out strings.Builder
	var others []string
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		if i >= len(definedConditions) {
			others = append(others, fmt.Sprintf("%s=%s", oneLine(v.Type), oneLine(string(v.Reported))))
			continue
		}
		if i > 0 {
			out.WriteString("; ")
		}
		out.WriteString(r.describe(v, now))
	}
	if len(others) > 0 {
		fmt.Fprintf(&out, "; other types: %s", strings.Join(others, ", "))
	}
	if r.Contradictory {
		out.WriteString("; Ready contradicts the others")
	}
	return out.String()
}

func (r Report) name() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}

// describe shows a condition as it is written, and what keeps it from counting as that.
func (r Report) describe(v *Verdict, now time.Time) string {
	switch {
	case v.Code == CodeNoObject:
		return v.Type + ": no object"
	case v.Code == CodeNotReported:
		return v.Type + " not reported"
	case v.Reported == "": // it needs no condition
		return fmt.Sprintf("%s=%s, being deleted", v.Type, v.Status)
	}
	text := fmt.Sprintf("%s=%s", v.Type, oneLine(string(v.Reported)))
	switch {
	case v.Reason != "" && v.Message != "":
		text += fmt.Sprintf(" (%s: %s)", oneLine(v.Reason), oneLine(v.Message))
	case v.Reason != "":
		text += fmt.Sprintf(" (%s)", oneLine(v.Reason))
	}
	if age := v.Age(now); age > 0 {
		text += " for " + duration.HumanDuration(age)
	}
	switch v.Code {
	case CodeStale:
		text += fmt.Sprintf(", observed generation %d of %d (stale)", v.JudgedGeneration, r.Generation)
	case CodeGenerationAhead:
		text += fmt.Sprintf(", observed generation %d of %d (ahead)", v.JudgedGeneration, r.Generation)
	case CodeInvalidStatus:
		text += ", which is no status"
	case CodeTerminating:
		text += ", being deleted"
	case CodeUnsettled:
		text += ", not for long enough"
	case CodeUnverified:
		if v.Status != v.Reported {
			text += ", observed generation not reported"
		}
	}
	if v.Duplicated {
		text += ", reported twice"
	}
	return text
}

// Table returns the report as a table for a person, a line for each condition type, each
// ended by a newline: the verdict and why, and what the condition says. Ages are those at
// now.
func (r Report) Table(now time.Time) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONDITION\tVERDICT\tBECAUSE\tREPORTED\tOBSERVED\tAGE\tREASON\tMESSAGE")
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		observed, age, reported := "-", "-", cell(string(v.Reported))
		if v.JudgedGeneration > 0 {
			observed = fmt.Sprintf("%d of %d", v.JudgedGeneration, r.Generation)
		}
		if !v.LastTransitionTime.IsZero() {
			age = duration.HumanDuration(v.Age(now))
		}
		if v.Duplicated {
			reported += " (twice)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			cell(v.Type), v.Status, v.Code, reported, observed, age, cell(v.Reason), cell(v.Message))
	}
	_ = w.Flush() // to a Builder, which takes everything
	var trimmed strings.Builder
	for line := range strings.Lines(out.String()) {
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	if r.Contradictory {
		trimmed.WriteString("Ready contradicts the others.\n")
	}
	return trimmed.String()
}

func cell(text string) string {
	if text = oneLine(text); text != "" {
		return text
	}
	return "-"
}

// maxShown is how many characters of a message a line shows.
const maxShown = 256

// oneLine makes the text of another program fit to be shown in a line of a terminal: without
// what would move the cursor or write from right to left, and not too long.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, text)
	if utf8.RuneCountInString(text) > maxShown {
		text = string([]rune(text)[:maxShown-1]) + "…"
	}
	return text
}

// plainReport has no methods, so that loggers take its fields.
type plainReport Report

// MarshalLog implements logr.Marshaler; it returns the fields as they are in JSON.
func (r Report) MarshalLog() any { return plainReport(r) }

// LogValue implements slog.LogValuer: a group with the object and an attribute for each
// condition type.
func (r Report) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("dataplane", r.name()), slog.Int64("generation", r.Generation), slog.Bool("contradictory", r.Contradictory),
	}
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		attrs = append(attrs, slog.Group(v.Type,
			slog.String("status", string(v.Status)), slog.String("code", string(v.Code)),
			slog.String("reported", string(v.Reported)), slog.Bool("duplicated", v.Duplicated),
			slog.Int64("judgedGeneration", v.JudgedGeneration), slog.Time("lastTransitionTime", v.LastTransitionTime.Time),
			slog.String("reason", v.Reason), slog.String("message", v.Message)))
	}
	return slog.GroupValue(attrs...)
}

// Operational returns the worst of Ready, Connected and GatewayProvisioned: False when one
// is False, else Unknown when one is Unknown, else True. What is [Optional] and not
// reported is left out; when that leaves nothing, the answer is Unknown.
func (r Report) Operational() metav1.ConditionStatus {
	status, counted := metav1.ConditionTrue, false
	for _, conditionType := range definedConditions {
		verdict := r.Verdict(conditionType)
		if verdict.Optional && verdict.Code == CodeNotReported {
			continue
		}
		status, counted = worse(status, verdict.Status), true
	}
	if !counted {
		return metav1.ConditionUnknown
	}
	return status
}

func worse(a, b metav1.ConditionStatus) metav1.ConditionStatus {
	if badness(a) >= badness(b) {
		return a
	}
	return b
}
