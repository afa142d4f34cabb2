// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
)

// Sharding divides the data planes of a [Fleet] among the replicas of a program, each of
// which runs a Fleet with the same Sharding but for Identity. Each data plane belongs to one
// of the shards, by a hash of its namespace and name, and each shard is led by one replica at
// a time, by client-go's leader election with a Lease.
//
// Each replica also renews a Lease of its own, by which the others see it. The shards are
// shared evenly, so that no replica leads two more than another. With the default
// LeaseDuration:
//
//   - When a replica joins, the others stop the runs of surplus shards, within StopGrace, and
//     then release those shards.
//   - When a replica ends in order, the others take each of its shards when its runs have
//     ended. Run returns within StopGrace and 10 s, so a Pod needs more than that as its
//     terminationGracePeriodSeconds.
//   - When a replica is killed or cut off, the others take its shards after 15 s and a moment,
//     or up to 15 s later if an answer to them is lost.
//   - When a replica can't renew the Lease of a shard for 10 s, it ends the runs. Those that
//     have not returned after 3 s are given up, whatever StopGrace is, and their connections
//     are closed. When the API server is down for longer, no replica has runs.
//   - When a replica can't list the Leases, it gives up all its shards within 15 s.
//   - When a replica was suspended and others have taken its shards, it gives up those runs
//     when it notices, with the next list.
//   - When a right to Leases is missing for 10 s, Run ends with an error that names it. Other
//     errors are retried, and shown in [ShardingStatus].
//
// As with leader election in general, two replicas can lead a shard for a moment if clocks
// run at different speeds, a process was suspended, answers of the API server take seconds,
// or somebody edits a Lease. For strict exclusion, use a fencing check in the data plane,
// such as resourceVersion.
//
// Shards must be the same in all replicas, because it decides which shard a data plane belongs
// to. A replica with another number waits until those that it finds have ended, so that it can
// be changed by a rolling update; a Pod must be ready while it waits. If it finds them after
// it has begun, because they were suspended, both give up their shards, and one begins again.
type Sharding struct {
	// Leases is CoordinationV1() of a clientset. It needs the rights to get, list, create,
	// update and delete Leases in Namespace. A client whose rate limit could delay renewals is
	// refused, with the QPS that is needed. Use a client of its own, with a QPS of -1, so that
	// other requests don't delay them either.
	Leases coordinationv1client.LeasesGetter
	// Namespace is where the Leases are. A replica lists all Leases there every 2 s.
	Namespace string
	// Name and Shards begin the names of the Leases: Name-16-0, Name-16-1 and so on for 16
	// shards, and Name-16-member- and a suffix for the replicas. The Leases of shards are left
	// when the program is removed.
	Name string
	// Identity is the name of this replica for people, such as the name of its Pod.
	Identity string
	// Shards is the number of shards. Several times the number of replicas makes even shares.
	Shards int
	// LeaseDuration is how long the Lease of a shard is kept for a replica that is gone; whole
	// seconds. The default is 15 s. A Lease is renewed after 2/15 of it.
	LeaseDuration time.Duration
}

func (s *Sharding) validate(p *problems) {
	for _, v := range [][2]string{{"Namespace", s.Namespace}, {"Name", s.Name}} {
		wrong := validation.IsDNS1123Label(v[1])
		p.unless(len(wrong) == 0, "Sharding.%s: %v", v[0], wrong)
	}
	p.unless(s.Identity != "", "Sharding.Identity: is required")
	p.unless(s.Shards > 0, "Sharding.Shards: must be at least 1, is %d", s.Shards)
	p.unless(s.LeaseDuration >= time.Second && s.LeaseDuration%time.Second == 0, "Sharding.LeaseDuration: must be whole seconds, is %s", s.LeaseDuration)
	p.unless(s.Leases != nil, "Sharding.Leases: is required")
	client, ok := s.Leases.(interface{ RESTClient() rest.Interface })
	if !ok || client.RESTClient() == nil || len(*p) > 0 {
		return
	}
	// A replica that leads all shards sends a request for each in a retry period, and two for
	// itself. As many again are for what fails.
	needed := float32(math.Ceil(2 * float64(s.Shards+2) / s.retryPeriod().Seconds()))
	limiter := client.RESTClient().GetRateLimiter()
	never := reflect.TypeOf(flowcontrol.NewFakeAlwaysRateLimiter()) // waits, but says 1
	if limiter != nil && reflect.TypeOf(limiter) != never {
		p.unless(limiter.QPS() >= needed, "Sharding.Leases: renewals of %d shards could be late with a QPS of %v; set QPS in the rest.Config to %v or more, or to -1",
			s.Shards, limiter.QPS(), needed)
	}
}

