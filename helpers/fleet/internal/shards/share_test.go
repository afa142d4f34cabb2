// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package shards_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes/scheme"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/kubernetes/typed/coordination/v1/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
)

// leaders returns the replica that leads each shard.
func leaders(replicas []*replica) map[int]*replica {
	leads := map[int]*replica{}
	for _, r := range replicas {
		for _, shard := range r.Status().Leads {
			leads[shard] = r
		}
	}
	return leads
}

func TestAReplicaThatComesOrGoesMovesFewShards(t *testing.T) {
	const shards = 16
	bubble(t, shards, func(t *testing.T, p *program) {
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
			p.requireShared(replicas...)
			moved, after := 0, leaders(replicas)
			for shard, r := range before {
				if after[shard] != r {
					moved++
				}
			}
			require.LessOrEqual(t, moved, shards/n+2, "of %d replicas, one changed", n)
		}
		p.runs.RequireNoOverlap(p.t)
		p.end(replicas...)
	})
}

// Users test with client-go's fake clientset, which has no resource versions. A replica doesn't
// need them: as in leader election, it sees a renewal by the content of a Lease.
func TestReplicasShareOnAFakeClientset(t *testing.T) {
	for range times(10) { // the requests of a check overtake each other
		bubble(t, 4, func(t *testing.T, p *program) {
			leases := fakeLeases()
			on := func(r *replica) { r.options.Leases = leases }
			a := p.start("a", on)
			time.Sleep(moment)
			b := p.start("b", on)
			time.Sleep(4 * leaseDuration) // in which rights are checked: the fake ignores dry runs
			p.requireShared(a, b)
			assert.Len(t, a.canceled(), 2)
			assert.Empty(t, b.canceled())
			p.stop(a, b)
			p.runs.RequireNoOverlap(p.t)
		})
	}
}

// fakeLeases returns the Leases of client-go's fake clientset. To compile only these takes far less time.
func fakeLeases() coordinationv1client.LeasesGetter {
	tracker := clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	client := &clienttesting.Fake{}
	client.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	return &fake.FakeCoordinationV1{Fake: client}
}

// After a suspension, a replica continues where it was. It soon sees that others have taken its
// shards, even if they have another number of shards, whose Leases have other names, even if the
// replica has left because earlier lists failed, and even if they have released the shards since.
func TestAReplicaThatWasSuspendedGivesUpWhatOthersHaveTaken(t *testing.T) {
	for name, test := range map[string]struct {
		shards   int
		fails    bool // earlier lists fail
		released bool // the other has ended
	}{
		"the same shards":          {4, false, false},
		"another number of shards": {8, false, false},
		"lists that failed":        {4, true, false},
		"shards that are free":     {4, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			for range times(10) { // rounds begin at random times
				bubble(t, 4, func(t *testing.T, p *program) {
					a := p.start("a", drains(forever))
					time.Sleep(moment)
					p.requireShared(a)
					resume := a.client.Suspend()
					b := p.start("b", of(test.shards))
					time.Sleep(2 * leaseDuration)
					require.Len(t, b.Status().Leads, test.shards)
					if test.fails {
						a.client.SetFault(testleases.Failing(testleases.ErrCutOff, "list"))
						time.Sleep(leaseDuration)
					}
					if test.released {
						p.stop(b)
					}
					resume()
					a.client.SetFault(nil)
					time.Sleep(retryPeriod * 3 / 2)
					for _, term := range a.begun()[:4] {
						assert.True(t, term.over(), "a's term of shard %d", term.shard)
					}
					p.runs.Current(p.t) // requires that no two replicas run a key
					if test.shards != 4 {
						assert.Empty(t, b.canceled())
					}
					time.Sleep(2 * leaseDuration)
					assert.Len(t, p.runs.Current(p.t), keys, "a: %+v, b: %+v", a.Status(), b.Status())
					a.client.SetFault(testleases.CutOff) // a's runs are abandoned
					p.stop(a)
					if !test.released {
						p.stop(b)
					}
				})
			}
		})
	}
}

// A replica that is resumed stands for no shard while others have another number of shards.
func TestAReplicaThatIsResumedWaitsForAnotherNumberOfShards(t *testing.T) {
	for range times(20) { // rounds begin at random times
		bubble(t, 4, func(t *testing.T, p *program) {
			c := p.start("c")
			time.Sleep(moment)
			a := p.start("a") // renews some shards' Leases at other times than its member Lease
			time.Sleep(moment + rand.N(retryPeriod))
			p.stop(c)
			time.Sleep(moment)
			p.requireShared(a)
			resume := a.client.Suspend()
			b := p.start("b", of(8))
			time.Sleep(2*leaseDuration + rand.N(retryPeriod))
			require.Len(t, b.Status().Leads, 8)
			stood := len(a.begun())
			resume()
			time.Sleep(moment)
			assert.Empty(t, b.canceled())
			assert.Len(t, a.begun(), stood)
			p.stop(a, b)
		})
	}
}

