// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

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

// A replica that ends in order lets the others have each shard as soon as its runs have ended.
// One run that takes long doesn't hold up the other shards.
func TestAReplicaThatEndsHandsOverEachShardAtOnce(t *testing.T) {
	bubble(t, 8, 40, func(t *testing.T, p *program) {
		var slow atomic.Bool
		a := p.startWith("a", func(ctx context.Context, _ *remote.Cluster) error {
			<-ctx.Done()
			if slow.CompareAndSwap(false, true) { // only one of them
				time.Sleep(10 * time.Minute)
			}
			return ctx.Err()
		}, func(o *fleet.Options) { o.StopGrace = time.Hour })
		b := p.start("b")
		time.Sleep(moment)
		p.requireShared(40, a, b)
		a.stop()
		time.Sleep(5 * time.Minute)
		assert.GreaterOrEqual(t, len(b.sharding().Leads), 7, "only one shard has a run that hasn't ended: %+v", b.sharding())
		require.NoError(t, <-a.result)
		time.Sleep(moment)
		p.requireShared(40, b)
		p.end(b)
	})
}

// When ctx ends, the contexts of the runs end, whatever the API server does.
func TestRunsEndAtOnceWithoutTheAPIServer(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(12, a)
		a.client.setFault(func(string) fault { return fault{after: time.Hour} })
		time.Sleep(retryPeriod / 2)
		a.stop()
		since := time.Now()
		for len(p.current()) > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		assert.Less(t, time.Since(since), time.Second, "until the contexts of the runs ended")
		require.NoError(t, <-a.result)
		assert.Less(t, time.Since(since), leaseDuration, "until Run returned, without any run to wait for")
	})
}

// A Lease is kept for LeaseDuration after it was seen, not after it was asked for, as in
// client-go, whose observedTime is that of the answer.
func TestAListThatTakesLongDoesNotShortenALease(t *testing.T) {
	for range 10 { // rounds begin at random times
		bubble(t, 4, 12, func(_ *testing.T, p *program) {
			a := p.startWith("a", func(_ context.Context, cluster *remote.Cluster) error {
				<-cluster.Done()
				return nil
			}, func(o *fleet.Options) { o.StopGrace = time.Hour })
			time.Sleep(moment)
			b := p.start("b")
			time.Sleep(moment)
			const slow = 4 * time.Second
			lists := 0
			b.client.setFault(func(verb string) fault {
				if verb != "list" {
					return fault{}
				}
				if lists++; lists == 3 { // a is cut off when this is carried out
					time.AfterFunc(slow-time.Millisecond, func() { a.client.setFault(cutOff) })
				}
				return fault{before: slow}
			})
			time.Sleep(3 * leaseDuration)
			p.stop(a)
			p.end(b)
			p.requireNoOverlap(0)
		})
	}
}

// What is wrong with a request that a replica doesn't need now doesn't keep it from taking
// over shards: no Lease must be created for that.
func TestAReplicaTakesOverWhileNoLeaseCanBeCreated(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		a.client.setFault(func(verb string) fault {
			if verb == "create" {
				return fault{err: apierrors.NewInternalError(errors.New("failed calling webhook"))}
			}
			return fault{}
		})
		time.Sleep(leaseDuration)
		b.kill()
		time.Sleep(3 * leaseDuration)
		synctest.Wait()
		assert.Len(t, a.sharding().Leads, 4, "%+v", a.sharding())
		a.client.setFault(nil)
		time.Sleep(moment)
		p.end(a)
	})
}
