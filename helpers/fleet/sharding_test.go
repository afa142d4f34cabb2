// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
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

func TestShardingIsEven(t *testing.T) {
	bubble(t, 8, 20, func(_ *testing.T, p *program) {
		a, b, c := p.start("a"), p.start("b"), p.start("c")
		time.Sleep(moment)
		p.requireShared(20, a, b, c)

		d := p.start("d")
		time.Sleep(moment)
		p.requireShared(20, a, b, c, d)

		// In order: the others take its shards at once.
		p.stop(b)
		time.Sleep(moment)
		p.requireShared(20, a, c, d)

		// Killed: after the Lease has expired.
		c.kill()
		time.Sleep(leaseDuration + moment)
		p.requireShared(20, a, d)
		p.end(a, d)
	})
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

func TestShardingMovesFewShards(t *testing.T) {
	const shards = 16
	bubble(t, shards, 0, func(t *testing.T, p *program) {
		replicas := []*replica{p.start("0")}
		time.Sleep(moment)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 60 {
			n, before := len(replicas), leaders(replicas)
			if n == 1 || n < 7 && random.IntN(2) == 0 {
				n++
				replicas = append(replicas, p.start(strconv.Itoa(i+1)))
				time.Sleep(moment)
			} else {
				gone := random.IntN(n)
				if random.IntN(2) == 0 {
					replicas[gone].stop()
				} else {
					replicas[gone].kill()
				}
				replicas = slices.Delete(replicas, gone, gone+1)
				time.Sleep(leaseDuration + moment)
			}
			p.requireShared(0, replicas...)
			moved, after := 0, leaders(replicas)
			for shard, r := range before {
				if after[shard] != r {
					moved++
				}
			}
			require.LessOrEqual(t, moved, shards/n+2, "of %d replicas, one changed", n)
		}
		p.end(replicas...)
	})
}

// A data plane belongs to the same shard in every release.
func TestShardingHash(t *testing.T) {
	bubble(t, 16, 0, func(t *testing.T, p *program) {
		replicas := []*replica{p.start("a"), p.start("b"), p.start("c"), p.start("d")}
		time.Sleep(moment)
		shards := map[types.NamespacedName]int{
			{Namespace: "default", Name: "prod"}: 4, {Namespace: "default", Name: "staging"}: 8,
			{Namespace: "team-a", Name: "eu-west-1"}: 13, {Namespace: "org", Name: "dp-0"}: 1,
		}
		for key := range shards {
			dp := &v1alpha1.DataPlane{}
			dp.Namespace, dp.Name = key.Namespace, key.Name
			p.source.Add(dp)
		}
		synctest.Wait()
		current, leads := p.current(), leaders(replicas)
		for key, shard := range shards {
			require.NotNil(t, current[key])
			assert.Equal(t, leads[shard].name, current[key].name, key)
		}
		p.end(replicas...)
	})
}

func to[T any](value T) *T { return &value }

// A Lease of a shard's name that another program holds is waited for, and Status says so.
func TestShardingWaitsForAnotherProgram(t *testing.T) {
	bubble(t, 4, 8, func(t *testing.T, p *program) {
		other := &leaseClient{server: p.leases}
		lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
			HolderIdentity: to("somebody"), LeaseDurationSeconds: to(int32(5)), RenewTime: to(metav1.NowMicro()),
		}}
		lease.Name = "test-4-2"
		lease, err := other.Create(t.Context(), lease, metav1.CreateOptions{})
		require.NoError(t, err)
		a := p.start("a")
		for range 20 {
			time.Sleep(2 * time.Second)
			lease.Spec.RenewTime = to(metav1.NowMicro())
			lease, err = other.Update(t.Context(), lease, metav1.UpdateOptions{})
			require.NoError(t, err)
		}
		assert.Equal(t, []int{0, 1, 3}, a.sharding().Leads)
		assert.Equal(t, []fleet.ShardWait{{Shard: 2, Lease: "test-4-2", Holder: "somebody"}}, a.sharding().Waiting)

		time.Sleep(5*time.Second + moment)
		p.requireShared(8, a)

		// It takes the Lease from under the replica.
		lease, err = other.Get(t.Context(), "test-4-2", metav1.GetOptions{})
		require.NoError(t, err)
		lease.Spec.HolderIdentity = to("somebody")
		_, err = other.Update(t.Context(), lease, metav1.UpdateOptions{})
		require.NoError(t, err)
		time.Sleep(moment)
		assert.Equal(t, []int{0, 1, 3}, a.sharding().Leads)
		time.Sleep(leaseDuration)
		p.requireShared(8, a)
		p.end(a)
	})
}

