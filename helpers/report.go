// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// String returns the report in one line, for a log or an error. It shows reasons and
// messages as their controllers wrote them, cut to fit, and nothing of the spec.
func (r Report) String() string {
	return strings.TrimSpace("data plane "+r.name()) + ": " + r.Summary(time.Time{})
}

// Summary returns what String does, without the name, and with the age of each condition
// at now. A zero now shows no ages.
func (r Report) Summary(now time.Time) string {
	if r.Ready.Code == CodeNoObject {
		return "no object"
	}
	parts := []string{r.describe(&r.Ready, now), r.describe(&r.Connected, now), r.describe(&r.GatewayProvisioned, now)}
	var others []string
	for i := range r.Others {
		others = append(others, fmt.Sprintf("%s=%s", oneLine(r.Others[i].Type), oneLine(string(r.Others[i].Reported))))
	}
	if len(others) > 0 {
		parts = append(parts, "other types: "+strings.Join(others, ", "))
	}
	return strings.Join(parts, "; ")
}

func (r Report) name() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}

// describe shows a condition as it is written, and why it counts as something else.
func (r Report) describe(v *Verdict, now time.Time) string {
	text := v.Type
	if v.From != "" {
		text += " from " + oneLine(v.From)
	}
	switch {
	case v.Code == CodeNotReported:
		return text + " not reported"
	case v.Reported == "": // Ready of an object that is being deleted
		return fmt.Sprintf("%s=%s, being deleted", text, v.Status)
	}
	text += "=" + oneLine(string(v.Reported))
	switch {
	case v.Reason != "" && v.Message != "":
		text += fmt.Sprintf(" (%s: %s)", oneLine(v.Reason), oneLine(v.Message))
	case v.Reason != "":
		text += fmt.Sprintf(" (%s)", oneLine(v.Reason))
	}
	if age := age(v.LastTransitionTime, now).Truncate(time.Second); age > 0 {
		text += " for " + age.String()
	}
	observed := v.ObservedGeneration
	switch v.Code {
	case CodeStale:
		if observed == 0 || observed >= r.Generation {
			observed = r.ObservedGeneration
		}
		text += fmt.Sprintf(", observed generation %d of %d (stale)", observed, r.Generation)
	case CodeGenerationAhead:
		text += fmt.Sprintf(", observed generation %d of %d (ahead)", max(observed, r.ObservedGeneration), r.Generation)
	case CodeInvalidStatus:
		text += ", which is not a valid status"
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
		text += ", reported more than once"
	}
	return text
}

const maxShown = 256 // characters

// oneLine makes the text of another program safe to print in a line of a terminal: no
// control characters, no right-to-left overrides, not too long.
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

// plainReport has no methods, so that loggers show its fields.
type plainReport Report

// MarshalLog implements logr.Marshaler. It returns the fields as they are in JSON.
func (r Report) MarshalLog() any { return plainReport(r) }

// LogValue implements slog.LogValuer. It returns a group with the object's name and
// generation, and a group for each condition type.
func (r Report) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("dataplane", r.name()), slog.Int64("generation", r.Generation)}
	for _, v := range r.Verdicts() {
		attrs = append(attrs, slog.Group(v.Type, "status", v.Status, "code", v.Code, "from", v.From,
			"reported", v.Reported, "reason", v.Reason, "message", v.Message))
	}
	return slog.GroupValue(attrs...)
}
