// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package shards_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/shards"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
)

// A replica whose member Lease somebody has edited ends its runs and joins again.
func TestAReplicaJoinsAgainAfterItHasLostItsMemberLease(t *testing.T) {
	for _, holder := range []string{"", "somebody"} {
		bubble(t, 4, func(t *testing.T, p *program) {
			a, b := p.start("a"), p.start("b")
			time.Sleep(moment)
			p.requireShared(a, b)
			var members []string
			for name := range p.leases.Holders() {
				if strings.Contains(name, "member") {
					members = append(members, name)
				}
			}
			require.Len(t, members, 2)
			for i := range 20 {
				p.leases.Hold(members[i%2], holder, time.Hour)
				time.Sleep(retryPeriod / 3)
			}
			time.Sleep(2 * leaseDuration)
			p.requireShared(a, b)
			assert.NotEmpty(t, a.canceled())
			p.runs.RequireNoOverlap(p.t)
			p.end(a, b)
		})
	}
}

// A Lease of another program whose name has our prefix isn't counted, keeps no replica from
// joining, and isn't deleted when it has expired.
func TestForeignLeasesAreLeftAlone(t *testing.T) {
	const day = 24 * time.Hour
	foreign := map[string]string{ // holders by the names of Leases
		"test-4-member":                   "bcdfghjklm", // of another program's leader election
		"test-4-member-":                  "x_bcdfghjklm",
		"test-4-member-7-0":               "x_bcdfghjklm", // a shard of test-4-member
		"test-4-member-7-member-bcdfghjk": "x_bcdfghjk",
		"test-4-member-bcdfghjklm":        "x_nnnnnnnnnn", // named after a ReplicaSet
		"test-4-member-bcdfghjkln":        "",
		"test-4-member-aeioucontr":        "x_aeioucontr",
		"test-4-4":                        "x_bcdfghjklm",
		"test-4-01":                       "x_bcdfghjklm",
		"test-7-0":                        "test-7-0_0f0e7a5e-6f0c-4b0a-9a53-0b7b8b1f7e2b", // a Pod of the StatefulSet test-7
		"test-7-1":                        "my_controller",
		"test-7-7":                        "x_bcdfghjklm",
		"test-07-0":                       "x_bcdfghjklm",
		"test--7-0":                       "x_bcdfghjklm",
		"test-+7-0":                       "x_bcdfghjklm",
		"test-0-0":                        "x_bcdfghjklm",
		"test-7-member-nnnnnnnnnn":        "somebody",
	}
	for _, lasts := range []time.Duration{day, time.Second} {
		t.Run(lasts.String(), func(t *testing.T) {
			bubble(t, 4, func(t *testing.T, p *program) {
				for name, holder := range foreign {
					p.leases.Hold(name, holder, lasts)
				}
				a, b := p.start("a"), p.start("b")
				time.Sleep(2 * leaseDuration)
				p.requireShared(a, b)
				p.stop(a, b)
				assert.Subset(t, p.leases.Holders(), foreign)
			})
		})
	}
}

// The Leases of a killed replica with another number of shards delay the first replica after it, and
// no later ones.
func TestLeasesOfAnotherNumberOfShardsAreDeletedWhenTheyHaveExpired(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		old := p.start("old", of(8))
		time.Sleep(moment)
		require.Len(t, old.Status().Leads, 8)
		old.kill()
		a := p.start("a")
		time.Sleep(moment)
		require.ErrorContains(t, a.Status().LastError, "has another number of shards")
		time.Sleep(leaseDuration + moment)
		p.requireShared(a)
		b := p.start("b")
		time.Sleep(moment)
		p.requireShared(a, b)
		p.end(a, b)
	})
}

