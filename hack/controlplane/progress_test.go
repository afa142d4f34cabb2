// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProgressWritesLinesUntilAPhaseEnds(t *testing.T) {
	var out syncBuffer
	p := &progress{w: &out, interval: tick}
	end := p.phase(func() string { return "at work" })
	require.Eventually(t, func() bool { return strings.Count(out.String(), "control plane: at work, 0s\n") > 1 }, eventually, tick)
	end()
	p.linef("done in %s", time.Second)
	assert.True(t, strings.HasSuffix(out.String(), "\ncontrol plane: done in 1s\n"), out.String())
}
