// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
)

// A hook that is called when something has ended finds that in Status.
func TestStatusInHooks(t *testing.T) {
	t.Run("OnEnd", func(t *testing.T) {
		var f *fleetTest
		statuses := make(chan fleet.PlaneStatus, 10)
		ready := make(chan struct{})
		f = newFleetTest(t, false, fleet.Options{
			Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
			Hooks: fleet.Hooks{OnEnd: func(types.NamespacedName, error, time.Duration, time.Duration) {
				<-ready
				statuses <- f.status("a")
			}},
		})
		close(ready)
		f.add("a")
		f.next().end <- errors.New("no route")
		assert.Equal(t, fleet.StateRetrying, testserver.Receive(t, statuses).State)
		require.NoError(t, f.ended())
	})
	t.Run("OnShardLost", func(t *testing.T) {
		bubble(t, 1, 1, func(t *testing.T, p *program) {
			var a *replica
			leads := make(chan []int, 1)
			a = p.start("a", func(o *fleet.Options) {
				o.Hooks.OnShardLost = func(int, error) { leads <- a.sharding().Leads }
			})
			time.Sleep(moment)
			p.end(a)
			assert.Empty(t, <-leads)
		})
	})
}
