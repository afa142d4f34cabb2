// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"text/template"
)

//go:embed scale.md.tmpl
var scaleTemplate string

// What the page extends the figures to.
const (
	scalePlanes   = 100_000
	scaleWrites   = 1_000 // a second
	scaleReplicas = 4     // of which each leads its part of the shards
)

// writeScale writes the page that extends the figures of a run.
func writeScale(file string, r *results) error {
	page, err := newScalePage(r)
	if err != nil {
		return err
	}
	t, err := template.New("scale").Option("missingkey=error").Parse(scaleTemplate)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := t.Execute(&text, page); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text.String()), 0o644)
}

// scalePage is what the template takes.
type scalePage struct {
	Environment []string
	Counts      string
	Planes      string
	Writes      string
	Replicas    int
	Lines       []scaleLine
	Events      []scaleLine
	Shard       []scaleLine
}

// scaleLine is a line of a table.
type scaleLine struct {
	What             string
	PerObject, Fixed string
	R2               string
	All, Sharded     string
}

func newScalePage(r *results) (*scalePage, error) {
	const mode = "watchlist"
	page := &scalePage{
		Environment: r.Environment.lines(),
		Planes:      group(scalePlanes), Writes: group(scaleWrites), Replicas: scaleReplicas,
	}
	var counts []string
	for _, metric := range []struct{ name, label string }{
		{"time", "time until synced"},
		{"cpu", "CPU time until synced"},
		{"received", "received until synced"},
		{"peak heap", "peak heap"},
		{"settled heap", "settled heap"},
	} {
		g := r.find(mode, "sdk", metric.name)
		if g == nil {
			return nil, fmt.Errorf("needs informers of two numbers of objects at least; %s was not measured", metric.name)
		}
		if counts == nil {
			for _, n := range g.Counts {
				counts = append(counts, group(n))
			}
		}
		page.Lines = append(page.Lines, scaleLine{
			What: metric.label, PerObject: g.Unit.format(g.PerObject), Fixed: g.Unit.format(g.Fixed), R2: fmt.Sprintf("%.3f", g.R2),
			All: g.Unit.format(g.at(scalePlanes)), Sharded: g.Unit.format(g.at(scalePlanes / scaleReplicas)),
		})
	}
	page.Counts = strings.Join(counts, ", ")

	events := r.row("latency-100")
	if events == nil {
		return nil, errors.New("needs the row latency-100")
	}
	for _, metric := range []struct {
		name, label string
		unit        unit
		suffix      string
	}{
		{"cpu per event", "CPU time of an event", seconds, " of CPU a second"},
		{"received per event", "received by an event", bytesUnit, "/s"},
	} {
		f := events.Subjects[0].Figures[metric.name]
		if f == nil {
			return nil, fmt.Errorf("%s was not measured", metric.name)
		}
		page.Events = append(page.Events, scaleLine{
			What: metric.label, PerObject: metric.unit.format(f.Median),
			All:     metric.unit.format(f.Median*scaleWrites) + metric.suffix,
			Sharded: metric.unit.format(f.Median*scaleWrites/scaleReplicas) + metric.suffix,
		})
	}
	for _, row := range r.Rows {
		if !strings.HasPrefix(row.Name, "informer-") || !strings.HasSuffix(row.Name, mode) {
			continue
		}
		part := row.subject("sdk, one shard of 4")
		for _, name := range []string{"objects", "received", "settled heap"} {
			all, one := row.Subjects[0].Figures[name], part.Figures[name]
			if all == nil || one == nil {
				continue
			}
			u := bytesUnit
			if name == "objects" {
				u = count
			}
			page.Shard = append(page.Shard, scaleLine{
				What: group(row.Objects) + ": " + name, All: u.format(all.Median), Sharded: u.format(one.Median),
				PerObject: fmt.Sprintf("%.0f %%", 100*one.Median/all.Median),
			})
		}
	}
	return page, nil
}

// at extends the line to n objects.
func (g *growth) at(n int) float64 { return math.Max(0, g.Fixed) + g.PerObject*float64(n) }

// group writes 100000 as 100,000.
func group(n int) string {
	digits := strconv.Itoa(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
