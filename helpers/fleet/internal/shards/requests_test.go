// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package shards_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
)

// A replica that can't see the others gives up its shards within the LeaseDuration, whether its
// lists fail or get no answer, and takes none from others.
func TestAReplicaThatCannotListGivesUpItsShards(t *testing.T) {
	for range times(10) { // rounds begin at random times
		for _, fault := range []testleases.Fault{{Err: apierrors.NewInternalError(testleases.ErrCutOff)}, noAnswer} {
			bubble(t, 8, func(t *testing.T, p *program) {
				a, b := p.start("a"), p.start("b")
				time.Sleep(moment)
				p.requireShared(a, b)
				b.client.SetFault(testleases.On(fault, "list"))
				time.Sleep(leaseDuration)
				assert.Empty(t, b.Status().Leads)
				time.Sleep(leaseDuration)
				p.requireShared(a)
				assert.False(t, b.hasJoined())
				require.Error(t, b.Status().LastError)
				b.client.SetFault(nil)
				time.Sleep(moment)
				p.requireShared(a, b)
				p.end(a, b)
			})
		}
	}
}

// Lost answers delay a takeover, but not for as long as a client would wait for them.
func TestLostAnswersDelayATakeoverOnlyForAWhile(t *testing.T) {
	for _, verb := range []string{"get", "create"} {
		t.Run(verb, func(t *testing.T) {
			bubble(t, 8, func(t *testing.T, p *program) {
				var requests atomic.Int32
				a := p.start("a", meets(func(v string) testleases.Fault {
					if v != verb || requests.Add(1)%2 == 1 {
						return testleases.Fault{}
					}
					return noAnswer
				}))
				time.Sleep(moment)
				b := p.start("b")
				time.Sleep(2 * leaseDuration)
				p.stop(b)
				time.Sleep(2 * leaseDuration)
				require.Greater(t, requests.Load(), int32(4))
				a.client.SetFault(nil)
				time.Sleep(leaseDuration + moment)
				p.requireShared(a)
				p.end(a)
			})
		})
	}
}

// losing loses the answers to the first requests of a verb.
func losing(verb string, answers int32) func(string) testleases.Fault {
	var requests atomic.Int32
	return func(v string) testleases.Fault {
		if v != verb || requests.Add(1) > answers {
			return testleases.Fault{}
		}
		return noAnswer
	}
}

func TestAReplicaThatEndsReleasesItsLeasesAfterALostAnswer(t *testing.T) {
	bubble(t, 4, func(_ *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		a.client.SetFault(losing("get", 1))
		p.stop(a)
		time.Sleep(2 * retryPeriod)
		p.requireShared(b)
		p.end(b)
	})
}

func TestRunsContinueWhenAnAnswerToARenewalIsLost(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(a)
		a.client.SetFault(losing("update", 5)) // including the member Lease's
		time.Sleep(2 * leaseDuration)
		p.requireShared(a)
		assert.Empty(t, a.canceled())
		p.end(a)
	})
}

// A replica gives up its shards and ends in time even if its requests last beyond their contexts,
// because its client waits for a rate limiter or a credential plugin.
func TestRequestsThatIgnoreTheirContextDelayNothing(t *testing.T) {
	stuck := func(string) testleases.Fault { return testleases.Fault{Stuck: 10 * time.Minute} }
	bubble(t, 4, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(a, b)
		a.client.SetFault(stuck)
		time.Sleep(leaseDuration + moment)
		p.requireShared(b)
		assert.Empty(t, a.Status().Leads)
		require.ErrorContains(t, a.Status().LastError, "deadline exceeded")

		a.client.SetFault(nil)
		time.Sleep(moment)
		p.requireShared(a, b)
		a.client.SetFault(stuck)
		time.Sleep(retryPeriod)
		a.stop()
		select {
		case err := <-a.result:
			require.NoError(t, err)
		case <-time.After(11 * time.Second): // the 10 s in the documentation of Sharding, and a moment
			assert.Fail(t, "Run hangs")
		}
		time.Sleep(leaseDuration + moment)
		p.requireShared(b)
		p.runs.RequireNoOverlap(p.t)
		p.end(b)
		time.Sleep(10 * time.Minute)
	})
}

