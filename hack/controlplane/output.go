// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"strings"
	"sync"
)

// tailBytes is how much of a process's output is kept.
const tailBytes = 32 << 10

// tail keeps the last part of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, b...)
	// Moving the kept part is put off until there are two of them, so that it stays rare.
	if len(t.data) > 2*tailBytes {
		t.data = append(t.data[:0], t.data[len(t.data)-tailBytes:]...)
	}
	return len(b), nil
}

func (t *tail) contains(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Contains(t.data, []byte(text))
}

// lines returns the last n lines.
func (t *tail) lines(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.data[max(0, len(t.data)-tailBytes):]))
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-n):]
}