// A Lease that somebody deletes is made again, and its runs go on.
func TestShardingOfADeletedLease(t *testing.T) {
	bubble(t, 4, 8, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(8, a)
		require.NoError(t, (&leaseClient{server: p.leases}).Delete(t.Context(), "test-4-1", metav1.DeleteOptions{}))
		time.Sleep(leaseDuration)
		p.requireShared(8, a)
		for _, runs := range p.runs {
			assert.Len(t, runs, 1)
		}
		p.end(a)
	})
}

func TestShardingNeedsRights(t *testing.T) {
	for _, verb := range []string{"get", "list", "create", "update", "delete"} {
		t.Run(verb, func(t *testing.T) {
			bubble(t, 4, 8, func(t *testing.T, p *program) {
				a, b := p.start("a"), p.start("b", func(o *fleet.Options) { o.Sharding.Leases.(*leaseClient).setFault(forbid(verb)) })
				since := time.Now()
				err := <-b.result
				require.ErrorContains(t, err, "Sharding.Leases: a right is missing")
				require.ErrorContains(t, err, "cannot "+verb+" leases")
				assert.LessOrEqual(t, time.Since(since), leaseDuration)
				require.True(t, apierrors.IsForbidden(err))

				// Later, and for long: runs don't go on for a time and then end one by one.
				c := p.start("c")
				time.Sleep(2*leaseDuration + moment)
				p.requireShared(8, a, c)
				c.client.setFault(forbid(verb))
				require.ErrorContains(t, <-c.result, "cannot "+verb+" leases")
				time.Sleep(leaseDuration + moment)
				p.requireShared(8, a)

				// For a moment, as from an API server that starts.
				a.client.setFault(forbid(verb))
				time.Sleep(3 * retryPeriod)
				a.client.setFault(nil)
				time.Sleep(moment)
				p.requireShared(8, a)
			})
		})
	}
}

// A replica that can't see the others lets go of its shards, and takes none from others.
func TestShardingOfAReplicaThatCannotList(t *testing.T) {
	bubble(t, 8, 20, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(20, a, b)
		b.client.setFault(func(verb string) fault {
			if verb == "list" {
				return fault{err: apierrors.NewInternalError(errCutOff)}
			}
			return fault{}
		})
		time.Sleep(2 * leaseDuration)
		p.requireShared(20, a)
		assert.Empty(t, b.sharding().Leads)
		assert.False(t, b.hasJoined())
		assert.Contains(t, b.sharding().LastError, "cut off")
		b.client.setFault(nil)
		time.Sleep(moment)
		p.requireShared(20, a, b)
		p.end(a, b)
	})
}

