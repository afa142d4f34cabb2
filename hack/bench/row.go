// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// row compares the SDK with other ways to do the same work.
type row struct {
	name, title string
	metrics     []metric
	rounds      int       // in a full run
	slow        bool      // --quick leaves the row out, unless --rows names it
	plane       bool      // the row needs a control plane
	subjects    []subject // the SDK is the first

	// prepare runs once before the row, in the parent. It may be nil.
	prepare prepareFunc
	// drive runs in the parent whenever the subject's measureFunc calls it, so that its cost isn't
	// measured. It may be nil.
	drive func(ctx context.Context, f *fixture) error
}

type prepareFunc func(ctx context.Context, f *fixture, in *input) error

// metric is a figure that a row measures. Less is better, unless More is set.
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

// measureFunc makes one measurement, in a separate process. drive runs the row's drive in the parent.
type measureFunc func(ctx context.Context, in *input, drive func() error) (values, error)

// values are figures by the names of their metrics, in seconds and bytes.
type values map[string]float64

// input is the input of a subject's process.
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

// rows returns all rows, in the order of a run. The row informer is last, because it fills the control
// plane.
func rows(objects int) []row {
	return slices.Concat(clientRows(), remoteRows(), fleetRows(), rotateRows(), programRows(), statusRows(), waitRows(), gatewayRows(), silenceRows(), informerRows(objects))
}

// run measures the row. The subjects take turns, in another order each round, so that changes of the
// machine affect all subjects.
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
	switch {
	case f.quick && r.slow:
		rounds = 1
	case f.quick:
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

// rounded rounds to four digits.
func rounded(v float64) float64 {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64) // can't fail
	return v
}

// Each measurement has a separate process of this program, so that the heap, garbage and cached
// connections of one subject don't affect another. Parent and child exchange lines of JSON on stdin
// and stdout.

// childCommand is the argument that makes this program a child.
const childCommand = "measure"

// message is a line of the child: a request to drive, or the result.
type message struct {
	Drive  bool   `json:"drive,omitempty"`
	Values values `json:"values,omitempty"`
	Error  string `json:"error,omitempty"`
}

// runChild is the main function of a child.
func runChild(ctx context.Context, args []string) error {
	s, err := findSubject(args)
	if err != nil {
		return err
	}
	testing.Init()
	if err := flag.Set("test.benchtime", "200ms"); err != nil {
		return err
	}
	decoder, encoder := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var in input
	if err := decoder.Decode(&in); err != nil {
		return err
	}
	v, err := s.measure(ctx, &in, func() error {
		return errors.Join(encoder.Encode(message{Drive: true}), decoder.Decode(&struct{}{}))
	})
	if err != nil {
		return encoder.Encode(message{Error: err.Error()})
	}
	return encoder.Encode(message{Values: v})
}

func findSubject(args []string) (*subject, error) {
	for _, r := range rows(0) {
		for i := range r.subjects {
			if len(args) == 2 && r.name == args[0] && r.subjects[i].name == args[1] {
				return &r.subjects[i], nil
			}
		}
	}
	return nil, fmt.Errorf("no row and subject %q", args)
}

func measureInProcess(ctx context.Context, r *row, subject string, in *input, drive func() error) (values, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, executable, childCommand, r.name, subject)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, 10*time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	v, err := converse(stdin, stdout, in, drive)
	_ = stdin.Close() // ends a child that waits for drive
	if waitErr := cmd.Wait(); waitErr != nil {
		err = fmt.Errorf("%w: %s", errors.Join(err, waitErr), bytes.TrimSpace(stderr.Bytes()))
	}
	return v, err
}

func converse(stdin io.Writer, stdout io.Reader, in *input, drive func() error) (values, error) {
	decoder, encoder := json.NewDecoder(stdout), json.NewEncoder(stdin)
	if err := encoder.Encode(in); err != nil {
		return nil, err
	}
	for {
		var m message
		if err := decoder.Decode(&m); err != nil {
			return nil, err
		}
		switch {
		case m.Error != "":
			return nil, errors.New(m.Error)
		case !m.Drive:
			return m.Values, nil
		}
		if err := drive(); err != nil {
			return nil, err
		}
		if err := encoder.Encode(struct{}{}); err != nil {
			return nil, err
		}
	}
}
