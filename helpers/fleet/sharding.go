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

// Sharding divides the data planes of a [Fleet] among the replicas of a program: each replica
// runs a Fleet whose Sharding differs in Identity only. A hash of its namespace and name decides
// which shard a data plane belongs to. By client-go's leader election, one replica at a time
// leads a shard, and holds the shard's Lease.
//
// Each replica has a Lease too, by which the others see it. The shards are divided evenly: the
// numbers of two replicas differ by at most one. With the default LeaseDuration:
//
//   - When a replica joins, the others end the runs of surplus shards, within StopGrace, and
//     then release those shards.
//   - When a replica shuts down, the others take each of its shards as soon as the shard's runs
//     have ended. Run returns within StopGrace plus 10 s; give a Pod a longer
//     terminationGracePeriodSeconds.
//   - When a replica is killed or cut off, the others take its shards after 15 to 20 s, or up to
//     15 s later if an answer to them is lost.
//   - When a replica can't renew the Lease of a shard for 10 s, it cancels the shard's runs. Within
//     another 3 s, it abandons those that have not returned, whatever StopGrace is, and closes
//     their connections. When the API server is down for longer, no replica has runs.
//   - When a replica can't list the Leases, it gives up all its shards within 15 s.
//   - When a replica was suspended and others have taken its shards, its next renewals show
//     that, within 2 s if the API server answers. It abandons those runs at once, whatever
//     StopGrace is, even if the others have released the shards since.
//   - When somebody deletes the Lease of a shard or changes its holder, the next renewal shows
//     that, and the shard's runs are abandoned at once. New ones begin when the Lease is free or
//     has expired. When somebody does this to the Lease of a replica, it ends all its runs, and
//     joins again.
//   - When a right to Leases is missing for 10 s, Run ends with an error that names the right.
//     After other errors, such as Unauthorized while a token is renewed, it tries again, and
//     [ShardingStatus] shows them.
//
// As with any leader election, two replicas can lead a shard for a moment if clocks run at
// different speeds, a process was suspended, answers of the API server take seconds, or somebody
// edits or deletes a Lease. For strict exclusion, use a fencing check in the data plane, such as
// resourceVersion.
//
// Shards must be the same in all replicas, because it decides which shard a data plane belongs
// to. To change it, use a rolling update: a replica with another number waits until the others
// have ended, and its Pod must be ready while it waits. If others were suspended and return after
// it has begun, they end their runs, and wait in turn.
type Sharding struct {
	// Leases is CoordinationV1() of a clientset. It needs the rights to get, list, create,
	// update and delete Leases in Namespace. Use a separate client with a QPS of -1, so that no
	// other requests delay renewals. If the client's rate limit could delay them, Run returns an
	// error with the QPS that is needed.
	Leases coordinationv1client.LeasesGetter
	// Namespace is the namespace of the Leases. A replica lists all Leases there every 2 s.
	Namespace string
	// Name begins the names of the Leases. With 16 shards, they are Name-16-0, Name-16-1 and so
	// on for the shards, and Name-16-member- and a suffix for the replicas. The shards' Leases
	// remain when the program is removed. The Lease of a replica that was killed is deleted, as are
	// its shards' if it had another number of shards. Other Leases are never changed: if somebody
	// else holds a Lease with a shard's name, the shard waits until it has expired, and Status shows
	// that.
	Name string
	// Identity is a name of this replica for people to read, such as the name of its Pod.
	Identity string
	// Shards is the number of shards. Several times the number of replicas gives even shares.
	Shards int
	// LeaseDuration is how long the Lease of a shard is kept for a replica that is gone, in whole
	// seconds. The default is 15 s. Leases are renewed every 2/15 of LeaseDuration.
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
	// In a retry period, a replica that leads all shards sends one request for each, and two for
	// itself. Twice as many leaves room for retries.
	needed := float32(math.Ceil(2 * float64(s.Shards+2) / shards.RetryPeriod(s.LeaseDuration).Seconds()))
	limiter := client.RESTClient().GetRateLimiter()
	never := reflect.TypeOf(flowcontrol.NewFakeAlwaysRateLimiter()) // never waits, but has a QPS of 1
	if limiter != nil && reflect.TypeOf(limiter) != never {
		p.unless(limiter.QPS() >= needed, "Sharding.Leases: renewals of %d shards could be late with a QPS of %v; set QPS in the rest.Config to %v or more, or to -1",
			s.Shards, limiter.QPS(), needed)
	}
}
