// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// jsonPrinter writes a line for each event.
func jsonPrinter(out io.Writer) func(Event) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	var mu sync.Mutex // each kind has its own informer
	return func(event Event) error {
		mu.Lock()
		defer mu.Unlock()
		return encoder.Encode(event)
	}
}

// textPrinter writes text for people. The wide format adds the target cluster, the generation,
// and the reasons of conditions.
func textPrinter(out io.Writer, wide bool) func(Event) error {
	columns := []string{"TIME", "EVENT", "DATAPLANE", "READY", "CONNECTED", "GATEWAY"}
	if wide {
		columns = append(columns, "GENERATION", "CLUSTER")
	}
	header := row(columns)
	var mu sync.Mutex
	return func(event Event) error {
		mu.Lock()
		defer mu.Unlock()
		columns := []string{
			event.Time.Format("15:04:05"), string(event.Type), nameOf(event),
			state(event, openchoreov1alpha1.DataPlaneConditionReady),
			state(event, openchoreov1alpha1.DataPlaneConditionConnected),
			state(event, openchoreov1alpha1.DataPlaneConditionGatewayProvisioned),
		}
		if wide {
			columns = append(columns, strconv.FormatInt(event.Generation, 10), printable(event.Cluster))
		}
		var text strings.Builder
		text.WriteString(header + row(columns))
		header = ""
		for _, transition := range event.Transitions {
			fmt.Fprintf(&text, "%10s%s: %s → %s", "", transition.Type, transition.From, transition.To)
			if wide {
				text.WriteString(because(event, transition.Type))
			}
			text.WriteString("\n")
		}
		for _, change := range grouped(event.Changes) {
			fmt.Fprintf(&text, "%10s%s %s", "", change.Type, change.Path)
			if len(change.Managers) > 0 {
				text.WriteString(" by " + strings.Join(change.Managers, ", "))
			}
			text.WriteString("\n")
		}
		_, err := io.WriteString(out, text.String())
		return err
	}
}

// grouped joins more than three changes of one type, in one place and by the same managers, such as all fields of a condition.
func grouped(changes []Change) (groups []Change) {
	for len(changes) > 0 {
		first, n := changes[0], 1
		dot := strings.LastIndex(first.Path, ".") + 1
		names := []string{first.Path[dot:]}
		for ; n < len(changes) && changes[n].Type == first.Type && slices.Equal(changes[n].Managers, first.Managers); n++ {
			name, found := strings.CutPrefix(changes[n].Path, first.Path[:dot])
			if !found || strings.Contains(name, ".") {
				break
			}
			names = append(names, name)
		}
		if n > 3 {
			first.Path = first.Path[:dot] + "{" + strings.Join(names, ", ") + "}"
			groups, changes = append(groups, first), changes[n:]
		} else {
			groups, changes = append(groups, first), changes[1:]
		}
	}
	return groups
}

func nameOf(event Event) string {
	if event.Namespace == "" {
		return "clusterdataplane/" + event.Name
	}
	return event.Namespace + "/" + event.Name
}

// row pads columns to their usual widths, because later rows aren't known yet.
func row(columns []string) string {
	var text strings.Builder
	for i, width := range []int{8, 8, 28, 21, 21, 21, 10, 0}[:len(columns)] {
		fmt.Fprintf(&text, "%-*s  ", width, columns[i])
	}
	return strings.TrimRight(text.String(), " ") + "\n"
}

// verdict returns the zero Verdict for a type that isn't in the event.
func (e *Event) verdict(conditionType string) helpers.Verdict {
	for _, verdict := range e.Conditions {
		if verdict.Type == conditionType {
			return verdict
		}
	}
	return helpers.Verdict{}
}

func state(event Event, conditionType string) string {
	verdict := event.verdict(conditionType)
	return State{verdict.Status, verdict.Code}.String()
}

// because returns the reason and message of the condition, if it decided the verdict.
func because(event Event, conditionType string) string {
	verdict := event.verdict(conditionType)
	switch {
	case verdict.Code != helpers.CodeCurrent && verdict.Code != helpers.CodeUnverified:
		return ""
	case verdict.Message == "":
		return ", " + verdict.Reason
	}
	return ", " + verdict.Reason + ": " + printable(verdict.Message)
}

// printable replaces control characters, line breaks among them, in text of other programs.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return ' '
	}, text)
}
