// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"time"
)

// stopTimeout is how long a replica may take to end once it should.
const stopTimeout = 20 * time.Second

// process is a replica that runs as a child process.
type process struct {
	cmd      *exec.Cmd
	expected atomic.Bool   // that it ends
	ended    chan struct{} // closed when it has, and all is read that it has told
}

// startProcess runs this program as a replica, until ctx ends at the latest. The replica
// also ends when this process is killed, since then the pipe to its standard input closes.
// What it tells goes to the board. lost gets the error when it ends unexpectedly.
func startProcess(ctx context.Context, name string, args []string, b *board, lost func(error)) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, append(args, "--replica="+name, "--until-eof", "-o=json")...)
	p.cmd.Stderr = os.Stderr
	p.cmd.WaitDelay = stopTimeout
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Cancel = stdin.Close // and no signal: Ctrl-C in a terminal sends one, and a second ends at once
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		err := errors.Join(read(stdout, b.report), p.cmd.Wait())
		b.forget(name)
		if !p.expected.Load() {
			lost(fmt.Errorf("%s has ended: %w", name, cmp.Or(err, errors.New("with no error"))))
		}
	}()
	return p, nil
}

// read reports the events that a replica prints until it ends.
func read(stdout io.Reader, report func(Event)) error {
	for decoder := json.NewDecoder(stdout); ; {
		var event Event
		err := decoder.Decode(&event)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // it may be killed while it prints
			return nil
		}
		if err != nil {
			_, _ = io.Copy(io.Discard, stdout) // it must be able to end
			return fmt.Errorf("events of a replica: %w", err)
		}
		report(event)
	}
}
