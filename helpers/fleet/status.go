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
	// InformerSynced is whether the informer has listed the data planes. Before that, some or
	// all have no run, and this replica takes no shard.
	InformerSynced bool `json:"informerSynced"`
	// InformerError is the last error with which the informer couldn't list or watch, and
	// InformerErrorTime when it occurred. The informer tries again within a minute, and a
	// success doesn't clear the error.
	InformerError     string    `json:"informerError,omitempty"`
	InformerErrorTime time.Time `json:"informerErrorTime,omitzero"`
	// Planes are the data planes that are or were selected, sorted by namespace and name. With
	// Sharding, they are those of the shards that this replica leads.
	Planes []PlaneStatus `json:"planes"`
	// Sharding is nil without Options.Sharding.
	Sharding *ShardingStatus `json:"sharding,omitempty"`
}

// ShardingStatus is how a replica takes part in a [Sharding].
type ShardingStatus struct {
	// Identity is this replica: Sharding.Identity and a suffix, which each process has for
	// itself.
	Identity string `json:"identity"`
	// Joined is whether this replica takes part. While it is false, LastError says why.
	Joined bool `json:"joined"`
	// Replicas are the identities of the live replicas that this one sees, itself included.
	Replicas []string `json:"replicas,omitempty"`
	// Leads are the shards that this replica leads, also while it gives one up.
	Leads []int `json:"leads,omitempty"`
	// Wants are the shards that fall to this replica.
	Wants []int `json:"wants,omitempty"`
	// Waits are those that it wants and doesn't lead yet.
	Waits []ShardWait `json:"waits,omitempty"`
	// LastError is what keeps this replica from joining, from seeing the others, from leading
	// a shard that it wants, or from renewing a Lease; empty if nothing does. It names one
	// thing at a time.
	LastError string `json:"lastError,omitempty"`
}

// ShardWait is a shard that a replica waits for.
type ShardWait struct {
	Shard int `json:"shard"`
	// Lease is the name of the shard's Lease.
	Lease string `json:"lease"`
	// Holder is the Lease's holder, if any. If it is not in Replicas, it is a replica that is
	// ending, or was killed or cut off, or another program.
	Holder string `json:"holder,omitempty"`
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
	// LastError is the last error of this or an earlier run, or of credentials that can't be
	// used, and LastErrorTime when it occurred.
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
	// StateStarting means that a run is due: its Cluster is being made, or it waits for other
	// runs to start.
	StateStarting State = "Starting"
	// StateRunning means that there is a run.
	StateRunning State = "Running"
	// StateStopping means that the context of a run has ended and the run hasn't returned.
	StateStopping State = "Stopping"
	// StateRetrying means that a run failed, or that no Cluster could be made for one, and
	// that the next attempt is due at NextRetry.
	StateRetrying State = "Retrying"
	// StateDone means that a run returned nil.
	StateDone State = "Done"
	// StateNotSelected means that a filter no longer selects the DataPlane.
	StateNotSelected State = "NotSelected"
	// StateStopped means that the Fleet has ended.
	StateStopped State = "Stopped"
	// StateGone means that the DataPlane is gone, but a run that was given up hasn't returned.
	StateGone State = "Gone"
)

// Status returns what the Fleet does now or, after Run, did last. It may be called at any time
// from any goroutine.
func (f *Fleet) Status() Status {
	status := Status{InformerSynced: f.informer.HasSynced()}
	f.mu.Lock()
	status.InformerError, status.InformerErrorTime = f.informerError, f.informerErrorTime
	if f.deaf && !status.InformerSynced {
		status.InformerError = "unknown, because the informer was started before New; client-go has logged it"
	}
	status.Planes = make([]PlaneStatus, 0, len(f.planes))
	for key, p := range f.planes {
		plane := p.status
		plane.Namespace, plane.Name, plane.Overdue = key.Namespace, key.Name, f.overdue[key]
		status.Planes = append(status.Planes, plane)
	}
	for key, n := range f.overdue {
		if f.planes[key] == nil {
			status.Planes = append(status.Planes, PlaneStatus{Namespace: key.Namespace, Name: key.Name, State: StateGone, Overdue: n})
		}
	}
	if f.replica != nil {
		status.Sharding = f.replica.status(status.InformerSynced)
	} else if f.options.Sharding != nil {
		status.Sharding = &ShardingStatus{LastError: "Run has not been called"}
	}
	f.mu.Unlock()
	slices.SortFunc(status.Planes, func(a, b PlaneStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return status
}
