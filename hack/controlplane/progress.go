// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"io"
	"time"
)

// progress writes lines about a build.
type progress struct {
	w        io.Writer     // may be nil
	interval time.Duration // between lines of one phase
}

// linef writes a line. It ignores errors, because a build continues without its output.
func (p *progress) linef(format string, args ...any) {
	if p.w != nil {
		fmt.Fprintf(p.w, "control plane: "+format+"\n", args...)
	}
}

// phase writes the status in each interval until end is called. Phases don't nest, and end before
// the next line.
func (p *progress) phase(status func() string) (end func()) {
	began, stop, done := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(p.interval)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				p.linef("%s, %s", status(), time.Since(began).Round(time.Second))
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}
