// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// errExited says that a process ended before it was ready.
var errExited = errors.New("ended before it was ready")

// portTaken makes an error of a process recognizable as one that another port would avoid.
func portTaken(err error) error {
	return fmt.Errorf("%w: %w", syscall.EADDRINUSE, err)
}

// process is one run of a binary. All methods but start work on nil and on a process that has
// ended, and then do nothing.
type process struct {
	cmd    *exec.Cmd
	tail   *tail
	exited chan struct{} // closed when the process has ended and err is set
	err    error         // never nil then
}

func newProcess(path string, args []string, dir string) *process {
	p := &process{
		cmd:    exec.Command(path, args...), // no context: it ends by stop or kill
		tail:   &tail{},
		exited: make(chan struct{}),
	}
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = p.tail, p.tail
	p.cmd.SysProcAttr = childAttr()
	return p
}

// start returns once the process runs. It never waits for it to be ready.
func (p *process) start() error {
	started := make(chan error)
	go func() {
		// See childAttr: this thread must live as long as the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if p.err = p.cmd.Wait(); p.err == nil {
			p.err = errors.New("exit status 0")
		}
		close(p.exited)
	}()
	return <-started
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// stop asks the process to end, and kills it if it hasn't after grace.
func (p *process) stop(grace time.Duration) {
	if !p.running() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended just now
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.kill()
	}
}

func (p *process) kill() {
	if !p.running() {
		return
	}
	_ = p.cmd.Process.Kill() // fails only if it has ended just now
	<-p.exited
}
