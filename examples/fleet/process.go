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
	"syscall"
	"time"
)

// stopTimeout limits how long a replica may take to end.
const stopTimeout = 20 * time.Second

// process is a replica that runs as a child process.
type process struct {
	cmd      *exec.Cmd
	expected atomic.Bool   // whether it should end
	ended    chan struct{} // closed when it has ended and its output is read
}

// startProcess runs this program as a replica, until ctx ends at the latest. The replica also
// ends when this process is killed, because that closes its standard input. Its events go to
// the board. lost is called with the error if the replica ends unexpectedly.
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
	p.cmd.Cancel = func() error {
		// No SIGTERM: Ctrl-C in a terminal already sends a signal, and a second one ends it at once.
		return errors.Join(stdin.Close(), p.signal(syscall.SIGCONT))
	}
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
			lost(fmt.Errorf("%s has ended: %w", name, cmp.Or(err, errors.New("no error"))))
		}
	}()
	return p, nil
}

func (p *process) signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("%s to process %d: %w", signal, p.cmd.Process.Pid, err)
	}
	return nil
}

// read reports the events of a replica until it ends.
func read(stdout io.Reader, report func(Event)) error {
	for decoder := json.NewDecoder(stdout); ; {
		var event Event
		err := decoder.Decode(&event)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // it may be killed while it writes
			return nil
		}
		if err != nil {
			_, _ = io.Copy(io.Discard, stdout) // so that it can end
			return fmt.Errorf("reading events of a replica: %w", err)
		}
		report(event)
	}
}
