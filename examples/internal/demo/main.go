// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// ErrCleanUp marks an error after which processes, files or objects of the example may remain.
var ErrCleanUp = errors.New("cleaning up")

// Main runs an example until it ends or gets a signal, and returns its exit code: 1 for an error,
// which it prints after name, and otherwise 0, even after a signal.
//
// The first signal only ends the context of run, so that run can stop everything that it has
// started. A second signal ends the program at once.
func Main(name string, run func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		stop()
		fmt.Fprintf(os.Stderr, "%s: interrupted; cleaning up (Ctrl-C again ends it at once)\n", name)
	})()
	err := run(ctx)
	interrupted := ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
	if err == nil || interrupted && !errors.Is(err, ErrCleanUp) {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1
}

// Run is Main for an example that needs clusters: it starts them before run, and stops them after it.
// It starts targets even for an existing management cluster.
func Run(name string, flags *Flags, targets int, run func(context.Context, *Clusters) error) int {
	return Main(name, func(ctx context.Context) (err error) {
		clusters, err := Start(ctx, flags, targets)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, clusters.Stop()) }()
		return run(ctx, clusters)
	})
}

// Step is one step of an example.
type Step struct {
	Title string
	Do    func(ctx context.Context) error
}

// Play prints the title of each step and runs the step, one after the other, until one fails. A step
// has three minutes, far more than it needs.
func Play(ctx context.Context, out io.Writer, steps []Step) error {
	for i, step := range steps {
		fmt.Fprintf(out, "\n%2d. %s\n", i+1, step.Title)
		bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
		err := step.Do(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, step.Title, err)
		}
	}
	return nil
}
