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
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// Event is what happens to a data plane or a shard.
type Event struct {
	Time time.Time `json:"time"`
	// Replica is the replica that reports it, if there are several.
	Replica string `json:"replica,omitempty"`
	// Shard is the shard that it is about; nil if it is about a data plane.
	Shard *int `json:"shard,omitempty"`
	// DataPlane is the namespace and name of the data plane that it is about, or empty.
	DataPlane string `json:"dataPlane,omitempty"`
	// State is the state of a data plane in its Fleet, or Rotated when its run goes on with new
	// credentials. A shard is Leading or Stopped.
	State fleet.State `json:"state"`
	// Deployments is the number of Deployments while State is Running; it is unknown in
	// other states.
	Deployments int `json:"deployments"`
	// Reason says why a run has ended, why the replica no longer leads the shard, or why it
	// can't use new credentials.
	Reason string `json:"reason,omitempty"`
}

const (
	leading fleet.State = "Leading"
	rotated fleet.State = "Rotated"
)

func (e Event) subject() string {
	if e.Shard != nil {
		return fmt.Sprintf("shard %d", *e.Shard)
	}
	return e.DataPlane
}

// jsonReport returns a function that prints events as JSON.
func jsonReport(out io.Writer) func(Event) {
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	return func(event Event) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(event)
	}
}

// board keeps the latest event of each data plane and shard, and prints events.
type board struct {
	out io.Writer

	mu        sync.Mutex
	latest    map[key]Event
	suspended string // the replica whose events are dropped, if any
	rotations int
	changed   chan struct{} // closed, and replaced, at each change
}

// key names a data plane or shard, and the replica that reports it.
type key struct{ replica, subject string }

func newBoard(out io.Writer) *board {
	return &board{out: out, latest: map[key]Event{}, changed: make(chan struct{})}
}

// report stores and prints an event.
func (b *board) report(event Event) {
	b.change(func() {
		if event.Replica != "" && event.Replica == b.suspended {
			return
		}
		k := key{event.Replica, event.subject()}
		_, known := b.latest[k]
		switch event.State {
		case fleet.StateStopped, fleet.StateGone:
			if !known {
				return
			}
			delete(b.latest, k)
		case rotated:
			b.rotations++
		case fleet.StateStarting:
			if known { // the last event counts until the run reports another
				return
			}
			fallthrough
		default:
			b.latest[k] = event
		}
		b.print(event)
	})
}

// forget drops all events of a replica.
func (b *board) forget(replica string) {
	b.change(func() { maps.DeleteFunc(b.latest, func(k key, _ Event) bool { return k.replica == replica }) })
}

// change calls f with the lock held, and wakes those that wait.
func (b *board) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// print prints a line. The caller holds the lock.
func (b *board) print(event Event) {
	line := event.Time.Format(time.TimeOnly) + "  "
	if event.Replica != "" {
		line += event.Replica + "  "
	}
	line += fmt.Sprintf("%-20s  %-8s", event.subject(), event.State)
	switch {
	case event.State == fleet.StateRunning:
		line += fmt.Sprintf("  %d", event.Deployments)
	case event.Reason != "":
		line += "  " + oneLine(event.Reason)
	}
	if event.DataPlane != "" {
		line += "  (all: " + b.sum().String() + ")"
	}
	fmt.Fprintln(b.out, line)
}

// sum is the total over all data planes.
type sum struct{ Deployments, Running, Planes int }

// String returns text such as "7 Deployments in 3 of 4 data planes".
func (s sum) String() string {
	return fmt.Sprintf("%d Deployments in %d of %d data planes", s.Deployments, s.Running, s.Planes)
}

// sum returns the total. The caller holds the lock.
func (b *board) sum() (s sum) {
	for _, event := range b.latest {
		if event.DataPlane == "" {
			continue
		}
		s.Planes++
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
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\n  DATA PLANE\tSTATE\tDEPLOYMENTS\tREPLICA")
	for _, k := range slices.SortedFunc(maps.Keys(b.latest), func(x, y key) int { return cmp.Compare(x.subject, y.subject) }) {
		event, number := b.latest[k], "-"
		if event.DataPlane == "" {
			continue
		}
		if event.State == fleet.StateRunning {
			number = strconv.Itoa(event.Deployments)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", k.subject, event.State, number, cmp.Or(k.replica, "-"))
	}
	_ = w.Flush()
	fmt.Fprintf(b.out, "  %s\n", b.sum())
}

// wait waits until holds returns true. It calls holds with the lock held.
func (b *board) wait(ctx context.Context, what string, holds func() bool) error {
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
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
}

// printStatus prints what a Fleet says about its data planes.
func printStatus(out io.Writer, status fleet.Status) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NAMESPACE\tNAME\tSTATE\tRUNNING SINCE\tRESTARTS\tLAST ERROR")
	for _, p := range status.Planes {
		since := "-"
		if !p.RunningSince.IsZero() {
			since = p.RunningSince.Format(time.TimeOnly)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%d\t%s\n", p.Namespace, p.Name, p.State, since, p.Restarts, cmp.Or(oneLine(p.LastError), "-"))
	}
	_ = w.Flush()
}

// oneLine returns the beginning of an error, which may quote a long answer.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), 200)]
}
