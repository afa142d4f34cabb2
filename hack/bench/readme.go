// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// reason says why something is ahead of the SDK, or the SDK far from the floor.
type reason struct {
	row, subject string   // patterns of path.Match
	metrics      []string // all if there are none
	why          string
	// also is a subject whose figure belongs to the reason, as the last %s of why.
	also string
}

// reasons are of what is not mended. The first that matches counts. The README says of what
// has none that it is not explained. How client-go reads JSON is what a CPU profile shows
// (--profile): nearly nine tenths of an informer's time until it has synced.
var reasons = []reason{
	{
		row: "conditions", subject: "apimachinery", also: "sdk, yes or no",
		why: "a report weighs generations, duplicates and deletion, and keeps all that a wait's error tells; `IsOperational`, " +
			"which only answers, takes %s",
	},
	{
		row: "rest-config", subject: "unverified", also: "floor",
		why: "`RESTConfigFor` parses certificates and key, so that an error names the field at fault before there is a request; the " +
			"least that does so takes %s",
	},
	{
		row: "remotes-*", metrics: []string{"heap up", "heap left"}, subject: "client-go",
		why: "the cache keeps the clients; `client-go` throws them away after a request, and their connections stay",
	},
	{
		row: "remotes-*", metrics: []string{"up", "cpu"}, subject: "*",
		why: "each data plane has a transport of its own, which can be closed, and its credentials are verified",
	},
	{
		row: "rotations", metrics: []string{"time", "cpu"}, subject: "*",
		why: "each rotation verifies the new credentials and closes the old connection",
	},
	{
		row: "rotate-informers", metrics: []string{"time"}, subject: "client-go",
		why: "new requests use the new credentials at once; watches are resumed at random within 3.75 s, so that not all ask the API " +
			"server at the same time",
	},
	{
		row: "program*", metrics: []string{"build", "build cpu", "binary", "modules built in"}, subject: "dynamic",
		why: "every typed client imports client-go's discovery, which brings the types of all Kubernetes APIs",
	},
	{
		row: "program", metrics: []string{"modules"}, subject: "dynamic",
		why: "the SDK and the modules that it requires beside those of client-go",
	},
	{
		row: "wait", metrics: []string{"cpu"}, subject: "floor",
		why: "the watch sends the object once more, so that a cache that lags can't end a wait too early",
	},
	{
		row: "wait", metrics: []string{"cpu"}, subject: "*", also: "floor",
		why: "opening a watch costs more than one poll (the least: %s); polls go on every second or two, and are late",
	},
	{
		row: "read-*", subject: "*",
		why: "`lister.DataPlanes(namespace)` allocates, unless the compiler can tell which lister it is, as with the dynamic one here; " +
			"keep what it returns where that matters",
	},
	{
		row: "informer-*", subject: "floor",
		why: "client-go decodes the JSON of each object, in several passes; the floor throws it away",
	},
	{
		row: "latency-*", metrics: []string{"cpu per event"}, subject: "floor",
		why: "client-go decodes the JSON of each event, in several passes; the floor looks for an annotation only",
	},
	{
		row: "apply", metrics: []string{"cpu"}, subject: "floor",
		why: "the answer is decoded, which the floor throws away",
	},
	{
		row: "status", metrics: []string{"cpu"}, subject: "floor",
		why: "the answer is decoded, in which the floor looks for the resource version only",
	},
}

const unexplained = "not explained"

// reasonFor returns the reason for a figure, nil if none is known.
func reasonFor(row, metric, subject string) *reason {
	for i := range reasons {
		r := &reasons[i]
		if matches(r.row, row) && matches(r.subject, subject) && (r.metrics == nil || slices.Contains(r.metrics, metric)) {
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

// farFromFloor is how many times the floor is worth a word.
const farFromFloor = 1.5

// readmeText tells where a peer is ahead in every round, and what is far from the floor.
func readmeText(r *results) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\nMeasured with %s. Figures are medians. The SDK was slower or larger in every round of these rows:\n\n",
		strings.Join(r.Environment.lines(), "; "))
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
		if l.overlaps || r.row(l.row).Rounds < 2 { // a single one shows no spread
			continue
		}
		why := reasonFor(l.row, l.metric, l.peer).text(r.row(l.row), l.metric, l.unit)
		fmt.Fprintf(&out, "| `%s`, %s | %s | %s: %s | %s |\n", l.row, l.metric,
			l.unit.format(l.sdk.Median), l.peer, l.unit.format(l.of.Median), once(why))
	}
	said = ""
	fmt.Fprintf(&out, "\nIn these rows, it takes at least %g times as much as the floor:\n\n", farFromFloor)
	fmt.Fprint(&out, "| row | the SDK | floor | because |\n|---|---|---|---|\n")
	for _, row := range r.Rows {
		floor := row.subject("floor")
		if floor == nil {
			continue
		}
		for _, m := range row.Metrics {
			sdk, least := row.Subjects[0].Figures[m.Name], floor.Figures[m.Name]
			if m.Info || sdk == nil || least == nil {
				continue
			}
			more, less := sdk.Median, least.Median
			if m.More {
				more, less = less, more
			}
			if more <= less || more < farFromFloor*less {
				continue
			}
			why := reasonFor(row.Name, m.Name, "floor").text(row, m.Name, m.Unit)
			fmt.Fprintf(&out, "| `%s`, %s | %s | %s | %s |\n", row.Name, m.Name,
				m.Unit.format(sdk.Median), m.Unit.format(least.Median), once(why))
		}
	}
	if now, later := r.row("remotes-up-down"), r.row("remotes-later"); now != nil && later != nil {
		const left = "heap left"
		fmt.Fprintf(&out, "\nAfter %d data planes are gone, %s of memory remain at first, and %s after %s: Go's HTTP/2 keeps a closed\n"+
			"connection until the timer of its next ping.\n", remoteCount,
			bytesUnit.format(now.Subjects[0].Figures[left].Median), bytesUnit.format(later.Subjects[0].Figures[left].Median), afterwards)
	}
	fmt.Fprint(&out, "\nRows whose rounds overlap, or that have a single round, are only in the table that the command prints.\n")
	return out.String()
}