// Answers that are lost delay a takeover, but not for as long as a client would wait for them.
func TestShardingWithoutAnswers(t *testing.T) {
	for _, verb := range []string{"get", "create"} {
		t.Run(verb, func(t *testing.T) {
			bubble(t, 8, 20, func(t *testing.T, p *program) {
				var requests atomic.Int32
				a := p.start("a", func(o *fleet.Options) {
					client, _ := o.Sharding.Leases.(*leaseClient)
					client.setFault(func(v string) fault {
						if v != verb || requests.Add(1)%2 == 1 {
							return fault{}
						}
						return fault{after: time.Hour}
					})
				})
				time.Sleep(moment)
				b := p.start("b")
				time.Sleep(2 * leaseDuration)
				p.stop(b)
				time.Sleep(2 * leaseDuration)
				require.Greater(t, requests.Load(), int32(4))
				a.client.setFault(nil)
				time.Sleep(leaseDuration + moment)
				p.requireShared(20, a)
				p.end(a)
			})
		})
	}
}

// A lost answer doesn't keep a replica that ends from releasing its Leases.
func TestShardingReleasesAfterALostAnswer(t *testing.T) {
	bubble(t, 4, 12, func(_ *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		var gets atomic.Int32
		a.client.setFault(func(verb string) fault {
			if verb != "get" || gets.Add(1) > 1 {
				return fault{}
			}
			return fault{after: time.Hour}
		})
		p.stop(a)
		time.Sleep(2 * retryPeriod)
		p.requireShared(12, b)
		p.end(b)
	})
}

// A run may take StopGrace when its shard is handed over, and is not run twice.
func TestShardingHandsOverInOrder(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		const drain = leaseDuration * 3 / 2
		slow := func(o *fleet.Options) { o.StopGrace = 2 * leaseDuration }
		a := p.startWith("a", func(ctx context.Context, _ *remote.Cluster) error {
			<-ctx.Done()
			time.Sleep(drain)
			return ctx.Err()
		}, slow)
		time.Sleep(moment)
		b := p.start("b")
		time.Sleep(moment)
		assert.Len(t, a.sharding().Leads, 4)
		assert.Len(t, b.sharding().Waiting, 2)
		assert.Equal(t, a.sharding().Identity, b.sharding().Waiting[0].Holder)
		time.Sleep(drain)
		p.requireShared(12, a, b)
		p.requireNoOverlap(0)
		for _, runs := range p.runs {
			if len(runs) > 1 {
				require.ErrorIs(t, runs[0].err, fleet.ErrShardLost)
				require.NotErrorIs(t, runs[0].err, fleet.ErrOverdue)
			}
		}
		p.end(b, a)
	})
}

// A run that clings to its data plane is cut off before another replica runs, whatever StopGrace is.
func TestShardingCutsRunsOffWhenALeaseIsLost(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		heedless := func(_ context.Context, cluster *remote.Cluster) error {
			<-cluster.Done()
			return nil
		}
		a := p.startWith("a", heedless, func(o *fleet.Options) { o.StopGrace = time.Hour })
		time.Sleep(moment)
		b := p.start("b")
		time.Sleep(moment)
		assert.Len(t, b.sharding().Waiting, 2)
		a.client.setFault(cutOff)
		time.Sleep(leaseDuration + moment)
		assert.Len(t, b.sharding().Leads, 4)
		assert.Len(t, p.current(), 12)
		p.requireNoOverlap(0)
		p.stop(a)
		p.end(b)
	})
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

