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

var errStop = errors.New("stopping the clusters")

// Main runs an example until it is done or interrupted, and returns its exit code: 0, 1
// after an error, which it prints with name before it, or 130 when it was interrupted.
//
// The first signal (Ctrl-C, SIGTERM, SIGHUP) ends the context of run and nothing else, so
// that run stops in order what it has started. A second one ends the program at once.
func Main(name string, run func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)

	err := run(ctx)
	interrupted := ctx.Err() != nil
	onlyThat := interrupted && !errors.Is(err, errStop) && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
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
