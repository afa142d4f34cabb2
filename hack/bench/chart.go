// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// charted are the figures of the chart, from the top: those that users notice. A * stands for
// a number of objects, of which the largest is shown, and %s for that number in the label.
// What was not measured, or takes nothing, has no line.
var charted = []struct{ row, metric, label string }{
	{"informer-*-watchlist", "time", "Informer of %s: time"},
	{"informer-*-watchlist", "cpu", "Informer of %s: CPU time"},
	{"informer-*-watchlist", "peak heap", "Informer of %s: peak heap"},
	{"informer-*-watchlist", "settled heap", "Informer of %s: settled heap"},
	{"informer-*-list", "peak heap", "Informer of %s by a list: peak heap"},
	{"read-*", "get time", "Get one of %s from the cache"},
	{"read-*", "namespace time", "List a hundredth of %s by namespace"},
	{"read-*", "selector time", "List a hundredth of %s by label"},
	{"latency-100", "p99", "Event at 100 writes/s: p99"},
	{"latency-1000", "p99", "Event at up to 1,000 writes/s: p99"},
	{"apply", "cpu", "Server-side apply: CPU time"},
	{"status", "cpu", "Patch of a condition: CPU time"},
	{"wait", "p50", "Wait for Ready: median"},
	{"rest-config", "time", "DataPlane to rest.Config"},
	{"client-get-8", "time", "Client of a data plane, 8 callers"},
	{"remotes-up-down", "heap up", "1,000 clusters: heap"},
	{"rotations", "sockets left", "1,000 rotations: sockets left"},
	{"rotate-informers", "cpu", "Rotation under informers: CPU time"},
	{"rotate-informers", "received", "Rotation under informers: received"},
	{"program", "build", "Build of a small program"},
	{"program", "binary", "Binary of a small program"},
}

// Colours in the middle, so that they are legible on light and on dark backgrounds; the
// chart itself has none. They are told apart by shape, too.
var (
	ink    = color.RGBA{0x80, 0x86, 0x8f, 0xff}
	styles = []struct {
		subjects []string // those that one line of the legend stands for
		colour   color.RGBA
		shape    draw.GlyphDrawer
	}{
		{[]string{"sdk"}, color.RGBA{0x1f, 0x9d, 0x6b, 0xff}, draw.BoxGlyph{}},
		{[]string{"controller-runtime"}, color.RGBA{0x3b, 0x82, 0xf6, 0xff}, draw.CircleGlyph{}},
		{[]string{"dynamic"}, color.RGBA{0xd9, 0x77, 0x06, 0xff}, draw.PyramidGlyph{}},
		{[]string{"kubectl"}, color.RGBA{0xc0, 0x5c, 0xd6, 0xff}, draw.PlusGlyph{}},
		{[]string{"kstatus"}, color.RGBA{0x14, 0xa3, 0xb8, 0xff}, draw.SquareGlyph{}},
		{[]string{"client-go"}, color.RGBA{0xdc, 0x4c, 0x64, 0xff}, draw.CrossGlyph{}},
		{[]string{"mutex and map", "unverified"}, color.RGBA{0xa1, 0x7a, 0x45, 0xff}, draw.TriangleGlyph{}},
		{[]string{"floor"}, ink, draw.RingGlyph{}},
	}
)

// drawChart draws the ratios to the SDK, with a logarithmic scale: left of 1 is better.
func drawChart(file string, r *results) error {
	labels := []string{}
	points := make([]plotter.XYs, len(styles))
	low, high := 0.5, 2.0
	for _, c := range slices.Backward(charted) {
		row := r.largest(c.row)
		if row == nil {
			continue
		}
		found := false
		for _, s := range row.Subjects {
			f := s.Figures[c.metric]
			if f == nil || f.Ratio <= 0 || s.Aside && s.Name != "floor" {
				continue
			}
			for i := range styles {
				if slices.Contains(styles[i].subjects, s.Name) {
					points[i] = append(points[i], plotter.XY{X: f.Ratio, Y: float64(len(labels))})
					low, high = min(low, f.Ratio), max(high, f.Ratio)
					found = true
				}
			}
		}
		if found {
			labels = append(labels, strings.ReplaceAll(c.label, "%s", group(row.Objects)))
		}
	}
	if len(labels) == 0 {
		return errors.New("nothing of what it shows was measured")
	}

	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text = "What others take, as a multiple of what the SDK takes (left of 1 is less)"
	p.X.Label.Text = strings.Join(r.Environment.lines(), "\n")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(powersOfTen)
	p.X.Min, p.X.Max = low/1.5, high*1.5
	p.Y.Min, p.Y.Max = -0.7, float64(len(labels))-0.3
	p.Y.Tick.Marker = plot.ConstantTicks(yTicks(labels))
	p.Y.Tick.Length, p.Y.Width = 0, 0
	p.Legend.Top, p.Legend.Left = false, false
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Color = ink
		style.Font.Variant = "Sans"
	}
	p.Title.TextStyle.Font.Size, p.X.Label.TextStyle.Font.Size, p.Legend.TextStyle.Font.Size = 13, 8, 10
	p.X.Color, p.X.Tick.Color = ink, ink

	grid := plotter.NewGrid()
	grid.Horizontal.Color = color.NRGBA{0x80, 0x86, 0x8f, 0x40}
	grid.Vertical.Color = grid.Horizontal.Color
	p.Add(grid)
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: p.Y.Min}, {X: 1, Y: p.Y.Max}})
	if err != nil {
		return err
	}
	one.Color, one.Width = styles[0].colour, 1
	p.Add(one)
	for i, style := range styles {
		if len(points[i]) == 0 {
			continue
		}
		scatter, err := plotter.NewScatter(points[i])
		if err != nil {
			return err
		}
		scatter.GlyphStyle = draw.GlyphStyle{Color: style.colour, Radius: 4, Shape: style.shape}
		p.Add(scatter)
		p.Legend.Add(strings.Join(style.subjects, ", "), scatter)
	}
	canvas, err := p.WriterTo(24*vg.Centimeter, vg.Length(len(labels))*0.62*vg.Centimeter+4*vg.Centimeter, "svg")
	if err != nil {
		return err
	}
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// The others are as wide, and elsewhere than on Linux.
	data := bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	return os.WriteFile(file, data, 0o644)
}

func yTicks(labels []string) []plot.Tick {
	ticks := make([]plot.Tick, len(labels))
	for i, label := range labels {
		ticks[i] = plot.Tick{Value: float64(i), Label: label}
	}
	return ticks
}

func powersOfTen(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for exponent := math.Floor(math.Log10(low)); exponent <= math.Ceil(math.Log10(high)); exponent++ {
		power := math.Pow(10, exponent)
		label := fmt.Sprintf("%g×", power)
		ticks = append(ticks, plot.Tick{Value: power, Label: label})
		for i := 2.0; i < 10; i++ {
			ticks = append(ticks, plot.Tick{Value: power * i})
		}
	}
	return slices.DeleteFunc(ticks, func(t plot.Tick) bool { return t.Value < low || t.Value > high })
}
