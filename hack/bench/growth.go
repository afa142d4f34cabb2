// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
)

// growth is how a figure of an informer grows with the number of objects: a line through
// all rounds by least squares.
type growth struct {
	Mode    string `json:"mode"` // list or watchlist
	Subject string `json:"subject"`
	Metric  string `json:"metric"`
	Unit    unit   `json:"unit"`
	// PerObject is the slope, and Fixed what is there without any object.
	PerObject float64 `json:"perObject"`
	Fixed     float64 `json:"fixed"`
	// R2 is the share of the variance that the line explains, 1 for all of it.
	R2     float64 `json:"r2"`
	Counts []int   `json:"objects"`
	Rounds int     `json:"rounds"`
}

// fitGrowth needs informers of two counts of objects, at least.
func fitGrowth(rows []*result) []growth {
	var all []growth
	for _, mode := range modes {
		var sized []*result
		for _, row := range rows {
			if strings.HasPrefix(row.Name, "informer-") && strings.HasSuffix(row.Name, "-"+mode.name) {
				sized = append(sized, row)
			}
		}
		if len(sized) < 2 {
			continue
		}
		for _, s := range sized[0].Subjects {
			for _, m := range sized[0].Metrics {
				if m.Info {
					continue
				}
				g := growth{Mode: mode.name, Subject: s.Name, Metric: m.Name, Unit: m.Unit}
				var x, y []float64
				for _, row := range sized {
					s := row.subject(s.Name)
					if s == nil || s.Figures[m.Name] == nil {
						continue
					}
					g.Counts = append(g.Counts, row.Objects)
					for _, value := range s.Figures[m.Name].Rounds {
						x, y = append(x, float64(row.Objects)), append(y, value)
					}
				}
				if len(slices.Compact(slices.Clone(g.Counts))) < 2 {
					continue
				}
				g.Rounds = len(x)
				g.PerObject, g.Fixed, g.R2 = fit(x, y)
				all = append(all, g)
			}
		}
	}
	return all
}

// fit returns the line of least squares, and how well it fits.
func fit(x, y []float64) (slope, intercept, r2 float64) {
	n := float64(len(x))
	var sumX, sumY float64
	for i := range x {
		sumX, sumY = sumX+x[i], sumY+y[i]
	}
	meanX, meanY := sumX/n, sumY/n
	var xx, xy, yy float64
	for i := range x {
		dx, dy := x[i]-meanX, y[i]-meanY
		xx, xy, yy = xx+dx*dx, xy+dx*dy, yy+dy*dy
	}
	if xx == 0 {
		return 0, meanY, 0
	}
	slope = xy / xx
	if yy > 0 {
		r2 = xy * xy / (xx * yy)
	}
	return slope, meanY - slope*meanX, r2
}

// find returns the growth of a figure, nil if it was not measured.
func (r *results) find(mode, subject, metric string) *growth {
	for i := range r.Growth {
		if g := &r.Growth[i]; g.Mode == mode && g.Subject == subject && g.Metric == metric {
			return g
		}
	}
	return nil
}
