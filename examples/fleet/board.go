// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// Event is a change of a data plane or a shard.
type Event struct {
	Time time.Time `json:"time"`
	// Replica is the replica that reports the event, if there are several.
	Replica string `json:"replica,omitempty"`
	// Subject is a data plane, such as default/production, or a shard, such as "shard 3".
	Subject string `json:"subject"`
	State   state  `json:"state"`
	// Deployments is the number of Deployments in a data plane that is Running.
	Deployments int `json:"deployments"`
	// Reason says why the data plane or shard has this state.
	Reason string `json:"reason,omitempty"`
}

// state is the state of a data plane or shard at a replica.
type state string

const (
	running  state = "Running"  // the replica counts in the data plane
	leading  state = "Leading"  // the replica leads the shard
	rotated  state = "Rotated"  // a run has new credentials, and remains
	retrying state = "Retrying" // a run has failed, and another follows
	ended    state = "Ended"    // a run has ended, or the replica no longer leads the shard
	deleted  state = "Deleted"  // a run has ended because the data plane was deleted
	gone     state = "Gone"     // the replica drops the data plane, perhaps after Ended or Deleted
)

func shardName(shard int) string { return fmt.Sprintf("shard %d", shard) }

func isShard(subject string) bool { return strings.HasPrefix(subject, "shard ") }

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

// board prints a line for each event, and stores which replicas count in which data planes.
type board struct {
	out io.Writer

	mu        sync.Mutex
	latest    map[string]map[string]Event // of each subject, by replica
	kept      map[string]bool             // data planes that stay in latest when no replica counts in them
	suspended string                      // the replica whose events are dropped, if any
	rotations int
	changed   chan struct{} // closed, and replaced, at each change
}

// newBoard returns a board that has these data planes before a replica counts in them.
func newBoard(out io.Writer, dataPlanes ...string) *board {
	b := &board{out: out, latest: map[string]map[string]Event{}, kept: map[string]bool{}, changed: make(chan struct{})}
	for _, dataPlane := range dataPlanes {
		b.latest[dataPlane], b.kept[dataPlane] = map[string]Event{}, true
	}
	return b
}

// report stores and prints an event.
func (b *board) report(event Event) {
	b.change(func() {
		if event.Replica != "" && event.Replica == b.suspended {
			return
		}
		by := b.latest[event.Subject]
		switch event.State {
		case rotated:
			b.rotations++
		case deleted:
			delete(b.latest, event.Subject)
		case gone:
			if _, counted := by[event.Replica]; !counted {
				return
			}
			fallthrough
		case ended:
			delete(by, event.Replica)
			if len(by) == 0 && !b.kept[event.Subject] {
				delete(b.latest, event.Subject)
			}
		default:
			if by == nil {
				by = map[string]Event{}
				b.latest[event.Subject] = by
			}
			by[event.Replica] = event
		}
		b.print(event)
	})
}

// forget drops the events of a replica, and prints why it no longer counts.
func (b *board) forget(replica, why string) {
	b.change(func() {
		for _, by := range b.latest {
			delete(by, replica)
		}
		fmt.Fprintf(b.out, "%s  %s %s  (%s)\n", time.Now().Format(time.TimeOnly), replica, why, b.sum())
	})
}

// change calls f with the lock held, and wakes the callers of wait.
func (b *board) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// print prints a line. The caller holds the lock.
func (b *board) print(event Event) {
	line := event.Time.Format(time.TimeOnly)
	if event.Replica != "" {
		line += "  " + event.Replica
	}
	line += fmt.Sprintf("  %-18s  %-8s", event.Subject, event.State)
	if !isShard(event.Subject) {
		count := ""
		if event.State == running {
			count = strconv.Itoa(event.Deployments)
		}
		line += fmt.Sprintf("  %2s  (%s)", count, b.sum())
	}
	fmt.Fprintln(b.out, strings.TrimRight(line+"  "+oneLine(event.Reason), " "))
}

// sum is the total over all data planes.
type sum struct{ deployments, counted, planes int }

// String returns text such as "total 7 in 3 of 4 data planes".
func (s sum) String() string {
	return fmt.Sprintf("total %d in %d of %d data planes", s.deployments, s.counted, s.planes)
}

// unless returns what differs from the wanted sum, or "".
func (s sum) unless(want sum) string {
	if s == want {
		return ""
	}
	return fmt.Sprintf("%s, instead of %s", s, want)
}

// sum returns the total. It counts a data plane once even if two replicas have a run for it: one that was suspended, and hasn't
// noticed yet that the other has taken over. The caller holds the lock.
func (b *board) sum() (s sum) {
	for subject, by := range b.latest {
		if isShard(subject) {
			continue
		}
		var newest Event
		for _, event := range by {
			if event.State == running && event.Time.After(newest.Time) {
				newest = event
			}
		}
		s.planes++
		if newest.State == running {
			s.counted++
			s.deployments += newest.Deployments
		}
	}
	return s
}

// wait waits until missing returns "". It calls missing with the lock held. The error contains the last text.
func (b *board) wait(ctx context.Context, missing func() string) error {
	for {
		b.mu.Lock()
		text, changed := missing(), b.changed
		b.mu.Unlock()
		if text == "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", text, ctx.Err())
		}
	}
}

// printStatus prints the data planes in the Status of a Fleet.
func printStatus(out io.Writer, status fleet.Status) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NAMESPACE\tNAME\tSTATE\tRUNNING SINCE\tRESTARTS\tLAST ERROR")
	for _, p := range status.Planes {
		since := "-"
		if !p.RunningSince.IsZero() {
			since = p.RunningSince.Local().Format(time.TimeOnly)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%d\t%s\n", p.Namespace, p.Name, p.State, since, p.Restarts, cmp.Or(oneLine(p.LastError), "-"))
	}
	_ = w.Flush()
}

// oneLine returns the beginning of an error in one line: an error may quote a long answer.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), 200)]
}
