// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// run measures a row. The subjects take turns, in another order each round, so that what
// changes on the machine in the meantime concerns all of them.
func (r *row) run(ctx context.Context, f *fixture, progress io.Writer) (_ *result, err error) {
	started := time.Now()
	fmt.Fprintf(progress, "%-26s", r.name)
	defer func() {
		if err != nil {
			fmt.Fprintf(progress, " FAILED\n")
			err = fmt.Errorf("%s: %w", r.name, err)
			return
		}
		fmt.Fprintf(progress, " %s\n", time.Since(started).Round(100*time.Millisecond))
	}()
	in := &input{Quick: f.quick, Root: f.root, Dir: f.dir, Profile: f.profile, Objects: r.objects}
	if r.onPlane {
		if in.Server, err = f.server(ctx); err != nil {
			return nil, err
		}
	}
	if r.objects > 0 {
		if err := f.fill(ctx, r.objects, progress); err != nil {
			return nil, err
		}
	}
	if r.cleanup != nil {
		defer func() { err = errors.Join(err, r.cleanup(ctx, f)) }()
	}
	if r.prepare != nil {
		if err := r.prepare(ctx, f, in); err != nil {
			return nil, err
		}
	}
	drive := func() (int, error) { return r.drive(ctx, f, in) }

	children := make([]*child, len(r.subjects))
	defer func() {
		for _, c := range children {
			if c != nil {
				if e := c.close(); e != nil && err == nil {
					err = e
				}
			}
		}
	}()
	once := func(i int) (values, error) {
		c := children[i]
		if c == nil {
			var err error
			if c, err = startChild(ctx, r, &r.subjects[i], in); err != nil {
				return nil, err
			}
			children[i] = c
		}
		v, err := c.measure(drive)
		if err != nil {
			children[i] = nil // it has ended
			return nil, err
		}
		if r.fresh {
			children[i] = nil
			return v, c.close()
		}
		return v, nil
	}

	rounds := r.rounds[1]
	if f.quick {
		rounds = r.rounds[0]
	}
	measured := make([][]values, len(r.subjects))
	first := 0
	if r.fresh {
		first = 1 // there is nothing to warm in a process of its own
	}
	for round := first; round <= rounds; round++ {
		for turn := range r.subjects {
			i := (turn + round) % len(r.subjects)
			v, err := once(i)
			if err != nil {
				return nil, err
			}
			fmt.Fprint(progress, ".")
			if round > 0 {
				measured[i] = append(measured[i], v)
			}
		}
	}
	return newResult(r, rounds, measured), nil
}
