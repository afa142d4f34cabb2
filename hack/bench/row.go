// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
	// drive runs in the parent whenever a measureFunc calls input.drive, so that its cost isn't
	// measured. It returns when each of its writes was sent. It may be nil.
	drive func(ctx context.Context, f *fixture) (sent []time.Time, err error)
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

// measureFunc makes one measurement, in a separate process.
type measureFunc func(ctx context.Context, in *input) (values, error)

// values are figures by the names of their metrics, in seconds and bytes.
type values map[string]float64

// input is the input of a subject's process, in JSON.
type input struct {
	Quick           bool
	Root            string // of the SDK
	Dir             string // for files; the parent removes it
	Server, Gateway *server
	DataPlanes      []*openchoreov1alpha1.DataPlane
	Rotated         []*openchoreov1alpha1.DataPlane // the same users with other credentials
	Driver          string                          // a URL where the parent runs the row's drive
}

// rows returns all rows, in the order of a run. The row informer is last, because it fills the control
// plane.
func rows(objects int) []row {
	return slices.Concat(clientRows(), remoteRows(), fleetRows(), rotateRows(), programRows(), statusRows(), waitRows(), gatewayRows(), silenceRows(), informerRows(objects))
}

// run measures the row. The subjects take turns, in another order each round, so that changes of the
// machine affect all subjects.
func (r *row) run(ctx context.Context, f *fixture, progress io.Writer) (*result, error) {
	in := f.input
	if r.plane {
		var err error
		if in.Server, err = f.server(ctx); err != nil {
			return nil, err
		}
	}
	if r.prepare != nil {
		if err := r.prepare(ctx, f, &in); err != nil {
			return nil, err
		}
	}
	driver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		sent, err := r.drive(req.Context(), f)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(sent) // fails if the child has ended
	}))
	defer driver.Close()
	in.Driver = driver.URL
	rounds := r.rounds
	switch {
	case in.Quick && r.slow:
		rounds = 1
	case in.Quick:
		rounds = min(rounds, 2)
	}
	result := &result{Name: r.name, Title: r.title, Metrics: r.metrics}
	for _, s := range r.subjects {
		result.Subjects = append(result.Subjects, subjectResult{Name: s.name, How: s.how, Rounds: map[string][]float64{}})
	}
	for round := range rounds {
		for turn := range r.subjects {
			i := (turn + round) % len(r.subjects)
			v, err := measureInProcess(ctx, r.name, r.subjects[i].name, &in)
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
// connections of one subject don't affect another.

// childCommand is the argument that makes this program a child.
const childCommand = "measure"

func measureInProcess(ctx context.Context, row, subject string, in *input) (values, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, executable, childCommand, row, subject)
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(data), 10*time.Second
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	var v values
	err = json.Unmarshal(out, &v)
	return v, err
}

// output runs a command and returns its stdout. An error contains its stderr.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

// runChild is the main function of a child: it reads the input from stdin, and writes the values to
// stdout.
func runChild(ctx context.Context, args []string) error {
	s, err := findSubject(args)
	if err != nil {
		return err
	}
	testing.Init()
	if err := flag.Set("test.benchtime", "200ms"); err != nil {
		return err
	}
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	v, err := s.measure(ctx, &in)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(v)
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

// drive runs the row's drive in the parent.
func (in *input) drive() (sent []time.Time, err error) {
	resp, err := http.Post(in.Driver, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("drive: %s", message)
	}
	err = json.NewDecoder(resp.Body).Decode(&sent)
	return sent, err
}
