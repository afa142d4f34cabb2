// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
)

const (
	latencyNamespace = "latency"
	latencyObjects   = 100
	latencyRate      = 100 // patches a second
	// sentAnnotation holds when a write was sent, in nanoseconds since the epoch.
	sentAnnotation = "bench.openchoreo.dev/sent"
	// lastWait is how long the last events of a measurement may take.
	lastWait = 30 * time.Second
)

func latencyRows() []row {
	of := func(start startCache) func(context.Context, *input) (measureFunc, error) {
		return measureLatency(func(ctx context.Context, config *rest.Config, seen *sightings) error {
			r, err := start(ctx, config, cacheOptions{namespace: latencyNamespace, updated: func(object metav1.Object) {
				seen.add(object.GetAnnotations()[sentAnnotation])
			}})
			if err != nil {
				return err
			}
			return r.waitForSync(ctx)
		})
	}
	return []row{{
		name:  fmt.Sprintf("latency-%d", latencyRate),
		title: fmt.Sprintf("from sending a patch to the handler of its event, when %d patches a second are due", latencyRate),
		metrics: []metric{
			{Name: "p50", Unit: seconds},
			{Name: "p99", Unit: seconds},
			{Name: "cpu per event", Unit: seconds},
			{Name: "received per event", Unit: bytesUnit},
			{Name: "rate reached", Unit: perSecond, Info: true},
		},
		onPlane: true,
		fresh:   true, // or else the others get all events, too
		rounds:  [2]int{2, 5},
		prepare: func(ctx context.Context, f *fixture, _ *input) error {
			return f.populate(ctx, latencyNamespace, latencyObjects)
		},
		drive:   patchAtRate,
		cleanup: func(ctx context.Context, f *fixture) error { return f.deleteAll(ctx, latencyNamespace) },
		subjects: []subject{
			{name: "sdk", how: "handler of an informer", start: of(startSDKCache)},
			{name: "controller-runtime", how: "handler of an informer of the cache", start: of(startControllerRuntimeCache)},
			{name: "dynamic", how: "handler of an informer of unstructured objects", start: of(startDynamicCache)},
			{name: "floor", how: "a bare HTTP watch, searched for the time only", aside: true, start: measureLatency(watchBare)},
		},
	}}
}

// sightings are the latencies of events. Whoever looks at one afterwards sees the others.
type sightings struct {
	mu        sync.Mutex
	latencies []float64
}

// add takes the time at which a write was sent.
func (s *sightings) add(sent string) {
	now := time.Now().UnixNano()
	nanoseconds, err := strconv.ParseInt(sent, 10, 64)
	if err != nil {
		return // not one of ours
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latencies = append(s.latencies, time.Duration(now-nanoseconds).Seconds())
}

func (s *sightings) take() []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.latencies
	s.latencies = nil
	return taken
}

func (s *sightings) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.latencies)
}

// measureLatency gives start a place for what it sees. start returns when it sees all that
// is written from then on.
func measureLatency(start func(ctx context.Context, config *rest.Config, seen *sightings) error) func(context.Context, *input) (measureFunc, error) {
	return func(ctx context.Context, in *input) (measureFunc, error) {
		var m meter
		config := in.Server.config()
		config.Dial = m.dial
		seen := &sightings{}
		if err := start(ctx, config, seen); err != nil {
			return nil, err
		}
		return func(ctx context.Context, drive func() (int, error)) (values, error) {
			seen.take()
			received, cpu, started := m.received.Load(), cpuTime(), time.Now()
			n, err := drive()
			if err != nil {
				return nil, err
			}
			took := time.Since(started).Seconds()
			ticker := time.NewTicker(time.Millisecond)
			defer ticker.Stop()
			for deadline := time.Now().Add(lastWait); seen.count() < n; {
				if time.Now().After(deadline) {
					return nil, fmt.Errorf("saw %d events of %d", seen.count(), n)
				}
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
			}
			v := values{
				"cpu per event": (cpuTime() - cpu) / float64(n), "received per event": float64(m.received.Load()-received) / float64(n),
				"rate reached": float64(n) / took,
			}
			latencies := seen.take()
			v["p50"], v["p99"] = percentile(latencies, 0.5), percentile(latencies, 0.99)
			return v, nil
		}, nil
	}
}

// watchBare looks for the annotation, whose value is all digits, in each line of a watch.
func watchBare(ctx context.Context, config *rest.Config, seen *sightings) error {
	client, err := bareClient(config)
	if err != nil {
		return err
	}
	url := config.Host + "/apis/openchoreo.dev/v1alpha1/namespaces/" + latencyNamespace + "/dataplanes"
	body, err := get(ctx, client, url+"?limit=1")
	if err != nil {
		return err
	}
	list, err := io.ReadAll(body)
	body.Close()
	if err != nil {
		return err
	}
	version, err := resourceVersion(list)
	if err != nil {
		return err
	}
	body, err = get(ctx, client, url+"?watch=true&resourceVersion="+version)
	if err != nil {
		return err
	}
	key := []byte(`"` + sentAnnotation + `":"`)
	go func() {
		defer body.Close()
		lines := bufio.NewReaderSize(body, 1<<20)
		for {
			line, err := lines.ReadSlice('\n')
			if err != nil {
				return // the measurement misses events and says so
			}
			if _, sent, ok := bytes.Cut(line, key); ok {
				sent, _, _ = bytes.Cut(sent, []byte(`"`))
				seen.add(string(sent))
			}
		}
	}()
	return nil
}

// populate makes n objects of realistic size in a namespace, which it creates if need be.
func (f *fixture) populate(ctx context.Context, namespace string, n int) error {
	if !f.namespaces[namespace] {
		if err := f.createNamespace(ctx, namespace); err != nil {
			return err
		}
		if f.namespaces == nil {
			f.namespaces = map[string]bool{}
		}
		f.namespaces[namespace] = true
	}
	for i := range n {
		if err := f.make(ctx, namespace, i); err != nil {
			return err
		}
	}
	return nil
}

// patchAtRate sends patches of one annotation when they are due, whether or not those before have
// been answered, as long as no more than a few are under way. It returns how many it has sent.
func patchAtRate(ctx context.Context, f *fixture, in *input) (int, error) {
	total := 4 * latencyRate
	if in.Quick {
		total = latencyRate
	}
	client := f.openchoreo.OpenChoreoV1alpha1().RESTClient()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	started := time.Now()
	workqueue.ParallelizeUntil(ctx, 2*writers, total, func(i int) {
		due := started.Add(time.Duration(i) * time.Second / latencyRate)
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return
		}
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"%d"}}}`, sentAnnotation, time.Now().UnixNano())
		if err := client.Patch(types.MergePatchType).Namespace(latencyNamespace).Resource(dataPlanes.Resource).
			Name(objectName(i % latencyObjects)).Body([]byte(patch)).Do(ctx).Error(); err != nil { // the answer stays unread
			cancel(err)
		}
	})
	return total, context.Cause(ctx)
}
