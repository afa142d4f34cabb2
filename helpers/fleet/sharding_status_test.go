// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// A replica that has not joined says why, at any moment.
func TestStatusSaysWhyAReplicaHasNotJoined(t *testing.T) {
	noSpace := apierrors.NewInternalError(errors.New("etcdserver: mvcc: database space exceeded"))
	terminating := apierrors.NewForbidden(leaseResource, "", errors.New("because it is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	noNamespace := apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "system")
	for name, test := range map[string]struct {
		fault func(string) fault
		want  string
	}{
		"writes fail":           {failing(noSpace, "create", "update"), "database space exceeded"},
		"no namespace":          {failing(noNamespace, "create", "update"), `namespaces "system" not found`},
		"terminating":           {failing(terminating, "create"), "being terminated"},
		"lists fail":            {failing(errCutOff, "list"), "cut off"},
		"all requests fail":     {cutOff, "cut off"},
		"no answers to creates": {func(verb string) fault { return map[string]fault{"create": {after: time.Hour}}[verb] }, "deadline exceeded"},
		"no answers at all":     {func(string) fault { return fault{after: time.Hour} }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 4, 12, func(t *testing.T, p *program) {
				a := p.start("a")
				requireReason := func(limit time.Duration) (last string) {
					t.Helper()
					for range limit / (10 * time.Millisecond) {
						synctest.Wait()
						if s := a.sharding(); len(s.Leads)+len(s.Waiting) == 0 {
							require.NotEmpty(t, s.LastError)
							last = s.LastError
						}
						time.Sleep(10 * time.Millisecond)
					}
					return last
				}
				a.client.setFault(test.fault)
				assert.Contains(t, requireReason(3*leaseDuration), test.want)
				assert.False(t, a.hasJoined())
				a.client.setFault(nil)
				requireReason(leaseDuration + moment)
				p.requireShared(12, a)
				assert.Empty(t, a.sharding().LastError)

				a.client.setFault(test.fault)
				requireReason(3 * leaseDuration)
				a.client.setFault(nil)
				requireReason(leaseDuration + moment)
				p.requireShared(12, a)
				assert.Empty(t, a.sharding().LastError)
				a.stop()
				requireReason(leaseDuration)
				assert.Contains(t, a.sharding().LastError, "this replica has ended")
				require.NoError(t, <-a.result)
			})
		})
	}
}

// A shard whose Lease can't be written has no leader, and Status says why.
func TestStatusSaysWhyAShardHasNoLeader(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		var creates atomic.Int32
		a := p.start("a", func(o *fleet.Options) {
			o.Sharding.Leases.(*leaseClient).setFault(func(verb string) fault {
				if verb == "create" && creates.Add(1) > 2 { // after the check of rights and its own Lease
					return fault{err: apierrors.NewInternalError(errors.New("no space"))}
				}
				return fault{}
			})
		})
		time.Sleep(moment)
		s := a.sharding()
		assert.Len(t, s.Waiting, 4)
		assert.Regexp(t, `^shard \d: Lease test-4-\d: .*no space$`, s.LastError)
		a.client.setFault(nil)
		time.Sleep(leaseDuration)
		p.requireShared(12, a)
		assert.Empty(t, a.sharding().LastError)
		p.end(a)
	})
}

// A quota that is used up is no missing right: replicas that have their Leases go on, and
// another one says what it waits for.
func TestShardingWithAQuotaThatIsUsedUp(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(12, a)
		p.leases.mu.Lock()
		p.leases.quota = len(p.leases.leases)
		p.leases.mu.Unlock()
		b := p.start("b")
		time.Sleep(3 * leaseDuration)
		p.requireShared(12, a)
		assert.Empty(t, a.sharding().LastError)
		assert.False(t, b.hasJoined())
		assert.Contains(t, b.sharding().LastError, "exceeded quota")
		p.leases.mu.Lock()
		p.leases.quota = 0
		p.leases.mu.Unlock()
		time.Sleep(leaseDuration)
		p.requireShared(12, a, b)
		p.end(a, b)
	})
}
