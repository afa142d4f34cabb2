// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Step is one step of an example.
type Step struct {
	Title string
	Do    func(ctx context.Context) error
	Limit time.Duration // a minute if it's 0
}

// Play prints the title of each step and takes it, one after the other, until one fails.
func Play(ctx context.Context, out io.Writer, steps []Step) error {
	for i, step := range steps {
		fmt.Fprintf(out, "\n%2d. %s\n", i+1, step.Title)
		limit := step.Limit
		if limit == 0 {
			limit = time.Minute
		}
		bounded, cancel := context.WithTimeout(ctx, limit)
		err := step.Do(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, step.Title, err)
		}
	}
	return nil
}