// Whatever happens to replicas and their requests, no two runs of a data plane overlap, and
// each data plane runs again two lease durations after the last fault.
func TestShardingUnderFaults(t *testing.T) {
	// An answer may take so long. Leader election counts from the answer, not from the request.
	const slow = time.Second
	for seed := range uint64(20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			bubble(t, 8, 24, func(t *testing.T, p *program) {
				random := rand.New(rand.NewPCG(seed, 0))
				var replicas []*replica
				started := 0
				join := func() {
					started++
					clings := random.IntN(2) == 0
					r := p.startWith(fmt.Sprint("replica-", started), func(ctx context.Context, cluster *remote.Cluster) error {
						if clings {
							<-cluster.Done()
						}
						<-ctx.Done()
						return ctx.Err()
					}, func(o *fleet.Options) { o.StopGrace = 5 * time.Second })
					r.clings = clings
					replicas = append(replicas, r)
				}
				leave := func(end func(*replica)) {
					if len(replicas) > 3 {
						gone := random.IntN(len(replicas))
						end(replicas[gone])
						replicas = slices.Delete(replicas, gone, gone+1)
					}
				}
				for range 3 {
					join()
				}
				for range 5 {
					for range 10 {
						faulty := replicas[random.IntN(len(replicas))]
						switch random.IntN(8) {
						case 0, 1:
							if len(replicas) < 7 {
								join()
							}
						case 2:
							leave((*replica).kill)
						case 3:
							leave(func(r *replica) { r.stop() })
						case 4:
							faulty.client.setFault(cutOff)
						case 5:
							faulty.client.setFault(someFaults(random.Uint64(), slow))
						case 6: // it sees nothing of its requests
							faulty.client.setFault(func(string) fault { return fault{after: time.Hour} })
						case 7:
							faulty.client.setFault(nil)
						}
						time.Sleep(time.Duration(random.Int64N(int64(leaseDuration))))
					}
					for _, r := range replicas {
						r.client.setFault(nil)
					}
					time.Sleep(2 * leaseDuration)
					synctest.Wait()
					require.Len(t, p.current(), 24)
					p.requireNoOverlap(slow)
				}
				p.end(replicas...)
			})
		})
	}
}

// someFaults refuses some requests, loses answers of some, and lets others take some time, so
// that they overtake each other.
func someFaults(seed uint64, slow time.Duration) func(string) fault {
	random := rand.New(rand.NewPCG(seed, 1))
	return func(string) fault {
		some := func() time.Duration { return time.Duration(random.Int64N(int64(slow))) }
		switch random.IntN(8) {
		case 0:
			return fault{err: apierrors.NewTooManyRequests("slow down", 1)}
		case 1:
			return fault{err: apierrors.NewInternalError(errCutOff)}
		case 2:
			return fault{err: errCutOff, lost: true}
		case 3:
			return fault{before: some()}
		case 4:
			return fault{after: some()}
		}
		return fault{}
	}
}

// Replicas with another number of shards wait until the others have ended.
func TestShardingWithAnotherNumberOfShards(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		eight := func(o *fleet.Options) { o.Sharding.Shards = 8 }
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		c := p.start("c", eight)
		time.Sleep(2 * leaseDuration)
		p.requireShared(12, a, b)
		assert.False(t, c.hasJoined())
		assert.Regexp(t, `replica [ab]_\w+ has another number of shards`, c.sharding().LastError)

		a.stop()
		time.Sleep(moment)
		d := p.start("d", eight)
		b.kill()
		time.Sleep(leaseDuration + moment)
		p.shards = 8
		p.requireShared(12, c, d)

		p.requireNoOverlap(0)
		p.stop(c, d)
	})
}

// Of replicas that start at the same time with two numbers of shards, one number wins.
func TestShardingWithTwoNumbersOfShards(t *testing.T) {
	start := func(t *testing.T, faults func(replica int) func(verb string) fault) {
		t.Helper()
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			var replicas []*replica
			for i := range 4 {
				replicas = append(replicas, p.start(strconv.Itoa(i), func(o *fleet.Options) {
					o.Sharding.Shards = []int{4, 8}[i%2]
					o.Sharding.Leases.(*leaseClient).setFault(faults(i))
				}))
			}
			time.Sleep(20 * leaseDuration)
			joined := map[int]bool{}
			for i, r := range replicas {
				if r.hasJoined() {
					joined[i%2] = true
				}
			}
			require.Len(t, joined, 1)
			require.Len(t, p.current(), 12)
			p.requireNoOverlap(0)
			p.stop(replicas...)
		})
	}
	for seed := range uint64(20) {
		start(t, func(replica int) func(string) fault {
			random := rand.New(rand.NewPCG(seed, uint64(replica)))
			return func(string) fault {
				return fault{
					before: time.Duration(random.Int64N(int64(time.Second))),
					after:  time.Duration(random.Int64N(int64(time.Second))),
				}
			}
		})
	}
	// A list that comes back after the member Lease was written, but was made before.
	start(t, func(int) func(string) fault {
		began := time.Now()
		return func(verb string) fault {
			switch {
			case time.Since(began) > leaseDuration:
				return fault{}
			case verb == "list":
				return fault{after: 2 * time.Second}
			case verb == "create":
				return fault{before: 2500 * time.Millisecond}
			}
			return fault{}
		}
	})
}

