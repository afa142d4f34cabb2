// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package testleases

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// History records which replica ran which key, and when.
type History[K comparable] struct {
	mu     sync.Mutex
	runs   map[K][]*Run // in the order of their starts
	killed map[string]bool
}

// Run is a run in a [History].
type Run struct {
	Replica  string
	From, To time.Time // To is zero while the run lasts
	Err      error
}

// NewHistory returns a History without runs.
func NewHistory[K comparable]() *History[K] {
	return &History[K]{runs: map[K][]*Run{}, killed: map[string]bool{}}
}

// Begin begins a run of a replica, unless the replica was killed.
func (h *History[K]) Begin(key K, replica string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.killed[replica] {
		h.runs[key] = append(h.runs[key], &Run{Replica: replica, From: time.Now()})
	}
}

// End ends the run that a replica has for a key, if any.
func (h *History[K]) End(key K, replica string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end(key, replica, err)
}

func (h *History[K]) end(key K, replica string, err error) {
	for _, run := range h.runs[key] {
		if run.Replica == replica && run.To.IsZero() {
			run.To, run.Err = time.Now(), err
		}
	}
}

// Kill ends all runs of a replica, as the end of its process does.
func (h *History[K]) Kill(replica string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.killed[replica] = true
	for key := range h.runs {
		h.end(key, replica, nil)
	}
}

// Of returns the runs for a key.
func (h *History[K]) Of(key K) []*Run {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs[key]
}

// Current returns the replica that runs each key, and requires that no two do.
func (h *History[K]) Current(t testing.TB) map[K]string {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	current := map[K]string{}
	for key, runs := range h.runs {
		for _, run := range runs {
			if run.To.IsZero() {
				assert.Empty(t, current[key], "two run %v", key)
				current[key] = run.Replica
			}
		}
	}
	return current
}

// RequireNoOverlap requires that no two runs of a key overlapped.
func (h *History[K]) RequireNoOverlap(t testing.TB) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, runs := range h.runs {
		for i, run := range runs {
			for _, later := range runs[i+1:] {
				if run.To.IsZero() || run.To.After(later.From) {
					require.Fail(t, "overlap", "%v: %+v and %+v", key, run, later)
				}
			}
		}
	}
}
