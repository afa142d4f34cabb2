// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// results are all of one run, as they are written as JSON.
type results struct {
	Environment environment `json:"environment"`
	Rows        []*result   `json:"rows"`
	Growth      []growth    `json:"growth,omitempty"`
}

// result is that of a row.
type result struct {
	Name     string           `json:"name"`
	Title    string           `json:"title"`
	Objects  int              `json:"objects,omitempty"`
	Rounds   int              `json:"rounds"`
	Metrics  []metric         `json:"metrics"`
	Subjects []*subjectResult `json:"subjects"`
}

type subjectResult struct {
	Name  string `json:"name"`
	How   string `json:"how"`
	Aside bool   `json:"aside,omitempty"`
	// Figures are by the name of their metric.
	Figures map[string]*figure `json:"figures"`
}

// figure is what the rounds have given, in the order of the rounds.
type figure struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Ratio is that to the median of the SDK; 0 where that is 0, or the figure no cost.
	Ratio  float64   `json:"ratio,omitempty"`
	Rounds []float64 `json:"rounds"`
}

func newResult(r *row, rounds int, measured [][]values) *result {
	result := &result{Name: r.name, Title: r.title, Objects: r.objects, Rounds: rounds, Metrics: r.metrics}
	for i, s := range r.subjects {
		subject := &subjectResult{Name: s.name, How: s.how, Aside: s.aside, Figures: map[string]*figure{}}
		for _, m := range r.metrics {
			var rounds []float64
			for _, v := range measured[i] {
				if value, ok := v[m.Name]; ok {
					rounds = append(rounds, value)
				}
			}
			if len(rounds) == 0 {
				continue
			}
			f := &figure{Median: median(rounds), Min: slices.Min(rounds), Max: slices.Max(rounds), Rounds: rounds}
			subject.Figures[m.Name] = f
			if m.Info {
				continue
			}
			if i == 0 {
				f.Ratio = 1
			} else if sdk := result.Subjects[0].Figures[m.Name]; sdk != nil && sdk.Median > 0 {
				f.Ratio = f.Median / sdk.Median
			}
		}
		result.Subjects = append(result.Subjects, subject)
	}
	return result
}

func (r *results) row(name string) *result {
	for _, row := range r.Rows {
		if row.Name == name {
			return row
		}
	}
	return nil
}

// largest returns that of the most objects of the rows whose names match a pattern of
// path.Match, nil if there is none.
func (r *results) largest(pattern string) (largest *result) {
	for _, row := range r.Rows {
		if matches(pattern, row.Name) && (largest == nil || row.Objects > largest.Objects) {
			largest = row
		}
	}
	return largest
}

func (r *result) metric(name string) (m metric) {
	for _, m = range r.Metrics {
		if m.Name == name {
			break
		}
	}
	return m
}

func (r *result) subject(name string) *subjectResult {
	for _, s := range r.Subjects {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// lag is a figure in which the SDK is behind.
type lag struct {
	row, metric, peer string
	unit              unit
	sdk, of           *figure
	overlaps          bool // one's median is within the rounds of the other
}

// lags are the figures in which a peer is better than the SDK, by a twentieth or more.
func (r *results) lags() []lag {
	var lags []lag
	for _, row := range r.Rows {
		for _, m := range row.Metrics {
			sdk := row.Subjects[0].Figures[m.Name]
			if m.Info || sdk == nil {
				continue
			}
			for _, s := range row.Subjects[1:] {
				f := s.Figures[m.Name]
				if f == nil || s.Aside {
					continue
				}
				behind := f.Median < sdk.Median/1.05
				overlaps := sdk.Median <= f.Max || f.Median >= sdk.Min
				if m.More {
					behind = f.Median > sdk.Median*1.05
					overlaps = sdk.Median >= f.Min || f.Median <= sdk.Max
				}
				if behind {
					lags = append(lags, lag{row.Name, m.Name, s.Name, m.Unit, sdk, f, overlaps})
				}
			}
		}
	}
	return lags
}

func median(data []float64) float64 { return percentile(data, 0.5) }

// percentile is between two values when it falls there.
func percentile(data []float64, p float64) float64 {
	if len(data) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(data))
	at := p * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}
