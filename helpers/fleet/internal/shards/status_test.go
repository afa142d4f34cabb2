// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package shards_test

import (
	"errors"
	"fmt"
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

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
)

var noAnswer = testleases.Fault{After: time.Hour}

// While a replica has not joined, its Status shows the reason at any moment.
func TestStatusSaysWhyAReplicaHasNotJoined(t *testing.T) {
	noSpace := apierrors.NewInternalError(errors.New("etcdserver: mvcc: database space exceeded"))
	terminating := apierrors.NewForbidden(testleases.Resource, "", errors.New("because it is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	refused := apierrors.NewUnauthorized("the token has expired") // the client may read the next one later
	noNamespace := apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "system")
	for name, test := range map[string]struct {
		fault func(string) testleases.Fault
		want  string
	}{
		"writes fail":           {testleases.Failing(noSpace, "create", "update"), "database space exceeded"},
		"no namespace":          {testleases.Failing(noNamespace, "create", "update"), `namespaces "system" not found`},
		"terminating":           {testleases.Failing(terminating, "create"), "being terminated"},
		"credentials refused":   {testleases.Failing(refused, "get", "list", "create", "update", "delete"), "the token has expired"},
		"lists fail":            {testleases.Failing(testleases.ErrCutOff, "list"), "cut off"},
		"all requests fail":     {testleases.CutOff, "cut off"},
		"no answers to creates": {testleases.On(noAnswer, "create"), "deadline exceeded"},
		"no answers at all":     {func(string) testleases.Fault { return noAnswer }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 4, func(t *testing.T, p *program) {
				a := p.start("a")
				requireReason := func(limit time.Duration) (last string) {
					t.Helper()
					for range limit / (100 * time.Millisecond) {
						synctest.Wait()
						if s := a.Status(); len(s.Leads)+len(s.Waiting) == 0 {
							require.Error(t, s.LastError)
							last = s.LastError.Error()
						}
						time.Sleep(100 * time.Millisecond)
					}
					return last
				}
				a.client.SetFault(test.fault)
				assert.Contains(t, requireReason(3*leaseDuration), test.want)
				assert.False(t, a.hasJoined())
				a.client.SetFault(nil)
				requireReason(leaseDuration + moment)
				p.requireShared(a)

				a.client.SetFault(test.fault)
				requireReason(3 * leaseDuration)
				a.client.SetFault(nil)
				requireReason(leaseDuration + moment)
				p.requireShared(a)
				a.stop()
				requireReason(leaseDuration)
				require.ErrorContains(t, a.Status().LastError, "this replica has ended")
				require.NoError(t, <-a.result)
			})
		})
	}
}

// A shard whose Lease can't be written has no leader, and Status shows the error.
func TestStatusSaysWhyAShardHasNoLeader(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		var creates atomic.Int32
		a := p.start("a", meets(func(verb string) testleases.Fault {
			if verb == "create" && creates.Add(1) > 2 { // after the check of rights and its own Lease
				return testleases.Fault{Err: apierrors.NewInternalError(errors.New("no space"))}
			}
			return testleases.Fault{}
		}))
		time.Sleep(moment)
		s := a.Status()
		assert.Len(t, s.Waiting, 4)
		require.Error(t, s.LastError)
		assert.Regexp(t, `^shard \d: Lease test-4-\d: .*no space$`, s.LastError.Error())
		a.client.SetFault(nil)
		time.Sleep(leaseDuration)
		p.requireShared(a)
		p.end(a)
	})
}

func TestAMissingRightEndsRun(t *testing.T) {
	for _, verb := range []string{"get", "list", "create", "update", "delete"} {
		t.Run(verb, func(t *testing.T) {
			bubble(t, 4, func(t *testing.T, p *program) {
				forbidden := testleases.Failing(apierrors.NewForbidden(testleases.Resource, "", fmt.Errorf("cannot %s leases", verb)), verb)
				a, b := p.start("a"), p.start("b", meets(forbidden))
				since := time.Now()
				err := <-b.result
				require.ErrorContains(t, err, "Sharding.Leases: a right is missing")
				require.ErrorContains(t, err, "cannot "+verb+" leases")
				assert.LessOrEqual(t, time.Since(since), leaseDuration)
				require.True(t, apierrors.IsForbidden(err))

				// Later, and for long: all runs end at once, not one by one.
				c := p.start("c")
				time.Sleep(2*leaseDuration + moment)
				p.requireShared(a, c)
				c.client.SetFault(forbidden)
				require.ErrorContains(t, <-c.result, "cannot "+verb+" leases")
				time.Sleep(leaseDuration + moment)
				p.requireShared(a)

				// For a moment, as with an API server that starts.
				a.client.SetFault(forbidden)
				time.Sleep(3 * retryPeriod)
				a.client.SetFault(nil)
				time.Sleep(moment)
				p.requireShared(a)
			})
		})
	}
}

// A quota that is used up is no missing right: replicas that have their Leases continue, and the
// Status of another shows why it waits.
func TestAQuotaThatIsUsedUpEndsNoReplica(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(a)
		p.leases.SetQuota(len(p.leases.Holders()))
		b := p.start("b")
		time.Sleep(3 * leaseDuration)
		p.requireShared(a)
		assert.False(t, b.hasJoined())
		require.ErrorContains(t, b.Status().LastError, "exceeded quota")
		p.leases.SetQuota(0)
		time.Sleep(leaseDuration)
		p.requireShared(a, b)
		p.end(a, b)
	})
}
