// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestFleetStatusInJSON(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	status := fleet.Status{Informers: []fleet.InformerStatus{{Kind: "DataPlane", Synced: true}, {Error: "no", ErrorTime: now}}, Planes: []fleet.PlaneStatus{
		{
			Namespace: "default", Name: "a", UID: "uid-1", State: fleet.StateRunning, RunningSince: now.Add(-90 * time.Second),
			Connection: &remote.ConnectionStatus{Reachability: remote.ReachabilityReachable, LastSuccess: now},
		},
		{
			Namespace: "default", Name: "b", State: fleet.StateRetrying, Restarts: 3, LastError: "dial tcp:\nrefused",
			LastErrorTime: now.Add(-5 * time.Second), NextRetry: now.Add(8 * time.Second), Overdue: 1,
		},
		{Name: "c", State: fleet.StateDone},
	}}
	data, err := json.Marshal(status)
	require.NoError(t, err)
	assert.JSONEq(t, `{"informers": [{"kind": "DataPlane", "synced": true}, {"synced": false, "error": "no", "errorTime": "2023-11-14T22:13:20Z"}], "planes": [
		{"namespace": "default", "name": "a", "uid": "uid-1", "state": "Running", "runningSince": "2023-11-14T22:11:50Z", "restarts": 0,
			"connection": {"reachability": "Reachable", "lastSuccess": "2023-11-14T22:13:20Z"}},
		{"namespace": "default", "name": "b", "state": "Retrying", "restarts": 3, "lastError": "dial tcp:\nrefused",
			"lastErrorTime": "2023-11-14T22:13:15Z", "nextRetry": "2023-11-14T22:13:28Z", "overdue": 1},
		{"name": "c", "state": "Done", "restarts": 0}
	]}`, string(data))
}

func TestFleetStatusShowsTheConnectionOfARun(t *testing.T) {
	f := newFleetTest(t, true, fleet.Options{})
	f.add("a")
	r := f.next()
	connection := f.status("a").Connection
	require.NotNil(t, connection)
	assert.Empty(t, connection.Reachability, "before the first request")
	_, err := get(t.Context(), r.cluster, "/")
	require.NoError(t, err)
	assert.Equal(t, remote.ReachabilityReachable, f.status("a").Connection.Reachability)
	r.end <- nil
	f.requireState("a", fleet.StateDone)
	assert.Nil(t, f.status("a").Connection)
}

// The times of a Connection are UTC, too.
func TestTimesInAStatusAreUTC(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour}})
	f.add("a")
	f.next().end <- errors.New("down")
	f.requireState("a", fleet.StateRetrying)
	f.add("b")
	f.next()
	a, b := f.status("a"), f.status("b")
	for name, at := range map[string]time.Time{"LastErrorTime": a.LastErrorTime, "NextRetry": a.NextRetry, "RunningSince": b.RunningSince} {
		require.NotZero(t, at, name)
		assert.Same(t, time.UTC, at.Location(), name)
	}
	assert.Zero(t, a.RunningSince)
	assert.Zero(t, b.NextRetry)
}

func TestFleetCallsUserFunctionsWithoutItsLock(t *testing.T) {
	var f *fleet.Fleet
	s, server := newSource(t), testserver.New(t, testserver.WhoAmI)
	began := make(chan struct{}, 10)
	f = fleet.New(func(ctx context.Context, _ *remote.Cluster) error { began <- struct{}{}; <-ctx.Done(); return nil },
		fleet.Options{
			Filter:    func(*v1alpha1.DataPlane, bool) bool { f.Status(); return true },
			RestartOn: func(_, _ *v1alpha1.DataPlane) bool { f.Status(); return true },
		}, s.informer)
	stop := runFleet(t, f)
	dp := server.DataPlane("a", "user")
	s.Add(dp.DeepCopy())
	testserver.Receive(t, began)
	dp.Labels = map[string]string{"x": "y"}
	s.Modify(dp.DeepCopy())
	testserver.Receive(t, began)
	stop()
}

// slowError is an error whose Error method blocks until told is closed.
type slowError struct{ asked, told chan struct{} }

func (e *slowError) Error() string {
	e.asked <- struct{}{}
	<-e.told
	return "slow"
}

// The Error method of a user's error may call Status, so no lock is held when it is called.
func TestErrorIsCalledWithoutTheLock(t *testing.T) {
	s := newSource(t)
	e := &slowError{make(chan struct{}, 100), make(chan struct{})}
	f := fleet.New(func(context.Context, *remote.Cluster) error { return e },
		fleet.Options{Remote: remote.Options{ConfigFor: someConfig}}, s.informer)
	stop := runFleet(t, f)
	s.Add(&v1alpha1.DataPlane{})
	<-e.asked
	status := make(chan fleet.Status, 1)
	go func() { status <- f.Status() }()
	testserver.Receive(t, status) // it doesn't wait for Error
	close(e.told)
	stop()
}

// Status.Sharding is nil only without Options.Sharding, so a metrics endpoint needs no other check.
func TestStatusSaysThatRunHasNotBeenCalled(t *testing.T) {
	f := fleet.New(untilEnd, fleet.Options{Sharding: &fleet.Sharding{}}, newSource(t).informer)
	assert.Equal(t, "Run has not been called", f.Status().Sharding.LastError)
	require.Error(t, f.Run(t.Context()), "the options are invalid")
	assert.NotEmpty(t, f.Status().Sharding.LastError)
}
