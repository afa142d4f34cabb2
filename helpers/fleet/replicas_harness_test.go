// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	leaseDuration = 15 * time.Second
	retryPeriod   = 2 * time.Second
	// moment is how long a few rounds take.
	moment = 4 * retryPeriod
)

// program is what replicas share, with a clock of its own: it must be used in a synctest bubble.
type program struct {
	t      *testing.T
	leases *leaseServer
	source *source
	shards int

	mu   sync.Mutex
	runs map[types.NamespacedName][]*period // in the order of their starts
}

// period is a run in the history of a program.
type period struct {
	replica  *replica
	from, to time.Time // to is zero while it lasts
	err      error
}

// replica is a Fleet of a program.
type replica struct {
	program *program
	name    string
	client  *leaseClient
	fleet   *fleet.Fleet
	stop    context.CancelFunc
	result  chan error
	killed  time.Time // what it did later counts for nothing
	clings  bool      // its runs go on until they are cut off
}

func (r *replica) sharding() *fleet.ShardingStatus { return r.fleet.Status().Sharding }

// hasJoined says whether shards can fall to the replica.
func (r *replica) hasJoined() bool {
	s := r.sharding()
	return len(s.Leads)+len(s.Waiting) > 0
}

// kill is the end of a process.
func (r *replica) kill() {
	r.client.setFault(cutOff)
	r.program.mu.Lock()
	defer r.program.mu.Unlock()
	r.killed = time.Now()
	for _, runs := range r.program.runs {
		for _, run := range runs {
			if run.replica == r && run.to.IsZero() {
				run.to = r.killed
			}
		}
	}
	r.stop()
}

// bubble calls test with a program of so many shards and data planes.
func bubble(t *testing.T, shards, planes int, test func(t *testing.T, p *program)) {
	t.Helper()
	// In Go 1.25 and 1.26, the race detector crashes when two threads of a bubble read channels
	// of expired timers at once, because they share its race context.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		p := &program{
			t: t, leases: &leaseServer{leases: map[string]*coordinationv1.Lease{}}, source: newSource(t), shards: shards,
			runs: map[types.NamespacedName][]*period{},
		}
		for i := range planes {
			dp := &v1alpha1.DataPlane{}
			dp.Namespace, dp.Name, dp.UID = "default", fmt.Sprint("dp-", i), types.UID(strconv.Itoa(i))
			p.source.Add(dp)
		}
		synctest.Wait()
		test(t, p)
		time.Sleep(time.Minute) // requests that are under way end
	})
}

// start starts a replica whose runs end with their context.
func (p *program) start(name string, edits ...func(*fleet.Options)) *replica {
	p.t.Helper()
	return p.startWith(name, func(ctx context.Context, _ *remote.Cluster) error {
		<-ctx.Done()
		return ctx.Err()
	}, edits...)
}

func (p *program) startWith(name string, run func(context.Context, *remote.Cluster) error, edits ...func(*fleet.Options)) *replica {
	p.t.Helper()
	r := &replica{program: p, name: name, client: &leaseClient{server: p.leases}, result: make(chan error, 1)}
	opts := fleet.Options{
		Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
			return &rest.Config{Host: "https://127.0.0.1:1", BearerToken: "token"}, nil
		}},
		Sharding: &fleet.Sharding{Leases: r.client, Namespace: "system", Name: "test", Identity: name, Shards: p.shards},
		Hooks: fleet.Hooks{
			OnStart: func(key types.NamespacedName) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.runs[key] = append(p.runs[key], &period{replica: r, from: time.Now()})
			},
			OnEnd: func(key types.NamespacedName, err error, _, _ time.Duration) {
				p.mu.Lock()
				defer p.mu.Unlock()
				for _, run := range p.runs[key] {
					if run.replica == r && run.to.IsZero() {
						run.to, run.err = time.Now(), err
					}
				}
			},
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

// current returns who runs each data plane, and fails if two do.
func (p *program) current() map[types.NamespacedName]*replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	current := map[types.NamespacedName]*replica{}
	for key, runs := range p.runs {
		for _, run := range runs {
			if run.to.IsZero() && run.replica.killed.IsZero() {
				assert.Nil(p.t, current[key], "two run %s", key)
				current[key] = run.replica
			}
		}
	}
	return current
}

// requireShared requires that replicas share the shards evenly, and run all data planes once.
func (p *program) requireShared(planes int, replicas ...*replica) {
	p.t.Helper()
	synctest.Wait()
	var led []int
	for _, r := range replicas {
		s := r.sharding()
		led = append(led, s.Leads...)
		require.Empty(p.t, s.Waiting, "%s: %+v", r.name, s)
		require.Len(p.t, s.Replicas, len(replicas), r.name)
		require.GreaterOrEqual(p.t, len(s.Leads), p.shards/len(replicas), r.name)
		require.LessOrEqual(p.t, len(s.Leads), (p.shards+len(replicas)-1)/len(replicas), r.name)
	}
	slices.Sort(led)
	for shard := range p.shards {
		require.Equal(p.t, shard, led[shard])
	}
	current := p.current()
	require.Len(p.t, current, planes)
	for _, r := range current {
		require.Contains(p.t, replicas, r)
	}
}

// requireNoOverlap requires that no two runs of a data plane were open at once for longer than
// so long.
func (p *program) requireNoOverlap(tolerance time.Duration) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, runs := range p.runs {
		for i, run := range runs {
			for _, later := range runs[i+1:] {
				if end := run.to; end.IsZero() || end.Sub(later.from) > tolerance {
					require.Fail(p.t, "overlap", "%s: %s until %s, %s from %s", key, run.replica.name, end, later.replica.name, later.from)
				}
			}
		}
	}
}

// stop ends replicas in order.
func (p *program) stop(replicas ...*replica) {
	p.t.Helper()
	for _, r := range replicas {
		r.stop()
		if err := <-r.result; !r.clings || !errors.Is(err, fleet.ErrOverdue) {
			require.NoError(p.t, err)
		}
	}
}

// end ends replicas in order, and requires that nothing is left.
func (p *program) end(replicas ...*replica) {
	p.t.Helper()
	p.stop(replicas...)
	p.leases.mu.Lock()
	defer p.leases.mu.Unlock()
	require.Len(p.t, p.leases.leases, p.shards, "member Leases are left")
	for _, lease := range p.leases.leases {
		require.Empty(p.t, *lease.Spec.HolderIdentity, lease.Name)
	}
	require.Empty(p.t, p.current())
}

// leaders returns who leads each shard.
func leaders(replicas []*replica) map[int]*replica {
	leads := map[int]*replica{}
	for _, r := range replicas {
		for _, shard := range r.sharding().Leads {
			leads[shard] = r
		}
	}
	return leads
}

func to[T any](value T) *T { return &value }

// hold writes a Lease that lasts for so long, as somebody else does.
func (p *program) hold(name, holder string, lasts time.Duration) {
	lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
		HolderIdentity: &holder, LeaseDurationSeconds: to(int32(lasts.Seconds())), RenewTime: to(metav1.NowMicro()),
	}}
	lease.Name = name
	p.leases.mu.Lock()
	defer p.leases.mu.Unlock()
	p.leases.write(lease, nil)
}

// names returns the names of the Leases that there are and of which selected is true.
func (p *program) names(selected func(name string) bool) []string {
	p.leases.mu.Lock()
	defer p.leases.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.leases.leases)), func(name string) bool { return !selected(name) })
}

type neverSynced struct{ cache.SharedIndexInformer }

func (neverSynced) HasSynced() bool { return false }