// A Lease is kept for LeaseDuration after it was seen, not after the request was sent. In client-go,
// observedTime is the time of the answer too.
func TestAListThatTakesLongDoesNotShortenALease(t *testing.T) {
	for range times(10) { // rounds begin at random times
		bubble(t, 4, func(_ *testing.T, p *program) {
			a := p.start("a", drains(forever))
			time.Sleep(moment)
			b := p.start("b")
			time.Sleep(moment)
			const slow = 4 * time.Second
			lists := 0
			b.client.SetFault(func(verb string) testleases.Fault {
				if verb != "list" {
					return testleases.Fault{}
				}
				if lists++; lists == 3 { // a is cut off when the server handles this list
					time.AfterFunc(slow-time.Millisecond, func() { a.client.SetFault(testleases.CutOff) })
				}
				return testleases.Fault{Before: slow}
			})
			time.Sleep(3 * leaseDuration)
			p.stop(a)
			p.end(b)
			p.runs.RequireNoOverlap(p.t)
		})
	}
}

// A list that was sent before a replica won a shard shows the former leader, and ends no runs.
func TestAnOldListEndsNoRuns(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(a, b)
		b.client.SetFault(func(verb string) testleases.Fault {
			return map[string]testleases.Fault{"list": {After: 4500 * time.Millisecond}, "update": {Before: 2400 * time.Millisecond}}[verb]
		})
		a.kill()
		time.Sleep(3 * leaseDuration)
		p.requireShared(b)
		assert.Empty(t, b.canceled())
		b.client.SetFault(nil)
		time.Sleep(moment)
		p.end(b)
	})
}

// Renewals are in time even if each answer takes 4 s.
func TestReplicasShareWithASlowAPIServer(t *testing.T) {
	bubble(t, 4, func(_ *testing.T, p *program) {
		slow := meets(func(string) testleases.Fault { return testleases.Fault{After: 4 * time.Second} })
		a, b := p.start("a", slow), p.start("b", slow)
		time.Sleep(4 * leaseDuration)
		p.requireShared(a, b)
		p.end(a, b)
	})
}

// Others would wait until a member Lease that is left expires.
func TestAReplicaThatEndsDeletesItsMemberLease(t *testing.T) {
	bubble(t, 4, func(_ *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		a.client.SetFault(testleases.On(testleases.Fault{Before: 4 * time.Second}, "delete"))
		p.end(a)
	})
}

// An error of a request that a replica doesn't need doesn't keep it from taking over shards: to
// take one over, it creates no Lease.
func TestAReplicaTakesOverWhileNoLeaseCanBeCreated(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(a, b)
		a.client.SetFault(testleases.Failing(apierrors.NewInternalError(errors.New("failed calling webhook")), "create"))
		time.Sleep(leaseDuration)
		b.kill()
		time.Sleep(3 * leaseDuration)
		assert.Len(t, a.Status().Leads, 4, "%+v", a.Status())
		a.client.SetFault(nil)
		time.Sleep(moment)
		p.end(a)
	})
}

// The figures are those in docs/scale.md: in each retry period, a renewal of each Lease and about
// one list by each replica, and in each LeaseDuration four requests by each replica to check its
// rights.
func TestRequestsPerMinute(t *testing.T) {
	bubble(t, 16, func(t *testing.T, p *program) {
		replicas := []*replica{p.start("a"), p.start("b"), p.start("c"), p.start("d")}
		time.Sleep(leaseDuration + moment)
		p.requireShared(replicas...)
		before := p.leases.Requests()
		time.Sleep(10 * time.Minute)
		perMinute := float64(p.leases.Requests()-before) / 10
		t.Logf("%.0f requests for Leases a minute", perMinute)
		assert.InDelta(t, (16+4)*30+4*(28.5+4*4), perMinute, 10)
		p.end(replicas...)
	})
}