// Programs share a namespace though the name of one begins with the name of another.
func TestProgramsWhoseNamesHaveACommonPrefix(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		programs := []*program{p}
		for _, name := range []string{"test-4-member", "test-7-member"} {
			programs = append(programs, &program{t: t, leases: p.leases, name: name, shards: 7, runs: testleases.NewHistory[int]()})
		}
		replicas := map[*program][]*replica{}
		requireAll := func() {
			t.Helper()
			time.Sleep(2 * leaseDuration)
			for _, p := range programs {
				p.requireShared(replicas[p]...)
			}
		}
		for _, p := range programs {
			replicas[p] = []*replica{p.start("a"), p.start("b")}
		}
		requireAll()
		for _, p := range programs { // its Leases expire while the others run
			replicas[p][0].kill()
			replicas[p] = []*replica{replicas[p][1], p.start("c")}
		}
		requireAll()
		for _, p := range programs {
			p.stop(replicas[p]...)
		}
		assert.Len(t, p.leases.Holders(), 4+7+7, "only the Leases of shards are left")
	})
}

// If somebody else holds a Lease with a shard's name, only this shard has no leader, and Status
// shows why.
func TestAShardWaitsForAForeignLease(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		p.leases.Hold("test-4-2", "somebody_else", 5*time.Second)
		a, b := p.start("a"), p.start("b")
		for range 20 {
			time.Sleep(2 * time.Second)
			p.leases.Hold("test-4-2", "somebody_else", 5*time.Second)
		}
		requireOthersLed := func() {
			t.Helper()
			assert.ElementsMatch(t, []int{0, 1, 3}, append(a.Status().Leads, b.Status().Leads...))
		}
		requireOthersLed()
		var reports []string
		for _, r := range []*replica{a, b} {
			s := r.Status()
			if len(s.Waiting) > 0 {
				assert.Equal(t, []shards.Waiting{{Shard: 2, Lease: "test-4-2", Holder: "somebody_else"}}, s.Waiting)
			}
			if s.LastError != nil {
				reports = append(reports, s.LastError.Error())
			}
		}
		assert.Equal(t, []string{`shard 2: Lease test-4-2 is held by "somebody_else", which is no replica`}, reports)
		time.Sleep(5*time.Second + moment)
		p.requireShared(a, b)

		p.leases.Hold("test-4-2", "somebody", leaseDuration) // takes it away from the replica
		time.Sleep(moment)
		requireOthersLed()
		time.Sleep(leaseDuration)
		p.requireShared(a, b)
		p.end(a, b)
	})
}

// Once somebody has taken a Lease, earlier errors of requests for it no longer matter.
func TestStatusForgetsErrorsFromBeforeALeaseWasTaken(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(a)
		a.client.SetFault(testleases.Failing(testleases.ErrCutOff, "get", "update"))
		time.Sleep(leaseDuration)
		require.ErrorIs(t, a.Status().LastError, testleases.ErrCutOff)
		p.leases.Hold("test-1-0", "somebody", 24*time.Hour)
		time.Sleep(2 * leaseDuration) // the replica gives up, and sends no request until the Lease has expired
		a.client.SetFault(nil)
		time.Sleep(2 * leaseDuration)
		require.EqualError(t, a.Status().LastError, `shard 0: Lease test-1-0 is held by "somebody", which is no replica`)
		p.stop(a)
	})
}

// When nobody holds a Lease that a replica has held, another may have led in the meantime. So the
// runs end, and begin again.
func TestALeaseThatIsNoLongerHeldIsLost(t *testing.T) {
	for name, lose := range map[string]func(p *program){
		"deleted": func(p *program) { p.leases.Delete("test-4-1") },
		"free":    func(p *program) { p.leases.Hold("test-4-1", "", leaseDuration) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 4, func(t *testing.T, p *program) {
				a := p.start("a")
				time.Sleep(moment)
				p.requireShared(a)
				lose(p)
				time.Sleep(moment)
				p.requireShared(a)
				assert.Len(t, a.canceled(), 1)
				p.runs.RequireNoOverlap(p.t)
				p.end(a)
			})
		})
	}
}
