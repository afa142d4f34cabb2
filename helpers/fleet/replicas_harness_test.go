// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	leaseDuration = 15 * time.Second
	retryPeriod   = 2 * time.Second
	// moment is how long a few rounds take.
	moment = 4 * retryPeriod
)

// program has the Leases and data planes of its replicas. It must be used in a synctest bubble.
type program struct {
	t      *testing.T
	leases *testleases.Server
	source *source
	shards int
	runs   *testleases.History[types.NamespacedName]
}

// replica is a Fleet of a program.
type replica struct {
	program *program
	name    string
	client  *testleases.Client
	fleet   *fleet.Fleet
	stop    context.CancelFunc
	result  chan error
	clings  bool // its runs continue until they are abandoned
}

func (r *replica) sharding() *fleet.ShardingStatus { return r.fleet.Status().Sharding }

// kill ends a replica without a shutdown.
func (r *replica) kill() {
	r.client.SetFault(testleases.CutOff)
	r.program.runs.Kill(r.name)
	r.stop()
}

// bubble calls test with a program of the given shards and data planes.
func bubble(t *testing.T, shards, planes int, test func(t *testing.T, p *program)) {
	t.Helper()
	testleases.Bubble(t, func(t *testing.T) {
		p := &program{
			t: t, leases: testleases.NewServer(), source: newSource(t), shards: shards,
			runs: testleases.NewHistory[types.NamespacedName](),
		}
		for i := range planes {
			dp := &v1alpha1.DataPlane{}
			dp.Namespace, dp.Name, dp.UID = "default", fmt.Sprint("dp-", i), types.UID(strconv.Itoa(i))
			p.source.Add(dp)
		}
		synctest.Wait()
		test(t, p)
	})
}

// start starts a replica whose runs end with their context.
func (p *program) start(name string, edits ...func(*fleet.Options)) *replica {
	p.t.Helper()
	return p.startWith(name, untilEnd, edits...)
}

func (p *program) startWith(name string, run func(context.Context, *remote.Cluster) error, edits ...func(*fleet.Options)) *replica {
	p.t.Helper()
	r := &replica{program: p, name: name, client: p.leases.Client(), result: make(chan error, 1)}
	opts := fleet.Options{
		Remote:   remote.Options{ConfigFor: someConfig},
		Sharding: &fleet.Sharding{Leases: r.client, Namespace: "system", Name: "test", Identity: name, Shards: p.shards},
		Hooks: fleet.Hooks{
			OnStart: func(key types.NamespacedName) { p.runs.Begin(key, name) },
			OnEnd:   func(key types.NamespacedName, err error, _, _ time.Duration) { p.runs.End(key, name, err) },
		},
	}
	for _, edit := range edits {
		edit(&opts)
	}
	r.fleet = fleet.New(run, opts, p.source.informer)
	ctx, stop := context.WithCancel(p.t.Context())
	r.stop = stop
	go func() { r.result <- r.fleet.Run(ctx) }()
	return r
}

// requireShared requires that replicas share the shards evenly, and run all data planes once.
func (p *program) requireShared(planes int, replicas ...*replica) {
	p.t.Helper()
	synctest.Wait()
	leads := map[string][]int{}
	for _, r := range replicas {
		s := r.sharding()
		require.Empty(p.t, s.Waiting, "%s: %+v", r.name, s)
		require.Len(p.t, s.Replicas, len(replicas), r.name)
		leads[r.name] = s.Leads
	}
	testleases.RequireShared(p.t, p.shards, planes, leads, p.runs)
}

// stop shuts replicas down.
func (p *program) stop(replicas ...*replica) {
	p.t.Helper()
	for _, r := range replicas {
		r.stop()
		if err := <-r.result; !r.clings || !errors.Is(err, fleet.ErrOverdue) {
			require.NoError(p.t, err)
		}
	}
}

// end shuts replicas down, and requires that nothing is left.
func (p *program) end(replicas ...*replica) {
	p.t.Helper()
	p.stop(replicas...)
	p.leases.RequireReleased(p.t, p.shards)
	require.Empty(p.t, p.runs.Current(p.t))
}
