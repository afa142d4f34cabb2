// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Status is the state of a [Fleet] at one moment. Its times are UTC.
type Status struct {
	// Informers are the informers, in the order of New's arguments. Until an informer has synced,
	// some or all of its data planes have no run. With Sharding, this replica takes no shard until
	// each informer has synced, or can't list because its kind or a right is missing.
	Informers []InformerStatus `json:"informers"`
	// Planes are the data planes that are or were selected, sorted by namespace and name. With
	// Sharding, only the shards that this replica leads are included.
	Planes []PlaneStatus `json:"planes"`
	// Sharding is nil without Options.Sharding.
	Sharding *ShardingStatus `json:"sharding,omitempty"`
}

// InformerStatus is the state of an informer of a [Fleet].
type InformerStatus struct {
	// Kind is DataPlane or ClusterDataPlane, or empty until the informer has an object or an error.
	Kind string `json:"kind,omitempty"`
	// Synced is whether the informer has listed its objects.
	Synced bool `json:"synced"`
	// Error is the last error of a list or watch, and ErrorTime its time. The informer tries again
	// within a minute. A success doesn't clear the error.
	Error     string    `json:"error,omitempty"`
	ErrorTime time.Time `json:"errorTime,omitzero"`
}

// ShardingStatus is the state of a replica in a [Sharding].
type ShardingStatus struct {
	// Identity is Sharding.Identity and a suffix that makes it unique to this process.
	Identity string `json:"identity,omitempty"`
	// Leads are the shards that this replica leads, including any that it is giving up.
	Leads []int `json:"leads,omitempty"`
	// Replicas are the identities of the live replicas that this one sees, itself included.
	Replicas []string `json:"replicas,omitempty"`
	// Waiting are the shards in this replica's share that it doesn't lead yet.
	Waiting []ShardWait `json:"waiting,omitempty"`
	// LastError is why this replica can't join, see the others, lead a shard of its share, or
	// renew a Lease. It shows one reason at a time, and is empty if there is none.
	LastError string `json:"lastError,omitempty"`
}

// ShardWait is a shard that a replica waits for.
type ShardWait struct {
	Shard int `json:"shard"`
	// Lease is the name of the shard's Lease.
	Lease string `json:"lease"`
	// Holder is the Lease's holder, if any. A holder that is not in Replicas is a replica that is
	// ending, was killed or is cut off, or another program.
	Holder string `json:"holder,omitempty"`
}

// PlaneStatus is the state of one data plane of a [Fleet].
type PlaneStatus struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// UID is the UID of the last run's object.
	UID   types.UID `json:"uid,omitempty"`
	State State     `json:"state"`
	// RunningSince is when the current run began; zero if there is none.
	RunningSince time.Time `json:"runningSince,omitzero"`
	// Restarts counts the runs after the first.
	Restarts int `json:"restarts"`
	// LastError is the last error of any run, or of credentials that can't be used, and
	// LastErrorTime its time.
	LastError     string    `json:"lastError,omitempty"`
	LastErrorTime time.Time `json:"lastErrorTime,omitzero"`
	// Connection is what the requests of the current run have shown; nil without a run.
	Connection *remote.ConnectionStatus `json:"connection,omitempty"`
	// NextRetry is when the next run begins; zero unless State is StateRetrying.
	NextRetry time.Time `json:"nextRetry,omitzero"`
	// Overdue counts the runs that were abandoned and still haven't returned.
	Overdue int `json:"overdue,omitempty"`
}

// State summarizes a data plane's runs.
type State string

// The values of State.
const (
	// StateStarting means that a run is due: its Cluster is being made, or it waits for other
	// runs to start.
	StateStarting State = "Starting"
	// StateRunning means that a run has its Cluster and hasn't ended.
	StateRunning State = "Running"
	// StateStopping means that the context of a run has ended and the run hasn't returned.
	StateStopping State = "Stopping"
	// StateRetrying means that a run failed, or no Cluster could be made for it, and the next run
	// begins at NextRetry.
	StateRetrying State = "Retrying"
	// StateDone means that a run returned nil.
	StateDone State = "Done"
	// StateNotSelected means that Options.Filter no longer selects the DataPlane.
	StateNotSelected State = "NotSelected"
	// StateStopped means that the Fleet has ended, or no longer leads the data plane's shard.
	StateStopped State = "Stopped"
	// StateGone means that the DataPlane is gone or another replica takes it over, but a hook or an
	// abandoned run hasn't returned.
	StateGone State = "Gone"
)

// Status returns the current state of the Fleet or, after Run, the last. It may be called at any
// time from any goroutine.
func (f *Fleet) Status() Status {
	status := Status{Sharding: f.shardingStatus()}
	for _, i := range f.informers {
		status.Informers = append(status.Informers, i.status())
	}
	f.mu.Lock()
	status.Planes = make([]PlaneStatus, 0, len(f.planes))
	var clusters []*remote.Cluster // of the planes, nil without a run
	for _, p := range f.planes {
		status.Planes = append(status.Planes, p.status())
		clusters = append(clusters, p.cluster())
	}
	for key, n := range f.overdue {
		if f.planes[key] == nil {
			status.Planes = append(status.Planes, PlaneStatus{Namespace: key.Namespace, Name: key.Name, State: StateGone, Overdue: n})
		}
	}
	f.mu.Unlock()
	for i, cluster := range clusters {
		if cluster != nil {
			connection := cluster.Status()
			status.Planes[i].Connection = &connection
		}
	}
	slices.SortFunc(status.Planes, func(a, b PlaneStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return status
}

// status returns the plane's status. The caller holds Fleet.mu.
func (p *plane) status() PlaneStatus {
	s := PlaneStatus{
		Namespace: p.key.Namespace, Name: p.key.Name, UID: p.uid, State: p.state(), Restarts: max(0, p.runs-1),
		LastError: p.lastError, LastErrorTime: p.failedAt.UTC(), Overdue: p.fleet.overdue[p.key],
	}
	if s.State == StateRetrying {
		s.NextRetry = p.retryAt.UTC()
	}
	if p.run != nil {
		s.RunningSince = p.run.connectedAt.UTC()
	}
	return s
}

func (i *informer) status() InformerStatus {
	s := InformerStatus{Synced: i.HasSynced()}
	i.mu.Lock()
	defer i.mu.Unlock()
	s.Kind, s.ErrorTime = i.kind, i.failed.UTC()
	switch {
	case i.err != nil:
		s.Error = i.err.Error()
	case i.startedBefore && !s.Synced:
		s.Error = "unknown, because the informer was started before New; client-go has logged it"
	}
	return s
}

func (f *Fleet) shardingStatus() *ShardingStatus {
	if f.options.Sharding == nil {
		return nil
	}
	f.mu.Lock()
	replica, syncing := f.replica, f.syncing
	f.mu.Unlock()
	if replica == nil {
		return &ShardingStatus{LastError: "Run has not been called"}
	}
	s := replica.Status() // takes the Replica's lock, so the Fleet's must not be held
	status := &ShardingStatus{Identity: s.Identity, Leads: s.Leads, Replicas: s.Replicas}
	for _, w := range s.Waiting {
		status.Waiting = append(status.Waiting, ShardWait(w))
	}
	switch {
	case syncing:
		status.LastError = "waiting until the informers have listed the data planes"
	case s.LastError != nil:
		status.LastError = s.LastError.Error()
	}
	return status
}
