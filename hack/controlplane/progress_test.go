// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProgressOnATerminalRedrawsOneLine(t *testing.T) {
	var out syncBuffer
	p := &progress{w: &out, terminal: true, interval: tick}
	end := p.phase(func(elapsed time.Duration) string { return fmt.Sprintf("at work, %s", elapsed) })
	require.Eventually(t, func() bool { return strings.Count(out.String(), "at work, 0s") > 2 }, eventually, tick)
	end()
	p.linef("done")
	assert.NotContains(t, strings.TrimSuffix(out.String(), "\n"), "\n")
	assert.True(t, strings.HasSuffix(out.String(), "at work, 0s\r\x1b[Kdone\n"), "%q", out.String())
}

func TestProgressElsewhereWritesLines(t *testing.T) {
	var out syncBuffer
	p := &progress{w: &out, interval: 10 * tick}
	began := time.Now()
	p.linef("begun")
	status := func(time.Duration) string { return "at work" }
	p.phase(status)()
	end := p.phase(status)
	require.Eventually(t, func() bool { return strings.Count(out.String(), "at work\n") == 3 }, eventually, tick)
	end()
	assert.GreaterOrEqual(t, time.Since(began), 30*tick)
	assert.NotContains(t, out.String(), "\x1b")
}
