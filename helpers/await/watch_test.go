// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package await_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

// A load balancer may end watches every few seconds. A backoff must not delay events then.
func TestWatchesThatEndAreNoFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing, long := stream{err: errRefused}, stream{life: 5100 * time.Millisecond}
		s := &script{
			gets:    []answer{{dp: seen("b", "20", "False")}},
			watches: []stream{failing, failing, failing, failing, long, {}},
		}
		ctx := s.context(t)
		over := s.over
		s.over = func() {
			if s.watched == len(s.watches) {
				over()
			}
		}
		_, err := await.For(ctx, s, "prod", ready)
		require.ErrorIs(t, err, errOver)
		require.Len(t, s.watchedAt, len(s.watches))
		assert.Greater(t, s.watchedAt[4].Sub(s.watchedAt[3]), 400*time.Millisecond, "the backoff after failures")
		assert.Less(t, s.watchedAt[5].Sub(s.watchedAt[4]), long.life+400*time.Millisecond, "no backoff after a working watch")
	})
}
