// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"
)

// FleetStatus is what a [Fleet] does at one moment. In JSON, times are those of RFC 3339.
type FleetStatus struct {
	// Planes are the data planes that are or were selected, by namespace and name.
	Planes []PlaneStatus `json:"planes"`
}

// PlaneStatus is what a [Fleet] does for one DataPlane.
type PlaneStatus struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// UID is that of the object that the last run was for.
	UID   types.UID  `json:"uid,omitempty"`
	State FleetState `json:"state"`
	// RunningSince is when the run under way began; zero if there is none.
	RunningSince time.Time `json:"runningSince,omitzero"`
	// Restarts counts the runs after the first.
	Restarts int `json:"restarts"`
	// LastError is the last error of a run, perhaps of an earlier one, as the run
	// returned it, and LastErrorTime when that was.
	LastError     string    `json:"lastError,omitempty"`
	LastErrorTime time.Time `json:"lastErrorTime,omitzero"`
	// NextRetry is when there will be another run; zero unless State is FleetRetrying.
	NextRetry time.Time `json:"nextRetry,omitzero"`
	// Overdue counts runs that were given up, and still have not returned.
	Overdue int `json:"overdue,omitempty"`
}

// FleetState says what a [Fleet] does for a DataPlane.
type FleetState string

// The states of a DataPlane in a [Fleet].
const (
	// FleetStarting says that a run is due, and waits for others to start.
	FleetStarting FleetState = "Starting"
	// FleetRunning says that there is a run.
	FleetRunning FleetState = "Running"
	// FleetStopping says that the context of a run has ended, and the run has not.
	FleetStopping FleetState = "Stopping"
	// FleetRetrying says that a run has returned an error, and there will be another.
	FleetRetrying FleetState = "Retrying"
	// FleetDone says that a run has returned nil.
	FleetDone FleetState = "Done"
	// FleetFailed says that the credentials can't be used.
	FleetFailed FleetState = "Failed"
	// FleetNotSelected says that a filter no longer selects the DataPlane.
	FleetNotSelected FleetState = "NotSelected"
	// FleetStopped says that the Fleet has ended.
	FleetStopped FleetState = "Stopped"
	// FleetGone says that there is no such DataPlane, but a run that was given up.
	FleetGone FleetState = "Gone"
)

// Status returns what the Fleet does now; after Run, what it did last. It may be called at
// any time from any goroutine, but not from [FleetHooks].OnRemove.
func (f *Fleet) Status() FleetStatus {
	f.mu.Lock()
	status := FleetStatus{Planes: make([]PlaneStatus, 0, len(f.members))}
	for key, m := range f.members {
		plane := m.status
		plane.Namespace, plane.Name, plane.Overdue = key.Namespace, key.Name, f.overdue[key]
		status.Planes = append(status.Planes, plane)
	}
	for key, n := range f.overdue {
		if f.members[key] == nil {
			status.Planes = append(status.Planes, PlaneStatus{Namespace: key.Namespace, Name: key.Name, State: FleetGone, Overdue: n})
		}
	}
	f.mu.Unlock()
	slices.SortFunc(status.Planes, func(a, b PlaneStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return status
}

// String counts the data planes in each state, in one line.
func (s FleetStatus) String() string {
	counts := map[FleetState]int{}
	for i := range s.Planes {
		counts[s.Planes[i].State]++
	}
	var parts []string
	for _, state := range []FleetState{
		FleetStarting, FleetRunning, FleetStopping, FleetRetrying, FleetDone, FleetFailed, FleetNotSelected, FleetStopped, FleetGone,
	} {
		if counts[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	return strings.Join(append([]string{fmt.Sprintf("%d data planes", len(s.Planes))}, parts...), ", ")
}

// Table returns the status as a table for a person, a line for each data plane, each ended
// by a newline. Ages are those at now.
func (s FleetStatus) Table(now time.Time) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tNAME\tSTATE\tRUNNING\tRESTARTS\tRETRY IN\tLAST ERROR")
	for i := range s.Planes {
		p := &s.Planes[i]
		running, retry, lastError := "-", "-", cell(p.LastError)
		if !p.RunningSince.IsZero() {
			running = duration.HumanDuration(max(now.Sub(p.RunningSince), 0))
		}
		if !p.NextRetry.IsZero() {
			retry = duration.HumanDuration(max(p.NextRetry.Sub(now), 0))
		}
		if p.LastError != "" {
			lastError += fmt.Sprintf(" (%s ago)", duration.HumanDuration(max(now.Sub(p.LastErrorTime), 0)))
		}
		state := string(p.State)
		if p.Overdue > 0 {
			state += " (" + strconv.Itoa(p.Overdue) + " overdue)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", cell(p.Namespace), p.Name, state, running, p.Restarts, retry, lastError)
	}
	_ = w.Flush() // to a Builder, which takes everything
	return out.String()
}