func TestReplicasWithAnotherNumberOfShardsWaitUntilTheOthersHaveEnded(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(a, b)
		c := p.start("c", of(8))
		time.Sleep(2 * leaseDuration)
		p.requireShared(a, b)
		assert.False(t, c.hasJoined())
		require.Error(t, c.Status().LastError)
		assert.Regexp(t, `replica [ab]_\w+ has another number of shards`, c.Status().LastError.Error())

		a.stop()
		time.Sleep(moment)
		d := p.start("d", of(8))
		b.kill()
		time.Sleep(leaseDuration + moment)
		p.shards = 8
		p.requireShared(c, d)
		p.runs.RequireNoOverlap(p.t)
		p.stop(c, d)
	})
}

func TestOfTwoNumbersOfShardsThatStartAtOnceOneWins(t *testing.T) {
	start := func(t *testing.T, faults func(replica int) func(verb string) testleases.Fault) {
		t.Helper()
		bubble(t, 4, func(t *testing.T, p *program) {
			var replicas []*replica
			for i := range 4 {
				replicas = append(replicas, p.start(strconv.Itoa(i), of([]int{4, 8}[i%2]), meets(faults(i))))
			}
			time.Sleep(20 * leaseDuration)
			joined := map[int]bool{}
			for i, r := range replicas {
				if r.hasJoined() {
					joined[i%2] = true
				}
			}
			require.Len(t, joined, 1)
			require.Len(t, p.runs.Current(p.t), keys)
			p.runs.RequireNoOverlap(p.t)
			p.stop(replicas...)
		})
	}
	for seed := range uint64(times(10)) {
		start(t, func(replica int) func(string) testleases.Fault {
			random := rand.New(rand.NewPCG(seed, uint64(replica)))
			return func(string) testleases.Fault {
				return testleases.Fault{
					Before: time.Duration(random.Int64N(int64(time.Second))),
					After:  time.Duration(random.Int64N(int64(time.Second))),
				}
			}
		})
	}
	// A list that was sent before the member Lease was written is answered after.
	start(t, func(int) func(string) testleases.Fault {
		began := time.Now()
		return func(verb string) testleases.Fault {
			switch {
			case time.Since(began) > leaseDuration:
				return testleases.Fault{}
			case verb == "list":
				return testleases.Fault{After: 2 * time.Second}
			case verb == "create":
				return testleases.Fault{Before: 2500 * time.Millisecond}
			}
			return testleases.Fault{}
		}
	})
}

// A replica that can't see the others has ended its runs before replicas with another number of
// shards begin.
func TestAReplicaThatCannotListEndsItsRunsBeforeAnotherNumberOfShardsBegins(t *testing.T) {
	for range times(25) { // rounds begin at random times
		bubble(t, 4, func(t *testing.T, p *program) {
			a := p.start("a", drains(leaseDuration))
			time.Sleep(moment)
			b := p.start("b", of(8))
			time.Sleep(moment)
			a.client.SetFault(testleases.Failing(testleases.ErrCutOff, "list"))
			time.Sleep(4 * leaseDuration)
			require.Len(t, b.Status().Leads, 8)
			require.Len(t, p.runs.Current(p.t), keys)
			p.runs.RequireNoOverlap(p.t)
			p.stop(a, b)
		})
	}
}

// A replica that gives up its member Lease leads no shard afterwards, because replicas with another
// number of shards may begin.
func TestAReplicaThatLeavesTakesNoShard(t *testing.T) {
	for range times(10) { // rounds begin at random times
		bubble(t, 1, func(t *testing.T, p *program) {
			hold := func(holder string) { p.leases.Hold("test-1-0", holder, 5*time.Second) }
			hold("somebody")
			a := p.start("a")
			for range 3 {
				time.Sleep(retryPeriod)
				hold("somebody")
			}
			assert.Len(t, a.Status().Waiting, 1)
			a.client.SetFault(func(verb string) testleases.Fault {
				return map[string]testleases.Fault{
					"list":   noAnswer,
					"delete": {After: retryPeriod},              // of its member Lease
					"update": {Before: 4500 * time.Millisecond}, // the one that would win the shard
				}[verb]
			})
			for synctest.Wait(); len(p.leases.Holders()) == 2; synctest.Wait() {
				hold("somebody") // a doesn't see this, so it stays a candidate
				time.Sleep(time.Second)
			}
			b := p.start("b", of(2), meets(func(string) testleases.Fault { return testleases.Fault{Before: time.Millisecond} }))
			hold("")
			time.Sleep(2 * leaseDuration)
			assert.Len(t, b.Status().Leads, 2)
			p.runs.RequireNoOverlap(p.t)
			p.stop(a, b)
		})
	}
}
