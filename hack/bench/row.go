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

// row compares the SDK with other ways to do the same work. JSON holds the exported fields, in results.json.
type row struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Metrics  []metric  `json:"metrics"`
	Subjects []subject `json:"subjects"` // the SDK is the first
	rounds   int       // in a full run
	slow     bool      // --quick leaves the row out, unless --rows names it
	plane    bool      // the row needs a control plane

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
	Name    string               `json:"name"`
	How     string               `json:"how"`
	Rounds  map[string][]float64 `json:"rounds"` // by metric, in the order of the rounds
	measure measureFunc
}

// measureFunc makes one measurement, in a separate process. ctx ends when the measurement has ended, or takes
// too long.
type measureFunc func(ctx context.Context, in *input) (values, error)

// values are figures by the names of their metrics, in seconds and bytes.
type values map[string]float64

// input is the input of a subject's process, in JSON.
type input struct {
	Row             string
	Subject         int
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
	return slices.Concat(clientRows(), fleetRows(), rotateRows(), programRows(), statusRows(), waitRows(), gatewayRows(), silenceRows(), informerRows(objects))
}

// run measures the row. The subjects take turns, in another order each round, so that changes of the
// machine affect all subjects.
func (r *row) run(ctx context.Context, f *fixture, progress io.Writer) error {
	if r.plane && f.plane == nil {
		if err := f.start(ctx); err != nil {
			return err
		}
	}
	in := f.input
	in.Row = r.Name
	if r.prepare != nil {
		if err := r.prepare(ctx, f, &in); err != nil {
			return err
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
	for round := range rounds {
		for turn := range r.Subjects {
			in.Subject = (turn + round) % len(r.Subjects)
			s := &r.Subjects[in.Subject]
			v, err := measureInProcess(ctx, &in)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			if s.Rounds == nil {
				s.Rounds = map[string][]float64{}
			}
			for name, value := range v {
				s.Rounds[name] = append(s.Rounds[name], rounded(value))
			}
			fmt.Fprint(progress, ".")
		}
	}
	return nil
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

func measureInProcess(ctx context.Context, in *input) (values, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0], childCommand)
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
func runChild(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	testing.Init()
	if err := flag.Set("test.benchtime", "200ms"); err != nil {
		return err
	}
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	all := rows(0)
	row := slices.IndexFunc(all, func(r row) bool { return r.Name == in.Row })
	v, err := all[row].Subjects[in.Subject].measure(ctx, &in)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(v)
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
