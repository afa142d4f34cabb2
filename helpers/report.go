// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// String returns the report in one line, for a log or an error. It shows reasons and
// messages as their controllers wrote them, cut to fit, and nothing of the spec.
func (r Report) String() string {
	return strings.TrimSpace("data plane "+dataplane.Name(r.Namespace, r.Name)) + ": " + r.Summary(time.Time{})
}

// Summary returns the report in one line, like String, without the name, and with the age of
// each condition at now. A zero now shows no ages. Reported types come first; Summary shows at
// most ten types that the API doesn't define.
func (r Report) Summary(now time.Time) string {
	if r.Ready.Code == CodeNoObject || r.Ready.Code == "" { // "" in the zero Report, as of an await.Error
		return "no object"
	}
	var parts, missing []string
	for _, v := range []*Verdict{&r.Ready, &r.Connected, &r.GatewayProvisioned, &r.Created} {
		if v.Code == CodeNotReported && v.From == "" {
			missing = append(missing, v.Type)
		} else {
			parts = append(parts, r.describe(v, now))
		}
	}
	for i := range r.Others[:min(len(r.Others), maxOthers)] {
		parts = append(parts, r.describe(&r.Others[i], now))
	}
	if more := len(r.Others) - maxOthers; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more types", more))
	}
	if from := r.Ready.From; from != "" && r.find(from) == nil {
		missing = append(missing, oneLine(from))
	}
	if len(missing) > 0 {
		parts = append(parts, "not reported: "+strings.Join(missing, ", "))
	}
	return strings.Join(parts, "; ")
}

// describe begins with the verdict. If the verdict differs from the condition, the explanation
// and the reported status follow.
func (r Report) describe(v *Verdict, now time.Time) string {
	text := oneLine(v.Type) + "=" + string(v.Status)
	if v.From != "" {
		text += " by " + oneLine(v.From)
	}
	if v.From != "" && v.From != FromAgentConnection {
		return text // the summary describes that type too
	}
	if why := r.whyNot(v, now); why != "" {
		text += ", " + why
		switch {
		case v.Code == CodeInvalidStatus:
			text += fmt.Sprintf(": reported %q", oneLine(string(v.Reported)))
		case v.Reported != "":
			text += ": reported " + oneLine(string(v.Reported))
		}
	}
	said := slices.DeleteFunc([]string{oneLine(v.Reason), oneLine(v.Message)}, func(s string) bool { return s == "" })
	if len(said) > 0 {
		text += " (" + strings.Join(said, ": ") + ")"
	}
	if age := age(v.LastTransitionTime, now); age >= time.Second {
		text += " for " + duration.HumanDuration(age)
	}
	if v.Duplicated {
		text += ", reported more than once"
	}
	return text
}

// whyNot returns why the verdict differs from the reported status, or "".
func (r Report) whyNot(v *Verdict, now time.Time) string {
	observed := v.ObservedGeneration
	switch v.Code {
	case CodeTerminating:
		return "being deleted"
	case CodeInvalidStatus:
		return "invalid status"
	case CodeStale:
		switch heartbeat := age(v.LastHeartbeatTime, now); {
		case v.From == FromAgentConnection && heartbeat > 0:
			return "stale (last heartbeat " + duration.HumanDuration(heartbeat) + " ago)"
		case v.From == FromAgentConnection:
			return "stale (no recent heartbeat)"
		}
		if observed == 0 || observed >= r.Generation {
			observed = r.ObservedGeneration
		}
		return fmt.Sprintf("stale (observed generation %d of %d)", observed, r.Generation)
	case CodeGenerationAhead:
		return fmt.Sprintf("ahead (observed generation %d of %d)", max(observed, r.ObservedGeneration), r.Generation)
	case CodeUnsettled:
		return "not for long enough"
	case CodeUnverified:
		if v.Status != v.Reported {
			return "observed generation not reported"
		}
	}
	return ""
}

const (
	maxShown  = 256 // characters of a text
	maxOthers = 10  // types that the API doesn't define
)

// oneLine makes another program's text safe to print in one line of a terminal: no control
// characters, no right-to-left overrides, not too long.
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

// MarshalLog implements logr.Marshaler. It returns the fields of the report.
func (r Report) MarshalLog() any { return plainReport(r) }

// LogValue implements slog.LogValuer. It returns a group with the object's name and
// generation, and a group for each condition type.
func (r Report) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("dataplane", dataplane.Name(r.Namespace, r.Name)), slog.Int64("generation", r.Generation)}
	for _, v := range r.Verdicts() {
		attrs = append(attrs, slog.Group(v.Type, "status", v.Status, "code", v.Code, "from", v.From,
			"reported", v.Reported, "reason", v.Reason, "message", v.Message))
	}
	return slog.GroupValue(attrs...)
}
