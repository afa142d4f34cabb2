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

// reason says what a user notices where something is ahead of the SDK, or the SDK far from the
// floor, and why.
type reason struct {
	row, subject string   // patterns of path.Match
	metrics      []string // all if there are none
	why          string
	// also is a subject whose figure belongs to the reason, as the last %s of why.
	also string
}

// reasons explain the rows of the page in docs: what the SDK does more, and what a user
// feels of it. The first that matches counts. The page says of a row without one that it is not
// explained. Shares of CPU time are those of profiles (--profile).
var reasons = []reason{
	{
		row: "rest-config", subject: "unverified", also: "floor",
		why: "an error that names the field before there is a request: `RESTConfigFor` parses certificates and key. The least that " +
			"does so takes %s. A `remote.Cache` pays it when credentials change",
	},
	{
		row: "fleet", metrics: []string{"start", "cpu", "heap", "goroutines"}, subject: "by hand",
		why: "about 5 kB, a goroutine and 0.3 ms more for each data plane: 1 kB and the goroutine are the Fleet's, to follow changes " +
			"and retry, and most other memory the Cluster's, to rotate. See below for the time",
	},
	{
		row: "fleet", metrics: []string{"stop"}, subject: "by hand",
		why: "nothing: 74 % of closing a Cluster is the close_notify of TLS, which the code by hand doesn't send",
	},
	{
		row: "remotes-up-down", metrics: []string{"heap up"}, subject: "mutex and map",
		why: "a few kB more for each data plane: 2.6 kB are the Cluster and its session, and the rest.Config that Update compares with",
	},
	{
		row: "rotate-informers", metrics: []string{"time"}, subject: "client-go",
		why: "watches that use the new credentials seconds later: they resume at random within 3.75 s, so that not all ask the API " +
			"server at the same time. Other requests use them at once",
	},
	{
		row: "program*", metrics: []string{"build", "build cpu", "binary", "modules built in"}, subject: "dynamic",
		why: "longer builds and larger binaries: every typed client imports client-go's discovery, which brings the types of all " +
			"Kubernetes APIs",
	},
	{
		row: "program", metrics: []string{"modules"}, subject: "dynamic",
		why: "a longer `go.sum`: the SDK, and the modules that it requires beside those of client-go",
	},
	{
		row: "wait", metrics: []string{"cpu"}, subject: "floor",
		why: "nothing: 37 % of the CPU time is a second get and the watch's first event, so that a cache that lags can't end a wait too early",
	},
	{
		row: "wait", metrics: []string{"cpu"}, subject: "*", also: "floor",
		why: "nothing unless waits are many and short: a poll is one get, 17 %% of the SDK's CPU time; the least with a watch takes %s. " +
			"Polls notice late, by half their interval on average",
	},
	{
		row: "read-*", subject: "*",
		why: "a little garbage in loops over many objects: `lister.DataPlanes(namespace)` allocates 64 bytes, except where the compiler " +
			"can tell which lister it is. Call it once, before the loop. Get allocates its key",
	},
	{
		row: "informer-*-list", metrics: []string{"peak heap", "peak memory"}, subject: "controller-runtime",
		why: "more memory in some starts, by chance: it depends on when a garbage collection comes while client-go copies a list. See below",
	},
	{
		row: "informer-*", subject: "floor",
		why: "time at the start of a program: of a list's CPU time, client-go takes 41 % to read and decompress it and 37 % to decode it; " +
			"of a watch's, 79 % to decode it, which scans each byte ten times. The floor throws it away",
	},
	{
		row: "latency-*", metrics: []string{"cpu per event"}, subject: "floor",
		why: "CPU time for each write by anybody: client-go's decoder scans each byte of an event ten times; the floor only looks " +
			"for an annotation",
	},
	{
		row: "apply", metrics: []string{"cpu"}, subject: "floor",
		why: "the stored object as a Go value: 32 % of the CPU time decodes the answer, which the floor throws away; 13 % is garbage collection",
	},
	{
		row: "status", metrics: []string{"cpu"}, subject: "floor",
		why: "the stored object as a Go value: 26 % of the CPU time decodes the answer, in which the floor looks for the resource version " +
			"only; 11 % is garbage collection",
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
	pageBegin = "<!-- Written by hack/bench.sh --docs from here: -->\n"
	pageEnd   = "<!-- to here. -->\n"
)

// updatePage writes the tables of the page between its marks.
func updatePage(file string, r *results) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(data), pageBegin)
	_, after, ends := strings.Cut(rest, pageEnd)
	if !begins || !ends {
		return fmt.Errorf("%s has no marks %q and %q", file, strings.TrimSpace(pageBegin), strings.TrimSpace(pageEnd))
	}
	return os.WriteFile(file, []byte(before+pageBegin+pageText(r)+pageEnd+after), 0o644)
}

// farFromFloor is how many times the floor is worth a word.
const farFromFloor = 1.5

// pageText tells where a peer is ahead by more than the spread, and what is far from the floor.
func pageText(r *results) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\nMeasured with %s. Figures are medians.\n\n## Where others are ahead\n\n"+
		"In these rows, the SDK was slower or larger. Neither median is within the rounds of the other:\n\n",
		strings.Join(r.Environment.lines(), "; "))
	fmt.Fprint(&out, "| row of `hack/bench.sh` | the SDK | ahead of it | what you notice, and why |\n|---|---|---|---|\n")
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
	fmt.Fprintf(&out, "\n## Where the least is far less\n\nIn these rows, the SDK takes at least %g times as much as the floor:\n\n", farFromFloor)
	fmt.Fprint(&out, "| row | the SDK | floor | what you notice, and why |\n|---|---|---|---|\n")
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
	fmt.Fprint(&out, "\nWhere a median is within the rounds of the other, or less than a twentieth away, the row is only in the table that the command prints.\n")
	return out.String()
}
