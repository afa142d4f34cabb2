// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// row compares the SDK with what else does the same work.
type row struct {
	name, title string
	metrics     []metric
	rounds      int       // of a full run
	slow        bool      // --quick leaves the row out, unless --rows names it
	plane       bool      // the row needs a control plane
	subjects    []subject // the SDK is the first

	// prepare runs once before the row, in the parent. It may be nil.
	prepare prepareFunc
	// drive runs in the parent while a subject is measured, whenever that asks for it, so that its
	// cost isn't measured. It may be nil.
	drive func(ctx context.Context, f *fixture) error
}

type prepareFunc func(ctx context.Context, f *fixture, in *input) error

// metric is what a row measures. Less is better, unless more is.
type metric struct {
	Name string `json:"name"`
	Unit string `json:"unit,omitempty"` // s, B, /s, or none
	More bool   `json:"moreIsBetter,omitempty"`
}

// subject is one of the ways that a row compares.
type subject struct {
	name, how string
	measure   measureFunc
}

// measureFunc makes one measurement, in a process of its own. Calling drive runs the row's drive.
type measureFunc func(ctx context.Context, in *input, drive func() error) (values, error)

// values are by the name of their metric, in seconds and bytes.
type values map[string]float64

// input is what the process of a subject receives.
type input struct {
	Quick      bool                            `json:"quick"`
	Objects    int                             `json:"objects"`
	Root       string                          `json:"root"`
	Dir        string                          `json:"dir"` // for files; the parent removes it
	Server     *server                         `json:"server,omitempty"`
	Gateway    *server                         `json:"gateway,omitempty"`
	DataPlanes []*openchoreov1alpha1.DataPlane `json:"dataPlanes,omitempty"`
	Rotated    []*openchoreov1alpha1.DataPlane `json:"rotated,omitempty"` // the same users with other credentials
}

// rows are in the order of a run. The row informer is last, since it fills the control plane.
func rows(objects int) []row {
	return slices.Concat(clientRows(), remoteRows(), fleetRows(), rotateRows(), programRows(), statusRows(), waitRows(), gatewayRows(), informerRows(objects))
}

// run measures the row. The subjects take turns, in another order each round, so that what
// changes on the machine concerns all of them.
func (r *row) run(ctx context.Context, f *fixture, progress io.Writer) (*result, error) {
	in := &input{Quick: f.quick, Objects: f.objects, Root: f.root, Dir: f.dir}
	if r.plane {
		var err error
		if in.Server, err = f.server(ctx); err != nil {
			return nil, err
		}
	}
	if r.prepare != nil {
		if err := r.prepare(ctx, f, in); err != nil {
			return nil, err
		}
	}
	rounds := r.rounds
	if f.quick {
		rounds = min(rounds, 2)
	}
	result := &result{Name: r.name, Title: r.title, Metrics: r.metrics}
	for _, s := range r.subjects {
		result.Subjects = append(result.Subjects, subjectResult{Name: s.name, How: s.how, Rounds: map[string][]float64{}})
	}
	for round := range rounds {
		for turn := range r.subjects {
			i := (turn + round) % len(r.subjects)
			v, err := measureInProcess(ctx, r, r.subjects[i].name, in, func() error { return r.drive(ctx, f) })
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.subjects[i].name, err)
			}
			for name, value := range v {
				result.Subjects[i].Rounds[name] = append(result.Subjects[i].Rounds[name], rounded(value))
			}
			fmt.Fprint(progress, ".")
		}
	}
	return result, nil
}

// rounded keeps four digits.
func rounded(v float64) float64 {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64) // can't fail
	return v
}
