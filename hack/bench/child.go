// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

// Each subject is measured in a process of its own, which is this program again: heaps,
// collections and caches of connections of one must not cost another anything. Parent and
// child talk in lines of JSON over stdin and stdout.

// childCommand is the argument that makes a child of this program.
const childCommand = "measure-one-subject"

// message is what a child says.
type message struct {
	Ready  bool   `json:"ready,omitempty"`
	Drive  bool   `json:"drive,omitempty"`
	Values values `json:"values,omitempty"`
	Error  string `json:"error,omitempty"`
}

// order is what a parent says, after the input.
type order struct {
	Measure bool   `json:"measure,omitempty"`
	Driven  int    `json:"driven,omitempty"`
	Error   string `json:"error,omitempty"`
}

// runChild is main of a child. It ends when the parent closes stdin, or ends itself.
func runChild(args []string) error {
	if len(args) != 2 {
		return errors.New("a child takes a row and a subject")
	}
	s, err := findSubject(args[0], args[1])
	if err != nil {
		return err
	}
	testing.Init()
	klog.LogToStderr(true)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	decoder, encoder := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var in input
	if err := decoder.Decode(&in); err != nil {
		return err
	}
	if err := flag.Set("test.benchtime", benchTime(in.Quick)); err != nil {
		return err
	}
	orders := make(chan order)
	go func() {
		defer close(orders)
		defer cancel()
		for {
			var o order
			if decoder.Decode(&o) != nil {
				return
			}
			orders <- o
		}
	}()
	drive := func() (int, error) {
		if err := encoder.Encode(message{Drive: true}); err != nil {
			return 0, err
		}
		o, open := <-orders
		switch {
		case !open:
			return 0, context.Canceled
		case o.Error != "":
			return 0, errors.New(o.Error)
		}
		return o.Driven, nil
	}

	measure, err := s.start(ctx, &in)
	if err == nil && in.Profile != "" {
		measure, err = profiled(measure, filepath.Join(in.Profile, strings.ReplaceAll(args[0]+"."+args[1], " ", "-")))
	}
	if err != nil {
		return encoder.Encode(message{Error: err.Error()})
	}
	if err := encoder.Encode(message{Ready: true}); err != nil {
		return err
	}
	for range orders {
		m := message{}
		if m.Values, err = measure(ctx, drive); err != nil {
			m = message{Error: err.Error()}
		}
		if err := encoder.Encode(m); err != nil {
			return err
		}
	}
	return nil
}

// profiled writes CPU and heap profiles of the last measurement. The heap is that of the
// last collection: of what was held when it was measured.
func profiled(measure measureFunc, name string) (measureFunc, error) {
	cpu, err := os.Create(name + ".cpu.prof")
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, drive func() (int, error)) (values, error) {
		if err := cpu.Truncate(0); err != nil {
			return nil, err
		}
		if _, err := cpu.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return nil, err
		}
		v, err := measure(ctx, drive)
		pprof.StopCPUProfile()
		heap, createErr := os.Create(name + ".heap.prof")
		if err := errors.Join(err, createErr); err != nil {
			return nil, err
		}
		return v, errors.Join(pprof.Lookup("heap").WriteTo(heap, 0), heap.Close())
	}, nil
}

func findSubject(rowName, name string) (*subject, error) {
	for _, r := range rows() {
		if r.name != rowName {
			continue
		}
		for i := range r.subjects {
			if r.subjects[i].name == name {
				return &r.subjects[i], nil
			}
		}
	}
	return nil, fmt.Errorf("no subject %q of row %q", name, rowName)
}

// child is the process of a subject, as the parent sees it.
type child struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	encoder *json.Encoder
	decoder *json.Decoder
	stderr  tail
}

// startChild returns when the subject is ready to be measured.
func startChild(ctx context.Context, r *row, s *subject, in *input) (*child, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: s.name, cmd: exec.CommandContext(ctx, executable, childCommand, r.name, s.name)}
	c.cmd.Env = append(os.Environ(), s.env...)
	c.cmd.Stderr = &c.stderr
	c.cmd.WaitDelay = 10 * time.Second
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.encoder, c.decoder = json.NewEncoder(c.stdin), json.NewDecoder(stdout)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := c.encoder.Encode(in); err != nil {
		return nil, c.failed(err)
	}
	if _, err := c.read(); err != nil {
		return nil, c.failed(err)
	}
	return c, nil
}

func (c *child) measure(drive func() (int, error)) (values, error) {
	if err := c.encoder.Encode(order{Measure: true}); err != nil {
		return nil, c.failed(err)
	}
	for {
		m, err := c.read()
		if err != nil {
			return nil, c.failed(err)
		}
		if !m.Drive {
			return m.Values, nil
		}
		var o order
		if o.Driven, err = drive(); err != nil {
			o.Error = err.Error()
		}
		if err := c.encoder.Encode(o); err != nil {
			return nil, c.failed(err)
		}
	}
}

func (c *child) read() (message, error) {
	var m message
	if err := c.decoder.Decode(&m); err != nil {
		return m, err
	}
	if m.Error != "" {
		return m, errors.New(m.Error)
	}
	return m, nil
}

// close ends the process and waits for that.
func (c *child) close() error {
	_ = c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", c.name, err, c.stderr.String())
	}
	return nil
}

func (c *child) failed(err error) error {
	_ = c.stdin.Close()
	_ = c.cmd.Wait()
	return fmt.Errorf("%s: %w: %s", c.name, err, c.stderr.String())
}

// tail keeps the end of what is written to it.
type tail struct{ data []byte }

func (t *tail) Write(p []byte) (int, error) {
	const limit = 2048
	t.data = append(t.data, p...)
	if len(t.data) > limit {
		t.data = append([]byte(nil), t.data[len(t.data)-limit:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.data)) }
