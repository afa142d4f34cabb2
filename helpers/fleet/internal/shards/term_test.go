// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package shards_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/shards"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
)

func TestALeaseIsReleasedWhenRunsHaveReturnedAndTheTermHasEnded(t *testing.T) {
	const drain = 3 * leaseDuration
	for name, test := range map[string]struct {
		stops  bool
		yields int
		cause  error
	}{
		"another replica joins":    {false, 2, shards.ErrLost},
		"the replica ends as well": {true, 4, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 4, func(t *testing.T, p *program) {
				a := p.start("a", drains(drain))
				time.Sleep(moment)
				p.requireShared(a)
				b := p.start("b")
				if test.stops {
					a.stop()
				}
				time.Sleep(moment)
				require.Len(t, a.canceled(), test.yields)
				assert.Len(t, a.Status().Leads, 4)
				if !test.stops {
					require.Len(t, b.Status().Waiting, 2)
					assert.Equal(t, a.Status().Identity, b.Status().Waiting[0].Holder)
				}
				time.Sleep(drain)
				p.runs.RequireNoOverlap(p.t)
				for _, term := range a.canceled() {
					require.ErrorIs(t, term.cause, test.cause)
					require.Equal(t, []string{"Start", "CancelRuns", "End"}, methods(term.calls))
					require.Equal(t, drain, term.calls[2].at.Sub(term.calls[1].at))
					require.True(t, term.calls[2].holds, "End comes before the Lease is released")
				}
				assert.Len(t, b.Status().Leads, test.yields)
				if test.stops {
					require.NoError(t, <-a.result)
					p.end(b)
				} else {
					p.end(b, a)
				}
			})
		})
	}
}

func methods(calls []call) (methods []string) {
	for _, c := range calls {
		methods = append(methods, c.method)
	}
	return methods
}

// Runs have a moment to return before they are abandoned, and are abandoned before another replica
// may lead their shard.
func TestRunsAreAbandonedBeforeALeaseThatCannotBeRenewedExpires(t *testing.T) {
	for drain, want := range map[time.Duration][]string{
		2 * time.Second: {"Start", "CancelRuns", "End"},
		forever:         {"Start", "CancelRuns", "AbandonRuns", "End"},
	} {
		t.Run(drain.String(), func(t *testing.T) {
			bubble(t, 4, func(t *testing.T, p *program) {
				a := p.start("a", drains(drain))
				time.Sleep(moment)
				p.requireShared(a)
				a.client.SetFault(testleases.CutOff)
				since := time.Now()
				b := p.start("b")
				time.Sleep(leaseDuration + moment)
				require.Len(t, a.canceled(), 4)
				for _, term := range a.canceled() {
					require.ErrorIs(t, term.cause, shards.ErrLost)
					require.Equal(t, want, methods(term.calls))
					require.Less(t, term.calls[len(term.calls)-1].at.Sub(since), leaseDuration-retryPeriod/2)
				}
				p.requireShared(b)
				p.runs.RequireNoOverlap(p.t)
				p.stop(a)
				p.end(b)
			})
		})
	}
}

// One run that takes long doesn't delay the other shards.
func TestAReplicaThatEndsReleasesEachShardWhenItsRunsHaveReturned(t *testing.T) {
	bubble(t, 8, func(t *testing.T, p *program) {
		a, b := p.start("a", drains(forever)), p.start("b")
		time.Sleep(moment)
		a.stop()
		for len(a.canceled()) == 0 {
			time.Sleep(time.Second)
		}
		for _, term := range a.canceled()[1:] {
			term.end()
		}
		time.Sleep(leaseDuration)
		assert.Len(t, b.Status().Leads, 7)
		a.canceled()[0].end()
		require.NoError(t, <-a.result)
		time.Sleep(moment)
		p.requireShared(b)
		p.runs.RequireNoOverlap(p.t)
		p.end(b)
	})
}

func TestRunsAreCanceledAtOnceWithoutTheAPIServer(t *testing.T) {
	bubble(t, 4, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(a)
		a.client.SetFault(func(string) testleases.Fault { return testleases.Fault{After: time.Hour} })
		time.Sleep(retryPeriod / 2)
		a.stop()
		since := time.Now()
		require.Len(t, a.canceled(), 4)
		require.NoError(t, <-a.result)
		assert.Less(t, time.Since(since), leaseDuration, "until Run returned, without any run to wait for")
	})
}
