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

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// Event is a change of the state of a data plane or of a shard.
type Event struct {
	// Time is when this program saw it.
	Time time.Time `json:"time"`
	// Replica is the replica that reports it, if there are several.
	Replica string `json:"replica,omitempty"`
	// Shard is the shard that it is about, such as "shard 2 of 6", or empty.
	Shard string `json:"shard,omitempty"`
	// DataPlane is the namespace and name of the data plane that it is about, or empty.
	DataPlane string `json:"dataPlane,omitempty"`
	// State is the state of a data plane in its Fleet. A shard is Leading or Stopped.
	State fleet.State `json:"state"`
	// Deployments is the number of Deployments while State is Running; it is unknown in
	// other states.
	Deployments int64 `json:"deployments"`
	// Reason says why a run failed or starts again.
	Reason string `json:"reason,omitempty"`
}

// patience is how long the stories wait for an event, which takes far less.
const patience = 3 * time.Minute

// leads is the state of a shard that the replica leads.
const leads fleet.State = "Leading"

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

// board keeps the latest event of each data plane and shard, and prints changes.
type board struct {
	out io.Writer

	mu      sync.Mutex
	planes  map[subject]Event
	shards  map[subject]Event
	changed chan struct{} // closed, and replaced, at each change
}

// subject names a data plane or shard, and the replica that reports it.
type subject struct{ replica, name string }

func newBoard(out io.Writer) *board {
	return &board{out: out, planes: map[subject]Event{}, shards: map[subject]Event{}, changed: make(chan struct{})}
}

// report stores and prints an event.
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
	case event.State == fleet.StateStopped, event.State == fleet.StateGone:
		if !is {
			return
		}
		delete(known, key)
	case is && event.State == fleet.StateStarting && event.Reason == "":
		return // the last event counts until the run reports another
	default:
		known[key] = event
	}
	b.print(event)
	close(b.changed)
	b.changed = make(chan struct{})
}

// forget drops all events of a replica.
func (b *board) forget(replica string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := func(key subject, _ Event) bool { return key.replica == replica }
	maps.DeleteFunc(b.planes, of)
	maps.DeleteFunc(b.shards, of)
	close(b.changed)
	b.changed = make(chan struct{})
}

// print prints a line. The caller holds the lock.
func (b *board) print(event Event) {
	line := event.Time.Format(time.TimeOnly) + "  "
	if event.Replica != "" {
		line += event.Replica + "  "
	}
	line += fmt.Sprintf("%-20s  %-8s", event.DataPlane+event.Shard, event.State)
	switch {
	case event.State == fleet.StateRunning:
		line += fmt.Sprintf("  %d", event.Deployments)
	case event.Reason != "":
		line += "  " + event.Reason
	}
	if event.DataPlane != "" {
		line += "  (all: " + b.sum().String() + ")"
	}
	fmt.Fprintln(b.out, line)
}

// sum is the total over all data planes.
type sum struct {
	Deployments     int64
	Running, Planes int
}

// String returns text such as "7 Deployments in 3 of 4 data planes".
func (s sum) String() string {
	return fmt.Sprintf("%d Deployments in %d of %d data planes", s.Deployments, s.Running, s.Planes)
}

// sum returns the total. The caller holds the lock.
func (b *board) sum() sum {
	s := sum{Planes: len(b.planes)}
	for _, event := range b.planes {
		if event.State == fleet.StateRunning {
			s.Running++
			s.Deployments += event.Deployments
		}
	}
	return s
}

// table prints the latest event of each data plane.
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
		if event.State == fleet.StateRunning {
			number = strconv.FormatInt(event.Deployments, 10)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", key.name, event.State, number, cmp.Or(key.replica, "-"))
	}
	_ = w.Flush()
	fmt.Fprintf(b.out, "  %s\n", b.sum())
}

// wait waits until holds returns true. It calls holds with the lock held.
func (b *board) wait(ctx context.Context, what string, holds func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %s for %s", patience, what))
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
