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
	"testing"
	"time"
)

// Each measurement has a process of its own, which is this program again, so that heaps, garbage
// and cached connections of one subject cost another nothing. Parent and child exchange lines of
// JSON on stdin and stdout.

// childCommand is the argument that makes a child of this program.
const childCommand = "measure"

// message is what a child writes: that the parent should drive, or its result.
type message struct {
	Drive  bool   `json:"drive,omitempty"`
	Values values `json:"values,omitempty"`
	Error  string `json:"error,omitempty"`
}

// runChild is main of a child.
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
