// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"html/template"
	"strings"
)

//go:embed chart.svg.tmpl
var chartTemplate string

// charted are the figures of the chart, from the top.
var charted = []struct {
	row           string
	metric        metric
	label, detail string
}{
	{"wait", metric{Name: "p50", Unit: "s"}, "Wait for Ready", "time from write to return"},
	{"rotate-informers", metric{Name: "received", Unit: "B"}, "Credentials change under informers", "received by 1,000 clients"},
	{"rotate-informers", metric{Name: "first request", Unit: "s"}, "First request after that change", "time"},
	{"status", metric{Name: "cpu", Unit: "s"}, "Patch of a condition", "CPU time"},
	{"takeover", metric{Name: "worst", Unit: "s"}, "Replica is killed", "worst time until its data planes run elsewhere"},
}

// bars are the SDK's median and the best of the others; the longer bar has barWidth.
type bars struct {
	Y                   int
	Label, Detail, Peer string
	SDK, Best           bar
}

type bar struct {
	Width float64
	Text  string
}

const barWidth, chartTop, chartHeight = 240, 56, 50

// chart draws pairs of bars, each pair to its own scale. It leaves out what was not measured.
func (r *results) chart() (string, error) {
	chart := struct {
		Height, Bottom int
		Figures        []bars
		Environment    []string
	}{Environment: strings.Split(r.Environment.String(), "; ")}
	for _, c := range charted {
		for _, row := range r.Rows {
			if row.Name != c.row {
				continue
			}
			m, peer, best := c.metric, "", 0.0
			for i := range row.Subjects[1:] {
				s := &row.Subjects[i+1]
				if sample := s.sample(m); sample != nil && s.Name != "floor" && (peer == "" || median(sample.Values) < best) {
					peer, best = s.Name, median(sample.Values)
				}
			}
			sdk := median(row.Subjects[0].Rounds[m.Name])
			of := func(v float64) bar { return bar{barWidth * v / max(sdk, best), format(m, v)} }
			chart.Figures = append(chart.Figures, bars{chartTop + chartHeight*len(chart.Figures), c.label, c.detail, peer, of(sdk), of(best)})
		}
	}
	if len(chart.Figures) == 0 {
		return "", errors.New("nothing that the chart shows was measured")
	}
	chart.Bottom = chartTop + chartHeight*len(chart.Figures)
	chart.Height = chart.Bottom + 40
	t, err := template.New("chart").Parse(chartTemplate)
	if err != nil {
		return "", err
	}
	var svg strings.Builder
	err = t.Execute(&svg, chart)
	return svg.String(), err
}
