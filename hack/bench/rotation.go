// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// measureRotation connects to all data planes, and rotates their credentials under informers
// and requests.
func measureRotation(ctx context.Context, in *input, connect connectFunc) (values, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*rotateLimit)
	defer cancel()
	r := &rotation{}
	for i, dp := range in.DataPlanes {
		r.planes = append(r.planes, &rotatedPlane{rotation: r, first: dp, next: in.Rotated[i], seen: map[int]bool{}})
	}
	rotate := make([]func() error, len(r.planes))
	if err := r.each(ctx, func(i int) (err error) {
		rotate[i], err = connect(ctx, r.planes[i])
		return err
	}); err != nil {
		return nil, err
	}
	if err := r.until(ctx, func(p *rotatedPlane) bool { return p.isUpToDate(p.first) }); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}

	admin, err := kubernetes.NewForConfig(in.Server.config())
	if err != nil {
		return nil, err
	}
	traffic := r.startTraffic(ctx, admin)
	time.Sleep(2 * time.Second) // until no watch is new, which would have to last a little first

	cpu, received, started := cpuTime(), r.meter.received.Load(), time.Now()
	r.began.Store(true)
	first := make([]float64, len(r.planes))
	err = r.each(ctx, func(i int) error {
		began := time.Now()
		if err := rotate[i](); err != nil {
			return err
		}
		err := r.planes[i].ask(ctx)
		first[i] = time.Since(began).Seconds()
		return err
	})
	if err == nil {
		err = r.until(ctx, func(p *rotatedPlane) bool { return p.isUpToDate(p.next) })
	}
	v := values{"time": time.Since(started).Seconds(), "first request": median(first)}
	time.Sleep(time.Until(started.Add(rotateWindow)))
	v["cpu"], v["received"] = cpuTime()-cpu, float64(r.meter.received.Load()-received)
	written, trafficErr := traffic.stop()
	if err := errors.Join(err, trafficErr); err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	if err := r.until(ctx, func(p *rotatedPlane) bool { return p.hasSeen(written[len(written)-1]) }); err != nil {
		return nil, fmt.Errorf("last write: %w", err)
	}
	time.Sleep(time.Second) // for what is still under way
	v["lists"] = float64(r.lists.Load())
	v["requests"], v["failed requests"] = float64(traffic.requests.Load()), float64(traffic.failed.Load())
	v["events"] = float64(len(written) * len(r.planes))
	lost := 0
	for _, n := range written {
		for _, p := range r.planes {
			if !p.hasSeen(n) {
				lost++
			}
		}
	}
	v["events lost"] = float64(lost)
	return v, nil
}

// each calls f for several planes at once, until the first error.
func (r *rotation) each(ctx context.Context, f func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, rotateAtOnce, len(r.planes), func(i int) {
		if err := f(i); err != nil {
			cancel(err)
		}
	})
	return context.Cause(ctx)
}

// until waits until all planes are as done says.
func (r *rotation) until(ctx context.Context, done func(p *rotatedPlane) bool) error {
	ctx, cancel := context.WithTimeout(ctx, rotateLimit)
	defer cancel()
	for left := r.planes; ; {
		var still []*rotatedPlane
		for _, p := range left {
			if !done(p) {
				still = append(still, p)
			}
		}
		if left = still; len(left) == 0 {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d data planes are late: %w", len(left), context.Cause(ctx))
		}
	}
}

// isUpToDate says that the informer has synced and watches by the credentials of dp.
func (p *rotatedPlane) isUpToDate(dp *openchoreov1alpha1.DataPlane) bool {
	return p.watches.Load() == dp && (*p.synced.Load())()
}

// ask sends a request by the newest client.
func (p *rotatedPlane) ask(ctx context.Context) error {
	_, err := p.client.Load().CoreV1().ConfigMaps(rotateNamespace).Get(ctx, objectName(0), metav1.GetOptions{})
	return err
}

func (p *rotatedPlane) hasSeen(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[n]
}

// traffic is what goes on during a rotation: writes, and requests by the clients of some
// data planes.
type traffic struct {
	requests, failed atomic.Int64
	done             chan struct{}
	running          sync.WaitGroup

	// write writes a number to one of the ConfigMaps.
	write  func(n, object int) error
	writes []int // what was written
	err    error
}

func (r *rotation) startTraffic(ctx context.Context, admin kubernetes.Interface) *traffic {
	t := &traffic{done: make(chan struct{}), write: func(n, object int) error {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"%d"}}}`, sentAnnotation, n)
		_, err := admin.CoreV1().ConfigMaps(rotateNamespace).Patch(ctx, objectName(object), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}}
	t.running.Go(func() {
		t.repeat(rotateInterval, func() { t.writeTo(len(t.writes) % rotateWritten) })
	})
	for _, p := range r.planes[:min(rotateAsked, len(r.planes))] {
		t.running.Go(func() {
			t.repeat(rotatePause, func() {
				t.requests.Add(1)
				if p.ask(ctx) != nil {
					t.failed.Add(1)
				}
			})
		})
	}
	return t
}

func (t *traffic) repeat(pause time.Duration, f func()) {
	for {
		f()
		select {
		case <-t.done:
			return
		case <-time.After(pause):
		}
	}
}

func (t *traffic) writeTo(object int) {
	n := int(time.Now().UnixNano()) // unlike all that was written before
	if err := t.write(n, object); err != nil {
		t.err = err
		return
	}
	t.writes = append(t.writes, n)
}

// stop ends the traffic by a last write, to an object that has no other: no later write
// hides it.
func (t *traffic) stop() ([]int, error) {
	close(t.done)
	t.running.Wait()
	t.writeTo(rotateWritten)
	return t.writes, t.err
}
