// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"html/template"
	"os"
	"strings"
)

//go:embed chart.svg.tmpl
var chartTemplate string

// charted are the figures of the chart, from the top. A * stands for a number of objects, of which
// the largest is shown, and %s for that number in the label.
var charted = []struct{ row, metric, label, detail string }{
	{"informer-*-watchlist", "time", "Informer of %s", "time until synced"},
	{"informer-*-list", "peak heap", "Informer of %s", "peak heap, by a list"},
	{"latency-100", "cpu per event", "Event of a watch", "CPU time"},
	{"wait", "p50", "Wait for Ready", "time from write to return"},
	{"rotate-informers", "received", "Credentials change under informers", "received by 1,000 clients"},
	{"rotate-informers", "first request", "First request after that change", "time"},
	{"takeover", "worst", "Replica is killed", "worst time until its data planes run elsewhere"},
}

// bars are a figure of the chart: that of the SDK, and that of the best of the others.
type bars struct {
	Y             int
	Label, Detail string
	Peer          string
	SDK, Best     bar
}

type bar struct {
	Width float64 // the longer of two has barWidth
	Text  string
}

const (
	barWidth    = 240
	chartTop    = 56
	chartHeight = 50 // of a figure
)

// drawChart draws pairs of bars, each pair to its own scale. It leaves out what was not measured.
func drawChart(file string, r *results) error {
	chart := struct {
		Height, Bottom int
		Figures        []bars
		Environment    []string
	}{Environment: strings.Split(r.Environment.summary(), "; ")}
	for _, c := range charted {
		row := r.largest(c.row)
		if row == nil {
			continue
		}
		sdk, peer, best := row.Subjects[0].Figures[c.metric], "", (*figure)(nil)
		for _, s := range row.Subjects[1:] {
			if f := s.Figures[c.metric]; f != nil && !s.Aside && (best == nil || f.Median < best.Median) {
				peer, best = s.Name, f
			}
		}
		if sdk == nil || best == nil || max(sdk.Median, best.Median) <= 0 {
			continue
		}
		of := func(f *figure) bar {
			return bar{barWidth * max(0, f.Median) / max(sdk.Median, best.Median), row.metric(c.metric).Unit.format(f.Median)}
		}
		chart.Figures = append(chart.Figures, bars{
			Y: chartTop + chartHeight*len(chart.Figures), Label: strings.ReplaceAll(c.label, "%s", group(row.Objects)+" DataPlanes"),
			Detail: c.detail, Peer: peer, SDK: of(sdk), Best: of(best),
		})
	}
	if len(chart.Figures) == 0 {
		return errors.New("nothing of what it shows was measured")
	}
	chart.Bottom = chartTop + chartHeight*len(chart.Figures)
	chart.Height = chart.Bottom + 40
	t, err := template.New("chart").Parse(chartTemplate)
	if err != nil {
		return err
	}
	var svg strings.Builder
	if err := t.Execute(&svg, chart); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(svg.String()), 0o644)
}
