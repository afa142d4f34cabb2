// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// conclude closes the Cluster of a run that has returned or was abandoned, decides when the next
// is due, and tells the hooks.
func (p *plane) conclude(r *run, ended result) {
	f := p.fleet
	f.mu.Lock()
	cluster, dp, canceled := r.cluster, p.dp, r.ctx.Err() != nil
	f.mu.Unlock()
	if cluster != nil {
		cluster.Abort()
	}
	var changed change // since the run saw the DataPlane
	if !canceled {
		changed = p.callWitness(r, cluster != nil, dp)
	}
	f.mu.Lock()
	err, ran, retry := p.judge(r, ended, changed)
	p.run = nil
	f.mu.Unlock()
	p.tellRotations(r)
	if f.options.Hooks.OnEnd != nil && r.seen != nil {
		f.options.Hooks.OnEnd(p.key, err, ran, retry)
	}
}

// judge says what the end of a run means, as OnEnd is told. It needs the lock.
func (p *plane) judge(r *run, ended result, changed change) (_ error, ran, retry time.Duration) {
	canceled, cause := r.ctx.Err() != nil, context.Cause(r.ctx)
	r.cancel(nil)
	connected := !r.connectedAt.IsZero()
	if connected {
		ran = time.Since(r.connectedAt)
	}
	switch {
	case r.abandoned:
		p.fail(ended.text)
		return ended.err, ran, 0
	case canceled && ended.panicked:
		p.fail(ended.text)
		return errors.Join(cause, ended.err), ran, 0
	case canceled:
		return cause, ran, 0
	case ended.err == nil:
		p.done, p.pause = !changed.server, 0
		return nil, ran, 0
	}
	p.fail(ended.text)
	backoff := p.fleet.options.Backoff
	if connected && time.Since(r.startedAt) >= backoff.ResetAfter {
		p.pause = 0
	}
	p.pause = min(max(2*p.pause, backoff.Initial), backoff.Limit)
	if changed.credentials || changed.server {
		p.endPause()
	} else {
		retry = p.pause/2 + rand.N(p.pause/2+1) //nolint:gosec // spreads runs that failed together
		p.retryAt = time.Now().Add(retry)
	}
	return ended.err, ran, retry
}

// endPause has the next run begin at once: there is no need to wait after an earlier failure.
func (p *plane) endPause() { p.pause, p.retryAt = 0, time.Time{} }

// reconsider takes in a change while there is no run: new credentials end the wait after a
// failure, and another API server needs another run even if the last one returned nil.
func (p *plane) reconsider() {
	f := p.fleet
	f.mu.Lock()
	dp := p.dp
	f.mu.Unlock()
	if p.witness == nil || dp == nil || p.term.ctx.Err() != nil {
		return
	}
	changed := p.witness.see(dp)
	f.mu.Lock()
	defer f.mu.Unlock()
	if changed.server {
		p.done = false
	}
	if changed.server || changed.credentials {
		p.endPause()
	}
}

// change says what differs between two connections.
type change struct{ credentials, server bool }

// witness says whether a change of a DataPlane is one of its connection, while there is no run
// whose Cluster says so. It is a Cluster that sends nothing, because only ConfigFor knows which
// fields count, and only a Cluster which of its results are the same.
type witness struct {
	options remote.Options
	cluster *remote.Cluster // nil while none can be made
	server  string          // names the one of the run, or is empty if that had none
	rotated bool
}

func newWitness(options remote.Options) *witness {
	w := &witness{options: options}
	w.options.OnRotate = func(types.NamespacedName) { w.rotated = true }
	return w
}

// callWitness makes the witness of a run that has ended by itself, which has seen what the run
// has. It returns what dp changes.
func (p *plane) callWitness(r *run, connected bool, dp *v1alpha1.DataPlane) (changed change) {
	p.witness = newWitness(p.fleet.options.Remote)
	if connected {
		p.witness.server = r.cluster.String()
		p.witness.see(r.used)
		if r.seen != r.used {
			p.witness.see(r.seen)
		}
	}
	if dp != r.seen {
		changed = p.witness.see(dp)
	}
	return changed
}

func (p *plane) dismissWitness() {
	if p.witness != nil {
		p.witness.close()
		p.witness = nil
	}
}

// see returns whether a run for dp would have other credentials than for what was seen last, or
// another API server than for what was seen first. Credentials that can't be used are no change;
// any that can are one after those. A panic of the user's WrapTransport is an error, too.
func (w *witness) see(dp *v1alpha1.DataPlane) change {
	w.rotated = false
	made := w.cluster != nil
	err := recovered(func() (err error) {
		if made {
			return w.cluster.Update(dp)
		}
		w.cluster, err = remote.NewCluster(dp, w.options)
		return err
	})
	if !made {
		moved := err == nil && w.server != "" && w.cluster.String() != w.server
		return change{credentials: err == nil, server: moved}
	}
	return change{w.rotated, errors.Is(err, remote.ErrServerChanged)}
}

func (w *witness) close() {
	if w.cluster != nil {
		w.cluster.Abort()
	}
}
