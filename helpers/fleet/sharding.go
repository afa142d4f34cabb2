// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"math"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/shards"
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
//     have not returned after 3 s are abandoned, whatever StopGrace is, and their connections
//     are closed. When the API server is down for longer, no replica has runs.
//   - When a replica can't list the Leases, it gives up all its shards within 15 s.
//   - When a replica was suspended and others have taken its shards, it gives up those runs
//     when it notices, with the next list.
//   - When a right to Leases is missing for 10 s, Run ends with an error that names it. Other
//     errors are retried, and shown in [ShardingStatus].
//
// As with leader election in general, two replicas can lead a shard for a moment if clocks
// run at different speeds, a process was suspended, answers of the API server take seconds,
// or somebody edits or deletes a Lease. For strict exclusion, use a fencing check in the data
// plane, such as resourceVersion.
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
	// when the program is removed. Other Leases are left alone. If somebody else holds one of a
	// shard's name, this shard waits until it has expired, and Status says so.
	Name string
	// Identity is the name of this replica for people, such as the name of its Pod.
	Identity string
	// Shards is the number of shards. Several times the number of replicas makes even shares.
	Shards int
	// LeaseDuration is how long the Lease of a shard is kept for a replica that is gone; whole
	// seconds. The default is 15 s. A Lease is renewed after 2/15 of it.
	LeaseDuration time.Duration
}

func (s *Sharding) options(newTerm func(shard int) shards.Term) shards.Options {
	return shards.Options{
		Leases: s.Leases, Namespace: s.Namespace, Name: s.Name, Identity: s.Identity,
		Shards: s.Shards, LeaseDuration: s.LeaseDuration, NewTerm: newTerm,
	}
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
	needed := float32(math.Ceil(2 * float64(s.Shards+2) / shards.RetryPeriod(s.LeaseDuration).Seconds()))
	limiter := client.RESTClient().GetRateLimiter()
	never := reflect.TypeOf(flowcontrol.NewFakeAlwaysRateLimiter()) // waits, but says 1
	if limiter != nil && reflect.TypeOf(limiter) != never {
		p.unless(limiter.QPS() >= needed, "Sharding.Leases: renewals of %d shards could be late with a QPS of %v; set QPS in the rest.Config to %v or more, or to -1",
			s.Shards, limiter.QPS(), needed)
	}
}
