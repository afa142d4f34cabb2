// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// A replica whose requests go on after their contexts have ended, because its client waits for a
// token or a credential plugin, gives up its shards in time, and ends in time.
func TestShardingWithRequestsThatIgnoreTheirContext(t *testing.T) {
	const stuck = 10 * time.Minute
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		a.client.setFault(func(string) fault { return fault{stuck: stuck} })
		time.Sleep(leaseDuration + moment)
		p.requireShared(12, b)
		p.requireNoOverlap(0)
		assert.Empty(t, a.sharding().Leads)
		assert.Contains(t, a.sharding().LastError, "deadline exceeded")

		a.client.setFault(nil)
		time.Sleep(moment)
		p.requireShared(12, a, b)
		a.client.setFault(func(string) fault { return fault{stuck: stuck} })
		time.Sleep(retryPeriod)
		a.stop()
		select {
		case err := <-a.result:
			require.NoError(t, err)
		case <-time.After(20 * time.Second): // StopGrace and 10 s
			assert.Fail(t, "Run hangs")
		}
		time.Sleep(leaseDuration + moment)
		p.requireShared(12, b)
		p.requireNoOverlap(0)
		p.end(b)
		time.Sleep(stuck)
	})
}

// A lost answer to a renewal costs no run.
func TestRunsGoOnWhenAnAnswerToARenewalIsLost(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(12, a)
		lost := 0
		var mu sync.Mutex
		a.client.setFault(func(verb string) fault {
			mu.Lock()
			defer mu.Unlock()
			if verb != "update" || lost == p.shards+1 { // that of the member Lease, too
				return fault{}
			}
			lost++
			return fault{after: time.Hour}
		})
		time.Sleep(2 * leaseDuration)
		p.requireShared(12, a)
		for key, runs := range p.runs {
			assert.Len(t, runs, 1, key)
		}
		p.end(a)
	})
}

// A replica that was suspended and has left since, because its first list failed, gives up the
// shards that others have taken with its next list, too.
func TestAReplicaThatWasSuspendedAndCannotList(t *testing.T) {
	for range 10 { // rounds begin at random times
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			a := p.startWith("a", func(_ context.Context, cluster *remote.Cluster) error {
				<-cluster.Done()
				return nil
			}, func(o *fleet.Options) { o.StopGrace = time.Hour })
			time.Sleep(moment)
			p.requireShared(12, a)
			resume := a.client.suspend()
			b := p.start("b")
			time.Sleep(2 * leaseDuration)
			require.Len(t, b.sharding().Leads, 4)
			a.client.setFault(failing(errCutOff, "list"))
			time.Sleep(leaseDuration)
			resume()
			a.client.setFault(nil)
			time.Sleep(retryPeriod * 3 / 2)
			p.current()               // no two
			a.client.setFault(cutOff) // a's runs end
			a.clings = true
			p.stop(a, b)
		})
	}
}
