// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// Replicas with another number of shards wait until the others have ended.
func TestShardingWithAnotherNumberOfShards(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		eight := func(o *fleet.Options) { o.Sharding.Shards = 8 }
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		c := p.start("c", eight)
		time.Sleep(2 * leaseDuration)
		p.requireShared(12, a, b)
		assert.False(t, c.hasJoined())
		assert.Regexp(t, `replica [ab]_\w+ has another number of shards`, c.sharding().LastError)

		a.stop()
		time.Sleep(moment)
		d := p.start("d", eight)
		b.kill()
		time.Sleep(leaseDuration + moment)
		p.shards = 8
		p.requireShared(12, c, d)

		p.requireNoOverlap(0)
		p.stop(c, d)
	})
}

// A replica that can't see the others has ended its runs when those with another number of
// shards begin.
func TestShardingWithAnotherNumberOfShardsAfterALoss(t *testing.T) {
	for range 50 { // rounds begin at random times
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			a := p.startWith("a", func(_ context.Context, cluster *remote.Cluster) error {
				<-cluster.Done()
				return nil
			}, func(o *fleet.Options) { o.StopGrace = leaseDuration })
			time.Sleep(moment)
			b := p.start("b", func(o *fleet.Options) { o.Sharding.Shards = 8 })
			time.Sleep(moment)
			a.client.setFault(func(verb string) fault {
				if verb == "list" {
					return fault{err: errCutOff}
				}
				return fault{}
			})
			time.Sleep(4 * leaseDuration)
			require.Len(t, b.sharding().Leads, 8)
			require.Len(t, p.current(), 12)
			p.requireNoOverlap(0)
			p.stop(a, b)
		})
	}
}
