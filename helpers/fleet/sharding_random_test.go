// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

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
