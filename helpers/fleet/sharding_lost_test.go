// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// A process that was suspended finds both at once: it has lost the shard, and there are new credentials.
func TestARunOfALostShardGetsNoNewCredentials(t *testing.T) {
	for range 12 { // the order of the two is random
		bubble(t, 1, 1, func(t *testing.T, p *program) {
			blocked, stop := make(chan struct{}), make(chan struct{})
			rotations := 0
			r := p.startWith("a", func(context.Context, *remote.Cluster) error {
				<-stop
				return nil
			}, func(o *fleet.Options) {
				o.Remote.ConfigFor = labelConfig
				o.Hooks.OnRotate = func(types.NamespacedName, error) {
					if rotations++; rotations == 1 {
						<-blocked
					}
				}
			})
			rotate := func(token string) {
				dp := &v1alpha1.DataPlane{}
				dp.Namespace, dp.Name, dp.UID = "default", "dp-0", "0"
				label("token", token)(dp)
				p.source.Modify(dp)
				synctest.Wait()
			}
			time.Sleep(moment)
			rotate("1")
			p.leases.Hold("test-1-0", "someone", time.Hour)
			time.Sleep(moment)
			rotate("2")
			close(blocked)
			synctest.Wait()
			assert.Equal(t, 1, rotations)
			close(stop)
			r.clings = true
			p.stop(r)
		})
	}
}