// A replica that can't see the others has ended its runs when those with another number of
// shards begin.
func TestShardingWithAnotherNumberOfShardsAfterALoss(t *testing.T) {
	for range 50 { // rounds begin at random times
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			a := p.startWith("a", func(_ context.Context, cluster *remote.Cluster) error {
				<-cluster.Done()
				return nil
			}, func(o *fleet.Options) { o.StopGrace = leaseDuration })
			time.Sleep(moment)
			b := p.start("b", func(o *fleet.Options) { o.Sharding.Shards = 8 })
			time.Sleep(moment)
			a.client.setFault(func(verb string) fault {
				if verb == "list" {
					return fault{err: errCutOff}
				}
				return fault{}
			})
			time.Sleep(4 * leaseDuration)
			require.Len(t, b.sharding().Leads, 8)
			require.Len(t, p.current(), 12)
			p.requireNoOverlap(0)
			p.stop(a, b)
		})
	}
}

// StartLimit counts over all shards of a process.
func TestShardingHasOneStartLimit(t *testing.T) {
	bubble(t, 8, 16, func(t *testing.T, p *program) {
		var starting, most atomic.Int64
		a := p.startWith("a", func(ctx context.Context, _ *remote.Cluster) error {
			most.Store(max(most.Load(), starting.Add(1)))
			time.Sleep(time.Second)
			starting.Add(-1)
			fleet.MarkStarted(ctx)
			<-ctx.Done()
			return ctx.Err()
		}, func(o *fleet.Options) { o.StartLimit = 1 })
		time.Sleep(moment + 16*time.Second)
		p.requireShared(16, a)
		assert.EqualValues(t, 1, most.Load())
		p.end(a)
	})
}

// Hooks tell a replica's operator what it leads, and when the metrics of a data plane can go.
func TestShardingCallsHooks(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		var mu sync.Mutex
		leads, running := map[int]bool{}, map[types.NamespacedName]bool{}
		var lost []error
		a := p.start("a", func(o *fleet.Options) {
			onStart := o.Hooks.OnStart
			o.Hooks.OnStart = func(key types.NamespacedName) {
				onStart(key)
				mu.Lock()
				defer mu.Unlock()
				running[key] = true
			}
			o.Hooks.OnRemove = func(key types.NamespacedName) {
				mu.Lock()
				defer mu.Unlock()
				assert.True(t, running[key], "%s had no run", key)
				delete(running, key)
			}
			o.Hooks.OnShardGained = func(shard int) {
				mu.Lock()
				defer mu.Unlock()
				leads[shard] = true
			}
			o.Hooks.OnShardLost = func(shard int, err error) {
				mu.Lock()
				defer mu.Unlock()
				delete(leads, shard)
				lost = append(lost, err)
			}
		})
		requireHooks := func(planes int) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			assert.Len(t, running, planes)
			assert.ElementsMatch(t, a.sharding().Leads, slices.Collect(maps.Keys(leads)))
			assert.Len(t, a.fleet.Status().Planes, planes)
		}
		time.Sleep(moment)
		requireHooks(12)
		b := p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		requireHooks(12 - len(b.fleet.Status().Planes))
		require.Len(t, lost, 2)
		require.ErrorIs(t, lost[0], fleet.ErrShardLost)
		for i := range 8 { // some of them in the shards that a has lost
			dp := &v1alpha1.DataPlane{}
			dp.Name = fmt.Sprint("new-", i)
			p.source.Add(dp)
		}
		time.Sleep(moment)
		p.requireShared(20, a, b)
		p.end(a, b)
		require.ErrorIs(t, lost[3], fleet.ErrStopped)
		assert.NotEmpty(t, running, "they aren't removed because the Fleet ends")
	})
}

