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
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Whatever happens to replicas and their requests, no two runs of a data plane overlap, and
// each data plane runs again two lease durations after the last fault.
func TestRunsDoNotOverlapUnderFaults(t *testing.T) {
	// slow is the longest time to an answer. Leader election counts from the answer, not from the
	// request, so runs may overlap if an answer takes more than 3 s.
	const slow = time.Second
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
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
							faulty.client.SetFault(testleases.CutOff)
						case 5:
							faulty.client.SetFault(someFaults(random.Uint64(), slow))
						case 6: // it notices none of the requests
							faulty.client.SetFault(func(string) testleases.Fault { return testleases.Fault{After: time.Hour} })
						case 7:
							faulty.client.SetFault(nil)
						}
						time.Sleep(time.Duration(random.Int64N(int64(leaseDuration))))
					}
					for _, r := range replicas {
						r.client.SetFault(nil)
					}
					time.Sleep(2 * leaseDuration)
					synctest.Wait()
					require.Len(t, p.runs.Current(t), 24)
					p.runs.RequireNoOverlap(t)
				}
				p.end(replicas...)
			})
		})
	}
}

// someFaults refuses some requests, loses the answers to some, and delays others, so that they
// overtake each other.
func someFaults(seed uint64, slow time.Duration) func(string) testleases.Fault {
	random := rand.New(rand.NewPCG(seed, 1))
	return func(string) testleases.Fault {
		some := func() time.Duration { return time.Duration(random.Int64N(int64(slow))) }
		switch random.IntN(8) {
		case 0:
			return testleases.Fault{Err: apierrors.NewTooManyRequests("slow down", 1)}
		case 1:
			return testleases.Fault{Err: apierrors.NewInternalError(testleases.ErrCutOff)}
		case 2:
			return testleases.Fault{Err: testleases.ErrCutOff, Lost: true}
		case 3:
			return testleases.Fault{Before: some()}
		case 4:
			return testleases.Fault{After: some()}
		}
		return testleases.Fault{}
	}
}