// These are in the proportion of client-go's defaults, 15 s, 10 s and 2 s.
func (s *Sharding) renewDeadline() time.Duration { return s.LeaseDuration * 10 / 15 }
func (s *Sharding) retryPeriod() time.Duration   { return s.LeaseDuration * 2 / 15 }

func (s *Sharding) leaseName(shard int) string {
	return fmt.Sprintf("%s-%d-%d", s.Name, s.Shards, shard)
}

func (s *Sharding) memberName(suffix string) string {
	return fmt.Sprintf("%s-%d-member-%s", s.Name, s.Shards, suffix)
}

// parse returns the number of shards that the name of a Lease tells, and whether it is the
// Lease of a replica and not of a shard, or ok false if it is none of this program.
func (s *Sharding) parse(name string) (shards int, member, ok bool) {
	rest, ours := strings.CutPrefix(name, s.Name+"-")
	number, rest, _ := strings.Cut(rest, "-")
	shards, err := strconv.Atoi(number)
	member = strings.HasPrefix(rest, "member-")
	if _, notShard := strconv.Atoi(rest); !ours || err != nil || notShard != nil && !member {
		return 0, false, false
	}
	return shards, member, true
}

// shardOf returns the shard of a data plane: the hash of namespace/name, modulo the number of
// shards. Replicas of different releases must agree: this never changes.
func (o Options) shardOf(key cache.ObjectName) int {
	if o.Sharding == nil {
		return 0
	}
	return int(hash(key.String()) % uint64(o.Sharding.Shards)) //nolint:gosec // Shards is positive
}

// hash returns the first 8 bytes of the SHA-256 of a text.
func hash(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(sum[:])
}

// assign divides shards among replicas, of which each leads some, in ascending order. Each
// replica keeps what it leads, up to its share. What is left goes to those with less than
// their share, to the one with the highest hash for the shard. So few shards move, and all
// replicas that see the same agree.
func assign(shards int, leads map[string][]int) map[string][]int {
	// Those that lead more than the others must, have one more if it does not come out even.
	least := shards / len(leads)
	replicas := slices.SortedFunc(maps.Keys(leads), func(a, b string) int {
		return cmp.Or(cmp.Compare(min(len(leads[b]), least+1), min(len(leads[a]), least+1)), cmp.Compare(a, b))
	})
	owner, room := make([]string, shards), map[string]int{}
	for i, replica := range replicas {
		room[replica] = least
		if i < shards%len(leads) {
			room[replica]++
		}
		kept := leads[replica][:min(len(leads[replica]), room[replica])]
		for _, shard := range kept {
			owner[shard] = replica
		}
		room[replica] -= len(kept)
	}
	assigned := map[string][]int{}
	for shard := range shards {
		if owner[shard] == "" {
			replicas = slices.DeleteFunc(replicas, func(replica string) bool { return room[replica] == 0 })
			owner[shard] = slices.MaxFunc(replicas, func(a, b string) int {
				return cmp.Compare(hash(fmt.Sprintf("%s/%d", a, shard)), hash(fmt.Sprintf("%s/%d", b, shard)))
			})
			room[owner[shard]]--
		}
		assigned[owner[shard]] = append(assigned[owner[shard]], shard)
	}
	return assigned
}