// Without the data planes, a replica would keep them from those that have them.
func TestShardingNeedsASyncedInformer(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.start("a")
		synced := p.source.informer
		p.source.informer = neverSynced{synced}
		b := p.start("b")
		p.source.informer = synced
		time.Sleep(2 * leaseDuration)
		p.requireShared(12, a)
		assert.False(t, b.fleet.Status().Informers[0].Synced)
		assert.False(t, b.hasJoined())
		p.end(b, a)
	})
}

type neverSynced struct{ cache.SharedIndexInformer }

func (neverSynced) HasSynced() bool { return false }

func TestShardingRefusesWrongOptions(t *testing.T) {
	client := func(qps float32) *kubernetes.Clientset {
		c, err := kubernetes.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1", QPS: qps, Burst: 10})
		require.NoError(t, err)
		return c
	}
	for _, test := range []struct {
		want string
		edit func(*fleet.Sharding)
	}{
		{"Sharding.Leases: is required", func(s *fleet.Sharding) { s.Leases = nil }},
		{"Sharding.Namespace: [a lowercase RFC 1123 label", func(s *fleet.Sharding) { s.Namespace = "A" }},
		{"Sharding.Name: [a lowercase RFC 1123 label", func(s *fleet.Sharding) { s.Name = "" }},
		{"Sharding.Identity: is required", func(s *fleet.Sharding) { s.Identity = "" }},
		{"Sharding.Shards: must be at least 1, is -3", func(s *fleet.Sharding) { s.Shards = -3 }},
		{"Sharding.LeaseDuration: must be whole seconds, is 1.5s", func(s *fleet.Sharding) { s.LeaseDuration = 1500 * time.Millisecond }},
		{"Sharding.LeaseDuration: must be whole seconds, is -1s", func(s *fleet.Sharding) { s.LeaseDuration = -time.Second }},
		// A renewal for each of 8 shards every 2 s and a list and a renewal for itself are 5 a
		// second, and as many again are for errors.
		{
			"Sharding.Leases: renewals of 8 shards could be late with a QPS of 5; set QPS in the rest.Config to 10 or more, or to -1",
			func(s *fleet.Sharding) { s.Leases = client(0).CoordinationV1() },
		},
	} {
		s := &fleet.Sharding{Leases: client(10).CoordinationV1(), Namespace: "system", Name: "test", Identity: "a", Shards: 8}
		test.edit(s)
		f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{Sharding: s}, newSource(t).informer)
		require.ErrorContains(t, f.Run(t.Context()), test.want)
	}
}

// docs/scale.md has these figures: a renewal of each Lease in each retry period, a list by
// each replica about as often, and four requests by each to check its rights once in a lease
// duration.
func TestShardingRequests(t *testing.T) {
	bubble(t, 16, 0, func(t *testing.T, p *program) {
		replicas := []*replica{p.start("a"), p.start("b"), p.start("c"), p.start("d")}
		time.Sleep(leaseDuration + moment)
		p.requireShared(0, replicas...)
		requests := func() int {
			p.leases.mu.Lock()
			defer p.leases.mu.Unlock()
			return p.leases.requests
		}
		before := requests()
		time.Sleep(10 * time.Minute)
		perMinute := float64(requests()-before) / 10
		t.Logf("%.0f requests for Leases a minute", perMinute)
		assert.InDelta(t, (16+4)*30+4*(28.5+4*4), perMinute, 10)
		p.end(replicas...)
	})
}
