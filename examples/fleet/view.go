// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Event says what has become of a data plane or of a shard.
type Event struct {
	// Time is when this program saw it.
	Time time.Time `json:"time"`
	// Replica is the one that tells it, if there are several.
	Replica string `json:"replica,omitempty"`
	// Shard is which of them it is about, such as "shard 2 of 6", or else none.
	Shard string `json:"shard,omitempty"`
	// DataPlane is the namespace and name of the one that it is about, or else empty.
	DataPlane string `json:"dataPlane,omitempty"`
	// State of a data plane is what its Fleet does for it; that of a shard is Leading or
	// Stopped.
	State helpers.FleetState `json:"state"`
	// Deployments is how many there are, of a data plane that is Running. In other states,
	// it is not known.
	Deployments int64 `json:"deployments"`
	// Reason is why, of what has gone wrong or begins anew.
	Reason string `json:"reason,omitempty"`
}

// patience is how long the stories wait for what must come. It takes far less.
const patience = 3 * time.Minute

// leads is the state of a shard that the replica leads.
const leads helpers.FleetState = "Leading"

// jsonReport returns a function that prints events as JSON.
func jsonReport(out io.Writer) func(Event) {
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	return func(event Event) {
		mu.Lock()
		defer mu.Unlock()
		event.Time = time.Now()
		_ = encoder.Encode(event)
	}
}

// board is what is known of all data planes and shards. It prints what changes.
type board struct {
	out io.Writer

	mu      sync.Mutex
	planes  map[subject]Event
	shards  map[subject]Event
	changed chan struct{} // closed, and replaced, at each change
}

// subject is what a replica has told about.
type subject struct{ replica, name string }

func newBoard(out io.Writer) *board {
	return &board{out: out, planes: map[subject]Event{}, shards: map[subject]Event{}, changed: make(chan struct{})}
}

// report takes in an event.
func (b *board) report(event Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	event.Time = time.Now()
	known, key := b.planes, subject{event.Replica, event.DataPlane}
	if event.Shard != "" {
		known, key = b.shards, subject{event.Replica, event.Shard}
	}
	_, is := known[key]
	switch {
	case event.State == helpers.FleetStopped, event.State == helpers.FleetGone:
		if !is {
			return
		}
		delete(known, key)
	case is && event.State == helpers.FleetStarting && event.Reason == "":
		return // what is known counts until the run knows better
	default:
		known[key] = event
	}
	b.print(event)
	close(b.changed)
	b.changed = make(chan struct{})
}

// forget drops all that a replica has told.
func (b *board) forget(replica string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := func(key subject, _ Event) bool { return key.replica == replica }
	maps.DeleteFunc(b.planes, of)
	maps.DeleteFunc(b.shards, of)
	close(b.changed)
	b.changed = make(chan struct{})
}

// print prints a line. The caller has the lock.
func (b *board) print(event Event) {
	line := event.Time.Format(time.TimeOnly) + "  "
	if event.Replica != "" {
		line += event.Replica + "  "
	}
	line += fmt.Sprintf("%-20s  %-8s", event.DataPlane+event.Shard, event.State)
	switch {
	case event.State == helpers.FleetRunning:
		line += fmt.Sprintf("  %d", event.Deployments)
	case event.Reason != "":
		line += "  " + event.Reason
	}
	if event.DataPlane != "" {
		line += "  (all: " + b.sum().String() + ")"
	}
	fmt.Fprintln(b.out, line)
}

// sum is what all data planes come to.
type sum struct {
	Deployments     int64
	Running, Planes int
}

// String returns such as "7 Deployments in 3 of 4 data planes".
func (s sum) String() string {
	return fmt.Sprintf("%d Deployments in %d of %d data planes", s.Deployments, s.Running, s.Planes)
}

// sum adds up. The caller has the lock.
func (b *board) sum() sum {
	s := sum{Planes: len(b.planes)}
	for _, event := range b.planes {
		if event.State == helpers.FleetRunning {
			s.Running++
			s.Deployments += event.Deployments
		}
	}
	return s
}

// table prints all that is known.
func (b *board) table() {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(b.planes), func(x, y subject) int {
		return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.replica, y.replica))
	})
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\n  DATA PLANE\tSTATE\tDEPLOYMENTS\tREPLICA")
	for _, key := range keys {
		event, number := b.planes[key], "-"
		if event.State == helpers.FleetRunning {
			number = strconv.FormatInt(event.Deployments, 10)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", key.name, event.State, number, cmp.Or(key.replica, "-"))
	}
	_ = w.Flush()
	fmt.Fprintf(b.out, "  %s\n", b.sum())
}

// wait waits until something holds, which is asked with the lock held.
func (b *board) wait(ctx context.Context, what string, holds func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %s in vain for %s", patience, what))
	defer cancel()
	for {
		b.mu.Lock()
		done, changed := holds(), b.changed
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
