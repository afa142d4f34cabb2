// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// ErrCleanUp is in the error of run if something that the example has started or created may be left.
var ErrCleanUp = errors.New("cleaning up")

// Main runs an example until it ends or is interrupted, and returns its exit code: 0 for
// success, 1 for an error, which it prints after name, and 130 for an interrupt.
//
// The first signal (Ctrl-C, SIGTERM, SIGHUP) only ends the context of run, so that run can
// stop in order everything that it has started. A second one ends the program at once.
func Main(name string, run func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ended := context.AfterFunc(ctx, func() {
		stop()
		fmt.Fprintf(os.Stderr, "%s: interrupted; cleaning up (Ctrl-C again ends it at once)\n", name)
	})
	defer ended()

	err := run(ctx)
	interrupted := ctx.Err() != nil
	onlyThat := interrupted && !errors.Is(err, ErrCleanUp) && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
	if err != nil && !onlyThat {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	switch {
	case interrupted:
		return 130
	case err != nil:
		return 1
	}
	return 0
}
