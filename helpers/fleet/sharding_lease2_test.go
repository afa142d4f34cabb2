// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Users test with client-go's fake clientset, which has no resource versions. Replicas share
// there too: what tells that a Lease was renewed is what is in it, as in leader election.
func TestShardingOnAFakeClientset(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		leases := fake.NewClientset().CoordinationV1()
		on := func(o *fleet.Options) { o.Sharding.Leases = leases }
		a := p.start("a", on)
		time.Sleep(moment)
		b := p.start("b", on)
		time.Sleep(4 * leaseDuration)
		assert.Len(t, a.sharding().Leads, 2)
		assert.Len(t, b.sharding().Leads, 2)
		p.stop(a, b)
		p.requireNoOverlap(0)
	})
}

// A replica goes on where it was when it was suspended. It notices that others have its shards,
// also if they have another number of them, whose Leases have other names.
func TestAReplicaThatWasSuspended(t *testing.T) {
	for _, shards := range []int{4, 8} {
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			a := p.startWith("a", func(_ context.Context, cluster *remote.Cluster) error {
				<-cluster.Done()
				return nil
			}, func(o *fleet.Options) { o.StopGrace = time.Hour })
			time.Sleep(moment)
			p.requireShared(12, a)
			resume := a.client.suspend()
			b := p.start("b", func(o *fleet.Options) { o.Sharding.Shards = shards })
			time.Sleep(2 * leaseDuration)
			require.Len(t, b.sharding().Leads, shards)
			resume()
			time.Sleep(moment)
			p.current() // no two
			time.Sleep(2 * leaseDuration)
			assert.Len(t, p.current(), 12, "a: %+v, b: %+v", a.sharding(), b.sharding())
			a.client.setFault(cutOff) // a's runs end
			p.stop(a, b)
		})
	}
}

// A replica that lets go of its member Lease leads no shard after that: replicas with another
// number of shards may.
func TestAReplicaThatLeavesTakesNoShard(t *testing.T) {
	for range 10 { // rounds begin at random times
		bubble(t, 1, 3, func(t *testing.T, p *program) {
			hold := func(holder string) {
				lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
					HolderIdentity: &holder, LeaseDurationSeconds: to(int32(5)), RenewTime: to(metav1.NowMicro()),
				}}
				lease.Name = "test-1-0"
				p.leases.mu.Lock()
				defer p.leases.mu.Unlock()
				p.leases.write(lease, nil)
			}
			hold("somebody")
			a := p.start("a")
			for range 3 {
				time.Sleep(retryPeriod)
				hold("somebody")
			}
			assert.Len(t, a.sharding().Waiting, 1)
			a.client.setFault(func(verb string) fault {
				switch verb {
				case "list":
					return fault{after: time.Hour}
				case "delete": // of its member Lease
					return fault{after: retryPeriod}
				case "update": // by which it would lead the shard
					return fault{before: 4500 * time.Millisecond}
				}
				return fault{}
			})
			for synctest.Wait(); len(p.leases.leases) == 2; synctest.Wait() {
				hold("somebody") // which a doesn't see, so that it takes part in the election
				time.Sleep(time.Second)
			}
			b := p.start("b", func(o *fleet.Options) { o.Sharding.Shards = 2 })
			b.client.setFault(func(string) fault { return fault{before: time.Millisecond} })
			hold("")
			time.Sleep(2 * leaseDuration)
			assert.Len(t, b.sharding().Leads, 2)
			p.requireNoOverlap(0)
			p.stop(a, b)
		})
	}
}

// A replica whose lists get no answer gives up its shards as soon as one whose lists fail.
func TestAReplicaWhoseListsHangLeavesInTime(t *testing.T) {
	for range 10 { // rounds begin at random times
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			a := p.start("a")
			time.Sleep(moment)
			p.requireShared(12, a)
			a.client.setFault(func(verb string) fault {
				if verb == "list" {
					return fault{after: time.Hour}
				}
				return fault{}
			})
			time.Sleep(leaseDuration)
			assert.Empty(t, a.sharding().Leads)
			assert.Empty(t, p.current())
			p.end(a)
		})
	}
}

// Replicas share the shards even if each answer takes 4 s: renewals are still in time.
func TestShardingWithASlowAPIServer(t *testing.T) {
	bubble(t, 4, 12, func(_ *testing.T, p *program) {
		slow := func(o *fleet.Options) {
			o.Sharding.Leases.(*leaseClient).setFault(func(string) fault { return fault{after: 4 * time.Second} })
		}
		a, b := p.start("a", slow), p.start("b", slow)
		time.Sleep(4 * leaseDuration)
		p.requireShared(12, a, b)
		p.end(a, b)
	})
}

// A replica that has ended leaves no Lease that would have others wait until it expires.
func TestAReplicaThatEndsDeletesItsMemberLease(t *testing.T) {
	bubble(t, 4, 12, func(_ *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		a.client.setFault(func(verb string) fault {
			if verb == "delete" {
				return fault{before: 4 * time.Second}
			}
			return fault{}
		})
		p.end(a)
	})
}

// When a Lease is lost, runs have a moment to return before they are cut off.
func TestRunsMayReturnWhenALeaseIsLost(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.startWith("a", func(ctx context.Context, cluster *remote.Cluster) error {
			<-ctx.Done()
			select {
			case <-time.After(2 * time.Second):
			case <-cluster.Done():
			}
			return ctx.Err()
		})
		time.Sleep(moment)
		a.client.setFault(cutOff)
		time.Sleep(leaseDuration)
		synctest.Wait()
		for _, runs := range p.runs {
			require.ErrorIs(t, runs[0].err, fleet.ErrShardLost)
			require.NotErrorIs(t, runs[0].err, fleet.ErrOverdue)
		}
		a.client.setFault(nil)
		time.Sleep(moment)
		p.end(a)
	})
}

// A list that was sent before a shard was won shows its former leader, and ends no runs.
func TestAnOldListEndsNoRuns(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		b.client.setFault(func(verb string) fault {
			switch verb {
			case "list":
				return fault{after: 4500 * time.Millisecond}
			case "update":
				return fault{before: 2400 * time.Millisecond}
			}
			return fault{}
		})
		a.kill()
		time.Sleep(3 * leaseDuration)
		p.requireShared(12, b)
		for key, runs := range p.runs {
			runs = slices.DeleteFunc(slices.Clone(runs), func(r *period) bool { return r.replica == a })
			assert.Len(t, runs, 1, key)
		}
		b.client.setFault(nil)
		time.Sleep(moment)
		p.end(b)
	})
}
