// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func printTable(w io.Writer, r *results) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.TabIndent)
	for _, line := range r.Environment.lines() {
		fmt.Fprintln(t, line)
	}
	fmt.Fprintln(t, "Medians of the rounds, and the least and the most of them; × is the ratio to the median of the SDK.")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "\n%s: %s (%s)\n", row.Name, row.Title, plural(row.Rounds, "round"))
		for _, s := range row.Subjects {
			fmt.Fprintf(t, "  %s: %s\n", s.Name, s.How)
		}
		for _, m := range row.Metrics {
			name := m.Name
			if m.More {
				name += " (more is better)"
			}
			for _, s := range row.Subjects {
				f := s.Figures[m.Name]
				if f == nil {
					continue
				}
				fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", name, s.Name, m.Unit.format(f.Median), spread(m.Unit, f), ratio(f.Ratio))
				name = ""
			}
		}
	}
	if len(r.Growth) > 0 {
		fmt.Fprintf(t, "\nGrowth with the number of objects, by least squares\n")
		for _, g := range r.Growth {
			fmt.Fprintf(t, "  %s %s\t%s\t%s per object\tand %s\tR² %.3f, %s\n", g.Mode, g.Metric, g.Subject, g.Unit.format(g.PerObject),
				g.Unit.format(g.Fixed), g.R2, plural(g.Rounds, "round"))
		}
	}
	lags := r.lags()
	if len(lags) == 0 {
		fmt.Fprintf(t, "\nThe SDK is behind no peer by a twentieth or more.\n")
		return t.Flush()
	}
	fmt.Fprintf(t, "\nWhere the SDK is behind a peer by a twentieth or more\n")
	for _, l := range lags {
		note := ""
		if l.overlaps {
			note = "within the spread"
		}
		fmt.Fprintf(t, "  %s\t%s\tsdk %s\t%s %s\t%s\n", l.row, l.metric, l.unit.format(l.sdk.Median), l.peer, l.unit.format(l.of.Median), note)
	}
	return t.Flush()
}

// lines tell what the figures depend on.
func (e *environment) lines() []string {
	load := "unknown"
	if e.LoadBefore >= 0 {
		load = fmt.Sprintf("%.1f before, %.1f after", e.LoadBefore, e.LoadAfter)
	}
	kind := "full run"
	if e.Quick {
		kind = "quick run"
	}
	lines := []string{e.summary(), fmt.Sprintf("load %s; %s of %s", load, kind, seconds.format(e.Took))}
	if e.busy() {
		lines = append(lines, "The machine was busy with something else when the run began: these figures show little.")
	}
	return lines
}

// summary is that in a line.
func (e *environment) summary() string {
	var modules []string
	if e.Kubernetes != "" {
		modules = append(modules, "Kubernetes "+e.Kubernetes)
	}
	for _, module := range slices.Sorted(maps.Keys(e.Modules)) {
		modules = append(modules, path.Base(module)+" "+e.Modules[module])
	}
	return fmt.Sprintf("%s; %s %s/%s, %s, %s", strings.Join(modules, ", "), e.Go, e.OS, e.Arch, plural(e.Cores, "core"), e.CPU)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func spread(u unit, f *figure) string {
	if f.Min == f.Max {
		return ""
	}
	return u.format(f.Min) + " – " + u.format(f.Max)
}

func ratio(r float64) string {
	switch {
	case r == 0:
		return ""
	case r >= 100:
		return fmt.Sprintf("%.0f×", r)
	case r >= 10:
		return fmt.Sprintf("%.1f×", r)
	}
	return fmt.Sprintf("%.2f×", r)
}

// format writes a value with three digits.
func (u unit) format(v float64) string {
	type scale struct {
		factor float64
		name   string
	}
	scales := []scale{{1, string(u)}}
	switch u {
	case seconds:
		scales = []scale{{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}, {1e-9, "ns"}}
	case bytesUnit:
		scales = []scale{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}, {1, "B"}}
	}
	s := scales[len(scales)-1]
	for _, candidate := range scales {
		if math.Abs(v) >= candidate.factor {
			s = candidate
			break
		}
	}
	v /= s.factor
	digits := 0
	if v != math.Trunc(v) || len(scales) > 1 {
		switch size := math.Abs(v); {
		case size == 0 || size >= 99.95:
		case size >= 9.995:
			digits = 1
		default:
			digits = 2
		}
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	return strings.TrimSpace(text + " " + cmp.Or(s.name, ""))
}
