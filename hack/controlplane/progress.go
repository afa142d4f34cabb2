// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress tells a person how a build goes: lines that stay, and a status. A terminal redraws the
// status in place; elsewhere it becomes a line once nothing was written for an interval.
type progress struct {
	w        io.Writer
	terminal bool
	interval time.Duration // between lines

	mu     sync.Mutex
	drawn  bool      // the terminal's last line is a status
	shown  time.Time // when the last line was written
	status func(elapsed time.Duration) string
	began  time.Time
	stop   chan struct{}
	done   chan struct{}
}

const (
	redrawInterval = 250 * time.Millisecond
	lineInterval   = 30 * time.Second
)

func newProgress(w io.Writer) *progress {
	if w == nil {
		w = io.Discard
	}
	p := &progress{w: w, interval: lineInterval}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.terminal = true
	}
	return p
}

// linef writes a line that stays.
func (p *progress) linef(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.write(fmt.Sprintf(format+"\n", args...))
	p.shown = time.Now()
}

// phase shows status from now on, again and again, until the function it returns is called.
// Nothing is drawn after that. Phases don't nest.
func (p *progress) phase(status func(elapsed time.Duration) string) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.began = status, time.Now()
	p.stop, p.done = make(chan struct{}), make(chan struct{})
	go p.redraw(p.stop, p.done)
	return func() {
		close(p.stop)
		<-p.done
		p.mu.Lock()
		defer p.mu.Unlock()
		p.clear()
	}
}

func (p *progress) redraw(stop, done chan struct{}) {
	defer close(done)
	ticker := time.NewTicker(min(redrawInterval, p.interval))
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			p.show()
		}
	}
}

// show draws the status, or writes it as a line if it's time for one.
func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.status(time.Since(p.began).Round(time.Second))
	switch {
	case p.terminal:
		p.clear()
		p.write(text)
		p.drawn = true
	case time.Since(p.shown) >= p.interval:
		p.write(text + "\n")
		p.shown = time.Now()
	}
}

// clear removes a status that a terminal shows. The caller holds the lock.
func (p *progress) clear() {
	if p.drawn {
		p.write("\r\x1b[K")
		p.drawn = false
	}
}

// write ignores errors: a build goes on if nobody can be told about it.
func (p *progress) write(text string) {
	_, _ = io.WriteString(p.w, text)
}
