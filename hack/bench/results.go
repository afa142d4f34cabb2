// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"
	"golang.org/x/perf/benchunit"
)

// results are the figures of one run.
type results struct {
	Environment environment
	Rows        []*row
}

// environment is the versions and the machine, on which figures depend.
type environment struct {
	Modules    string  `json:"modules"`
	Kubernetes string  `json:"kubernetes,omitempty"`
	Machine    string  `json:"machine"`
	Load       float64 `json:"load"` // the load average of the minute before the run; 0 if unknown
}

func newEnvironment() environment {
	cpu, _ := exec.Command("sh", "-c", "sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1; sysctl -n machdep.cpu.brand_string 2>/dev/null").Output()
	e := environment{
		Modules: fmt.Sprintf("apimachinery %s, client-go %s, controller-runtime %s",
			version("k8s.io/apimachinery"), version("k8s.io/client-go"), version("sigs.k8s.io/controller-runtime")),
		Machine: fmt.Sprintf("%s %s/%s, %d cores, %s", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), bytes.TrimSpace(cpu)),
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(load), &e.Load)
	}
	return e
}

// busy returns an error if other programs use the machine.
func (e *environment) busy() error {
	if cores := runtime.GOMAXPROCS(0); e.Load > float64(cores)/2 {
		return fmt.Errorf("the machine is busy, with a load of %.1f on %d cores", e.Load, cores)
	}
	return nil
}

func (e *environment) String() string {
	modules := e.Modules
	if e.Kubernetes != "" {
		modules = "Kubernetes " + e.Kubernetes + ", " + modules
	}
	return modules + "; " + e.Machine
}

// lines returns a line of JSON for the environment and for each row, in the format of readResults.
func (r *results) lines() (string, error) {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(r.Environment)
	for _, row := range r.Rows {
		err = errors.Join(err, encoder.Encode(row))
	}
	return out.String(), err
}

