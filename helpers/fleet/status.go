// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Status is what a [Fleet] does at one moment.
type Status struct {
	// Planes are the data planes that are or were selected, sorted by namespace and name.
	Planes []PlaneStatus `json:"planes"`
}

// PlaneStatus is what a [Fleet] does for one DataPlane.
type PlaneStatus struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// UID is the UID of the object that the last run was for.
	UID   types.UID `json:"uid,omitempty"`
	State State     `json:"state"`
	// RunningSince is when the current run began; zero if there is none.
	RunningSince time.Time `json:"runningSince,omitzero"`
	// Restarts counts the runs after the first.
	Restarts int `json:"restarts"`
	// LastError is the last error of this or an earlier run, and LastErrorTime when it
	// occurred.
	LastError     string    `json:"lastError,omitempty"`
	LastErrorTime time.Time `json:"lastErrorTime,omitzero"`
	// NextRetry is when the next run begins; zero unless State is StateRetrying.
	NextRetry time.Time `json:"nextRetry,omitzero"`
	// Overdue counts the runs that were given up and still haven't returned.
	Overdue int `json:"overdue,omitempty"`
}

// State is what a [Fleet] does for a DataPlane.
type State string

// The values of State.
const (
	// StateStarting means that a run is due and waits for other runs to start.
	StateStarting State = "Starting"
	// StateRunning means that there is a run.
	StateRunning State = "Running"
	// StateStopping means that the context of a run has ended and the run hasn't returned.
	StateStopping State = "Stopping"
	// StateRetrying means that a run failed and the next one is due at NextRetry.
	StateRetrying State = "Retrying"
	// StateDone means that a run returned nil.
	StateDone State = "Done"
	// StateFailed means that no Cluster can be made of the DataPlane, for want of
	// credentials that can be used.
	StateFailed State = "Failed"
	// StateNotSelected means that a filter no longer selects the DataPlane.
	StateNotSelected State = "NotSelected"
	// StateStopped means that the Fleet has ended.
	StateStopped State = "Stopped"
	// StateGone means that the DataPlane is gone, but a run that was given up hasn't returned.
	StateGone State = "Gone"
)

// Status returns what the Fleet does now or, after Run, did last. It may be called at any time
// from any goroutine, except from [Hooks].OnRemove.
func (f *Fleet) Status() Status {
	f.mu.Lock()
	status := Status{Planes: make([]PlaneStatus, 0, len(f.members))}
	for key, m := range f.members {
		plane := m.status
		plane.Namespace, plane.Name, plane.Overdue = key.Namespace, key.Name, f.overdue[key]
		status.Planes = append(status.Planes, plane)
	}
	for key, n := range f.overdue {
		if f.members[key] == nil {
			status.Planes = append(status.Planes, PlaneStatus{Namespace: key.Namespace, Name: key.Name, State: StateGone, Overdue: n})
		}
	}
	f.mu.Unlock()
	slices.SortFunc(status.Planes, func(a, b PlaneStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return status
}
