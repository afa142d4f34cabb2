// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// A member Lease that somebody has edited stops nobody, and its replica takes it back.
func TestShardingOfAMemberLeaseWithoutAHolder(t *testing.T) {
	for _, holder := range []string{"", "somebody"} {
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			a, b := p.start("a"), p.start("b")
			time.Sleep(moment)
			p.requireShared(12, a, b)
			members := p.names(func(name string) bool { return strings.Contains(name, "member") })
			require.Len(t, members, 2)
			for i := range 20 {
				p.hold(members[i%2], holder, time.Hour)
				time.Sleep(retryPeriod / 3)
			}
			time.Sleep(2 * leaseDuration)
			p.requireShared(12, a, b)
			p.requireNoOverlap(0)
			p.end(a, b)
		})
	}
}

// Leases of others whose names continue ours are not ours: they are not counted, keep nobody
// from joining, and are not deleted when they have expired.
func TestShardingLeavesForeignLeasesAlone(t *testing.T) {
	const day = 24 * time.Hour
	foreign := map[string]string{ // holders by names
		"test-4-member":                   "bcdfghjklm", // somebody's, who elects a leader by its own name
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
			bubble(t, 4, 12, func(t *testing.T, p *program) {
				for name, holder := range foreign {
					p.hold(name, holder, lasts)
				}
				a, b := p.start("a"), p.start("b")
				time.Sleep(2 * leaseDuration)
				p.requireShared(12, a, b)
				assert.Empty(t, a.sharding().LastError)
				p.stop(a, b)
				left := p.names(func(name string) bool { return foreign[name] != "" || name == "test-4-member-bcdfghjkln" })
				assert.Len(t, left, len(foreign), "foreign Leases: %s", left)
			})
		})
	}
}

// Programs whose names continue each other share a namespace.
func TestProgramsWhoseNamesContinueEachOther(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		var replicas [][]*replica
		for range 3 {
			replicas = append(replicas, nil)
		}
		names, shards := []string{"test", "test-4-member", "test-7-member"}, []int{4, 7, 7}
		join := func(program int, name string) {
			replicas[program] = append(replicas[program], p.start(name, func(o *fleet.Options) {
				o.Sharding.Name, o.Sharding.Shards = names[program], shards[program]
				o.Hooks = fleet.Hooks{} // each program runs each data plane
			}))
		}
		for program := range names {
			join(program, "a")
			join(program, "b")
		}
		requireAll := func() {
			t.Helper()
			for program := range names {
				var led []int
				for _, r := range replicas[program] {
					s := r.sharding()
					require.Len(t, s.Replicas, len(replicas[program]), "%s: %+v", names[program], s)
					led = append(led, s.Leads...)
				}
				slices.Sort(led)
				require.Len(t, led, shards[program], "%s: %v", names[program], led)
				require.Len(t, slices.Compact(led), shards[program])
			}
		}
		time.Sleep(2 * leaseDuration)
		requireAll()
		for program := range names { // its Leases expire beside those of the others
			replicas[program][0].kill()
			replicas[program] = replicas[program][1:]
			join(program, "c")
		}
		time.Sleep(2 * leaseDuration)
		requireAll()
		for program := range names {
			p.stop(replicas[program]...)
		}
		assert.Len(t, p.names(func(string) bool { return true }), 4+7+7, "all but the Leases of shards are gone")
	})
}

// A foreign Lease of a shard's name keeps this shard alone from having a leader, and Status
// says so.
func TestStatusNamesAForeignLeaseOfAShard(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		p.hold("test-4-2", "somebody_else", 24*time.Hour)
		a, b := p.start("a"), p.start("b")
		time.Sleep(2 * leaseDuration)
		var led []int
		var reports []string
		for _, r := range []*replica{a, b} {
			s := r.sharding()
			led = append(led, s.Leads...)
			if len(s.Waiting) > 0 {
				assert.Equal(t, []fleet.ShardWait{{Shard: 2, Lease: "test-4-2", Holder: "somebody_else"}}, s.Waiting)
				reports = append(reports, s.LastError)
			} else {
				assert.Empty(t, s.LastError)
			}
		}
		assert.ElementsMatch(t, []int{0, 1, 3}, led)
		assert.Equal(t, []string{`shard 2: Lease test-4-2 is held by "somebody_else", which is no replica`}, reports)
		p.hold("test-4-2", "", 0)
		time.Sleep(moment)
		p.requireShared(12, a, b)
		assert.Empty(t, a.sharding().LastError)
		assert.Empty(t, b.sharding().LastError)
		p.end(a, b)
	})
}

// What went wrong with a Lease before somebody took it is no longer what a replica waits for.
func TestStatusForgetsWhatWentWrongBeforeALeaseWasTaken(t *testing.T) {
	bubble(t, 1, 3, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(3, a)
		a.client.setFault(failing(errCutOff, "get", "update"))
		time.Sleep(leaseDuration)
		assert.Contains(t, a.sharding().LastError, "cut off")
		p.hold("test-1-0", "somebody", 24*time.Hour)
		time.Sleep(2 * leaseDuration) // the replica gives up, and sends no request until the Lease has expired
		a.client.setFault(nil)
		time.Sleep(2 * leaseDuration)
		s := a.sharding()
		assert.Equal(t, `shard 0: Lease test-1-0 is held by "somebody", which is no replica`, s.LastError)
		p.stop(a)
	})
}