func readResults(file string) (*results, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &results{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	err = decoder.Decode(&r.Environment)
	for err == nil && decoder.More() {
		row := &row{}
		err = decoder.Decode(row)
		r.Rows = append(r.Rows, row)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// sample returns the rounds of a metric.
func (s *subject) sample(m metric) *benchmath.Sample {
	// Two samples of three rounds without overlap have p = 0.1.
	return benchmath.NewSample(slices.Clone(s.Rounds[m.Name]), &benchmath.Thresholds{CompareAlpha: 0.101})
}

func median(data []float64) float64 {
	sample := benchmath.NewSample(slices.Clone(data), &benchmath.DefaultThresholds)
	return benchmath.AssumeNothing.Summary(sample, 0.95).Center
}

// tables returns a Markdown table for each row: medians, the least and the most of the rounds, and the
// ratios to the SDK's median.
func (r *results) tables() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured with %s. A figure is the median of the rounds (least–most), then its ratio to the SDK's; `~` marks a difference "+
		"that may be chance (Mann-Whitney U, p > 0.1).\n", &r.Environment)
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "\n### %s\n\n%s%s.\n\n", row.Name, strings.ToUpper(row.Title[:1]), row.Title[1:])
		head, line := "| |", "|---|"
		for _, s := range row.Subjects {
			fmt.Fprintf(&b, "- %s: %s\n", s.Name, s.How)
			head, line = head+" "+s.Name+" |", line+"---|"
		}
		fmt.Fprintf(&b, "\n%s\n%s\n", head, line)
		for _, m := range row.Metrics {
			name := m.Name
			if m.More {
				name += " (more is better)"
			}
			fmt.Fprintf(&b, "| %s |", name)
			for i := range row.Subjects {
				fmt.Fprintf(&b, " %s |", row.figure(m, i))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// figure returns one cell of a table.
func (r *row) figure(m metric, i int) string {
	sample, sdk := r.Subjects[i].sample(m), r.Subjects[0].sample(m)
	text := format(m, sample.Values...)
	if i == 0 || median(sdk.Values) <= 0 {
		return text
	}
	text += fmt.Sprintf(", %.2f×", median(sample.Values)/median(sdk.Values))
	if c := benchmath.AssumeNothing.Compare(sample, sdk); c.P > c.Alpha && len(sample.Values) > 1 {
		text += " ~"
	}
	return text
}

// format returns the median of data with its unit, and the least and the most if they differ.
func format(m metric, data ...float64) string {
	middle, least, most := median(data), slices.Min(data), slices.Max(data)
	number := func(v float64) string { return fmt.Sprintf("%.5g", v) }
	var unit string
	if m.Unit != "" {
		scale := benchunit.CommonScale([]float64{middle, least, most}, benchunit.Decimal)
		number = func(v float64) string { return strings.TrimSuffix(scale.Format(v), scale.Prefix) }
		unit = " " + scale.Prefix + m.Unit
	}
	if least == most {
		return number(middle) + unit
	}
	return fmt.Sprintf("%s%s (%s–%s)", number(middle), unit, number(least), number(most))
}

// The tables of docs/benchmarks.md are between these marks.
const pageBegin, pageEnd = "<!-- Written by hack/bench.sh --docs from here: -->\n\n", "<!-- to here. -->\n"

// docs returns the content of the files that the repository keeps from a run, by their paths.
func (r *results) docs(root string) (map[string]string, error) {
	page := filepath.Join(root, "docs", "benchmarks.md")
	old, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	before, rest, begins := strings.Cut(string(old), pageBegin)
	_, after, ends := strings.Cut(rest, pageEnd)
	if !begins || !ends {
		return nil, fmt.Errorf("%s has no marks for the tables", page)
	}
	chart, chartErr := r.chart()
	lines, err := r.lines()
	return map[string]string{
		page:                                     before + pageBegin + r.tables() + pageEnd + after,
		filepath.Join(root, "docs", "bench.svg"): chart,
		filepath.Join(root, "hack", "bench", "results.json"): lines,
	}, errors.Join(chartErr, err)
}

//go:embed chart.svg.tmpl
var chartTemplate string

// charted are the figures of the chart, from the top.
var charted = []struct {
	row           string
	subject       int // which subject is the SDK's
	metric        metric
	label, detail string
}{
	{"wait", 0, metric{Name: "p50", Unit: "s"}, "Wait for Ready", "time from write to return"},
	{"rotate-informers", 0, metric{Name: "received", Unit: "B"}, "Credentials change under informers", "received by 1,000 clients"},
	{"takeover", 0, metric{Name: "worst", Unit: "s"}, "Replica is killed", "worst time until its data planes run elsewhere"},
	{"dead-clusters", 0, metric{Name: "late p99", Unit: "s"}, "10 of 100 data planes don't answer", "99th percentile of how late others are visited"},
	{"gateway-watch", 0, metric{Name: "mean", Unit: "s"}, "Change behind the cluster gateway", "mean time until a program has it"},
	{"informer", 2, metric{Name: "settled heap", Unit: "B"}, "10,000 DataPlanes without credentials", "heap; the other keeps the credentials"},
}

// bars are a pair of bars: the SDK's median and the best of the others. The longer bar has barWidth.
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

// chart returns an SVG with pairs of bars, each pair to its own scale. It leaves out rows that weren't
// measured.
func (r *results) chart() (string, error) {
	var figures []bars
	y := chartTop
	for _, c := range charted {
		for _, row := range r.Rows {
			if row.Name != c.row {
				continue
			}
			of := func(s subject) float64 { return median(s.Rounds[c.metric.Name]) }
			others := slices.DeleteFunc(slices.Clone(row.Subjects), func(s subject) bool { return s.Name == "floor" || strings.HasPrefix(s.Name, "sdk") })
			peer := slices.MinFunc(others, func(a, b subject) int { return cmp.Compare(of(a), of(b)) })
			sdk, best := of(row.Subjects[c.subject]), of(peer)
			draw := func(v float64) bar { return bar{max(2, barWidth*v/max(sdk, best)), format(c.metric, v)} }
			figures = append(figures, bars{y, c.label, c.detail, peer.Name, draw(sdk), draw(best)})
			y += chartHeight
		}
	}
	t, err := template.New("chart").Parse(chartTemplate)
	if err != nil {
		return "", err
	}
	var svg strings.Builder
	err = t.Execute(&svg, map[string]any{
		"Figures": figures, "Bottom": y, "Height": y + 40, "Environment": strings.Split(r.Environment.String(), "; "),
	})
	return svg.String(), err
}
