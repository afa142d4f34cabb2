// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// reason says why something is ahead of the SDK, or the SDK far from the floor.
type reason struct {
	row, metric, subject string // patterns of path.Match
	why                  string
	// also is a subject whose figure belongs to the reason, as the last %s of why.
	also string
}

// reasons are those that profiles have shown, and that nothing in the SDK can mend. The
// first that matches counts. The README says of what has none that it is not explained.
var reasons = []reason{
	{
		row: "conditions", metric: "*", subject: "apimachinery", also: "sdk, yes or no",
		why: "a report weighs generations, duplicates and deletion, and keeps all that a wait's error tells; `IsOperational`, " +
			"which only answers, takes %s",
	},
	{
		row: "rest-config", metric: "*", subject: "unverified", also: "floor",
		why: "`RESTConfigFor` parses certificates and key, so that an error names the field at fault before there is a request; the " +
			"least that does so takes %s",
	},
	{row: "client-get-*", metric: "*", subject: "*", why: "`ClientCache.Get` compares UID and credentials each time, and so notices when they change"},
	{
		row: "remotes-*", metric: "heap up", subject: "client-go",
		why: "the cache keeps the clients; those of client-go are thrown away after a request, and their connections stay",
	},
	{
		row: "remotes-*", metric: "*", subject: "*",
		why: "each data plane has a transport of its own, which can be closed, and its credentials are verified",
	},
	{
		row: "rotations", metric: "*", subject: "*",
		why: "each rotation verifies the new credentials, and closes what was opened with the old ones",
	},
	{
		row: "program*", metric: "*", subject: "dynamic",
		why: "every typed client imports client-go's discovery, which brings the types of all Kubernetes APIs",
	},
	{
		row: "wait", metric: "cpu", subject: "floor",
		why: "the object comes once more when the watch is open, so that no cache that lags can end a wait falsely",
	},
	{
		row: "wait", metric: "cpu", subject: "*",
		why: "a watch costs one event more than a poll of an object; polls cost that again every second, and are late",
	},
	{
		row: "read-*", metric: "*", subject: "*",
		why: "the lister of a namespace, by client-go, is an allocation and a call more; keep `lister.DataPlanes(namespace)` where it matters",
	},
	{
		row: "informer-*", metric: "*", subject: "floor",
		why: "client-go reads the JSON of an object up to five times until it is decoded",
	},
	{
		row: "latency-*", metric: "cpu per event", subject: "floor",
		why: "client-go reads the JSON of an event up to five times until it is decoded; the floor looks for an annotation only",
	},
	{
		row: "apply", metric: "cpu", subject: "floor",
		why: "the answer is decoded, which the floor throws away",
	},
	{
		row: "status", metric: "cpu", subject: "floor",
		why: "the answer is decoded, in which the floor looks for the resource version only",
	},
}

const unexplained = "not explained"

// reasonFor returns the reason for a figure, nil if none is known.
func reasonFor(row, metric, subject string) *reason {
	for i := range reasons {
		r := &reasons[i]
		if matches(r.row, row) && matches(r.metric, metric) && matches(r.subject, subject) {
			return r
		}
	}
	return nil
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// text is the reason with the figure that belongs to it.
func (r *reason) text(row *result, metric string, u unit) string {
	if r == nil {
		return unexplained
	}
	if r.also == "" {
		return r.why
	}
	figure := "–"
	if s := row.subject(r.also); s != nil && s.Figures[metric] != nil {
		figure = u.format(s.Figures[metric].Median)
	}
	return fmt.Sprintf(r.why, figure)
}

const (
	readmeBegin = "<!-- Written by hack/bench.sh --docs from here: -->\n"
	readmeEnd   = "<!-- to here. -->\n"
)

// updateReadme writes what is behind between the marks in a file.
func updateReadme(file string, r *results) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(data), readmeBegin)
	_, after, ends := strings.Cut(rest, readmeEnd)
	if !begins || !ends {
		return fmt.Errorf("%s has no marks %q and %q", file, strings.TrimSpace(readmeBegin), strings.TrimSpace(readmeEnd))
	}
	return os.WriteFile(file, []byte(before+readmeBegin+readmeText(r)+readmeEnd+after), 0o644)
}

// farFromFloor is how many times as much as the floor is worth a word.
const farFromFloor = 1.5

// readmeText tells where a peer is ahead in every round, and what is far from the floor.
func readmeText(r *results) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\nMeasured with %s. Medians; in all rounds, the SDK was behind here:\n\n", r.Environment.summary())
	fmt.Fprint(&out, "| row of `hack/bench.sh` | the SDK | ahead of it | because |\n|---|---|---|---|\n")
	said := ""
	once := func(why string) string { // says a reason in the first of several lines
		if said == why && why != unexplained {
			return "as above"
		}
		said = why
		return why
	}
	for _, l := range r.lags() {
		if l.overlaps {
			continue
		}
		why := reasonFor(l.row, l.metric, l.peer).text(r.row(l.row), l.metric, l.unit)
		fmt.Fprintf(&out, "| `%s`, %s | %s | %s: %s | %s |\n", l.row, l.metric,
			l.unit.format(l.sdk.Median), l.peer, l.unit.format(l.of.Median), once(why))
	}
	said = ""
	fmt.Fprintf(&out, "\nAnd here it takes %g times as much as the least that the work takes, or more:\n\n", farFromFloor)
	fmt.Fprint(&out, "| row | the SDK | floor | because |\n|---|---|---|---|\n")
	for _, row := range r.Rows {
		floor := row.subject("floor")
		if floor == nil {
			continue
		}
		for _, m := range row.Metrics {
			sdk, least := row.Subjects[0].Figures[m.Name], floor.Figures[m.Name]
			if m.Info || sdk == nil || least == nil || sdk.Median < farFromFloor*least.Median {
				continue
			}
			why := reasonFor(row.Name, m.Name, "floor").text(row, m.Name, m.Unit)
			fmt.Fprintf(&out, "| `%s`, %s | %s | %s | %s |\n", row.Name, m.Name,
				m.Unit.format(sdk.Median), m.Unit.format(least.Median), once(why))
		}
	}
	fmt.Fprint(&out, "\nWhere the rounds of both overlap, the table that the command prints says so.\n")
	return out.String()
}
