// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package shards

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lease is a Lease as this replica sees it. As in client-go's leader election, a replica trusts
// only its own clock: since is when it first saw the Lease in this state.
type lease struct {
	*coordinationv1.Lease
	since time.Time
}

// record returns the content of the Lease; a zero record if there is no Lease.
func (l lease) record() resourcelock.LeaderElectionRecord {
	if l.Lease == nil {
		return resourcelock.LeaderElectionRecord{}
	}
	return *resourcelock.LeaseSpecToLeaderElectionRecord(&l.Spec)
}

func (l lease) holder() string { return l.record().HolderIdentity }

func (l lease) expired() bool {
	return time.Since(l.since) > time.Duration(l.record().LeaseDurationSeconds)*time.Second
}

func (o Options) shardLease(shard int) string {
	return fmt.Sprintf("%s-%d-%d", o.Name, o.Shards, shard)
}

func (o Options) memberLease(suffix string) string {
	return fmt.Sprintf("%s-%d-member-%s", o.Name, o.Shards, suffix)
}

// replicaSuffix matches the end of a replica's identity. utilrand uses no vowels.
var replicaSuffix = regexp.MustCompile(`_([0-9b-df-hj-np-tv-z]{10})$`)

// parse returns the number of shards in the name of a Lease that a replica of this program holds,
// and whether it is a member Lease. For any other Lease, ok is false. A name with our prefix may be
// of another program, such as test-4-member, whose shards are test-4-member-7-0 and so on, or
// its holder may be no replica, such as a Pod of the StatefulSet test-7.
func (o Options) parse(l lease) (shards int, member, ok bool) {
	rest, ours := strings.CutPrefix(l.Name, o.Name+"-")
	number, rest, _ := strings.Cut(rest, "-")
	shards, ok = parseNumber(number)
	if !ours || !ok {
		return 0, false, false
	}
	replica := replicaSuffix.FindStringSubmatch(l.holder())
	if replica == nil {
		return 0, false, false
	}
	if rest == "member-"+replica[1] {
		return shards, true, true
	}
	shard, ok := parseNumber(rest)
	return shards, false, ok && shard < shards
}

// parseNumber parses a number as the names of Leases have it: without a sign or leading zeros.
func parseNumber(text string) (number int, ok bool) {
	number, err := strconv.Atoi(text)
	return number, err == nil && number >= 0 && strconv.Itoa(number) == text
}
