// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane/blackhole"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

const (
	visitWorkers = 5
	visitPlanes  = 100
	visitDead    = 10
	visitEvery   = 10 * time.Second
	// visitDying is longer than the SDK needs to find that a data plane is dead.
	visitDying = 11 * time.Second
)

func silenceRows() []row {
	return []row{{
		Name: "dead-clusters",
		Title: fmt.Sprintf("a controller with %d workers visits each of %d data planes every %s, and %d of them don't answer; "+
			"waiting counts the workers that wait for these; late is how long after its due time a visit of another data plane ends",
			visitWorkers, visitPlanes, visitEvery, visitDead),
		Metrics: []metric{{Name: "waiting"}, {Name: "most waiting"}, {Name: "late p50", Unit: "s"}, {Name: "late p99", Unit: "s"}},
		slow:    true, rounds: 3,
		Subjects: []subject{
			{Name: "sdk", How: "remote.Cache", measure: visitAll(sdkSource, swallowPackets, visitDying)},
			{Name: "clientset each", How: "kubernetes.NewForConfig once for each data plane; it dials for 30 s", measure: visitAll(clientsetSource, swallowPackets, 0)},
			{Name: "sdk, hanging", How: "remote.Cache; the dead ones accept connections and then say nothing", measure: visitAll(sdkSource, acceptAndHang, visitDying)},
			{Name: "floor", How: "remote.Cache, and all data planes answer", measure: visitAll(sdkSource, nil, 0)},
		},
	}}
}

// listenFunc returns the address of a dead data plane, which exists until ctx ends.
type listenFunc func(ctx context.Context) (address string, err error)

func swallowPackets(ctx context.Context) (string, error) {
	hole, err := blackhole.New("127.0.0.1:1")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { _ = hole.Close() })
	return hole.Addr(), hole.Swallow()
}

// acceptAndHang lets the kernel accept connections, and answers nothing.
func acceptAndHang(ctx context.Context) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	return listener.Addr().String(), nil
}

// visits is a controller that visits all data planes again and again.
type visits struct {
	clients *source
	queue   chan *visited // has room for all
	waiting atomic.Int64  // how many workers visit a dead data plane

	mu   sync.Mutex
	all  []*visited
	late []float64 // how late visits of live data planes ended, in seconds
}

// visited is a data plane.
type visited struct {
	key  types.NamespacedName
	dead bool
	due  time.Time // of the visit that is the next, or has begun; guarded by visits.mu
}

// visitAll measures a controller whose dead data planes died before, as long ago as dying. A nil dead
// means that all data planes answer.
func visitAll(newSource newSource, dead listenFunc, dying time.Duration) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		settle, window := 10*time.Second, 30*time.Second
		if in.Quick {
			settle, window = 6*time.Second, 8*time.Second
		}
		server := dataplanetest.NewServer(nil)
		defer server.Close()
		var deadAddress string
		if dead != nil {
			var err error
			if deadAddress, err = dead(ctx); err != nil {
				return nil, err
			}
		}
		v := &visits{clients: newSource.start(), queue: make(chan *visited, visitPlanes)}
		for i := range visitPlanes {
			dp := newDataPlane(i, server.As(fmt.Sprintf("user-%d", i)))
			p := &visited{key: ctrlclient.ObjectKeyFromObject(dp), dead: dead != nil && i%(visitPlanes/visitDead) == 0}
			if p.dead {
				dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + deadAddress
			}
			if _, err := v.clients.add(dp); err != nil {
				return nil, err
			}
			v.all = append(v.all, p)
		}
		v.die(ctx, dying)
		for i, p := range v.all {
			v.addAfter(p, visitEvery*time.Duration(i)/visitPlanes)
		}
		for range visitWorkers {
			go v.work(ctx)
		}
		time.Sleep(settle)
		v.mu.Lock()
		v.late = nil
		v.mu.Unlock()
		mean, most := v.sample(window)
		late := v.lateness()
		if len(late) == 0 {
			return nil, errors.New("no visit was due")
		}
		slices.Sort(late)
		p99 := late[int(math.Ceil(0.99*float64(len(late))))-1]
		return values{"waiting": mean, "most waiting": most, "late p50": median(late), "late p99": p99}, nil
	}
}

// die visits the dead data planes once, all at the same time and for as long as dying, so that their
// clients learn that they are dead.
func (v *visits) die(ctx context.Context, dying time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, dying)
	defer cancel()
	var running sync.WaitGroup
	for _, p := range v.all {
		if p.dead {
			running.Go(func() { _ = v.visit(ctx, p) })
		}
	}
	running.Wait()
}

func (v *visits) visit(ctx context.Context, p *visited) error {
	client, err := v.clients.get(p.key)
	if err != nil {
		return err
	}
	return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

func (v *visits) addAfter(p *visited, after time.Duration) {
	v.mu.Lock()
	p.due = time.Now().Add(after)
	v.mu.Unlock()
	time.AfterFunc(after, func() { v.queue <- p })
}

func (v *visits) work(ctx context.Context) {
	for p := range v.queue {
		if p.dead {
			v.waiting.Add(1)
		}
		err := v.visit(ctx, p)
		if p.dead {
			v.waiting.Add(-1)
		} else if err == nil {
			v.mu.Lock()
			v.late = append(v.late, time.Since(p.due).Seconds())
			v.mu.Unlock()
		}
		v.addAfter(p, visitEvery)
	}
}

// sample returns how many workers wait for dead data planes, on average and at most.
func (v *visits) sample(window time.Duration) (mean, most float64) {
	var total, n float64
	for ticks, ends := time.Tick(2*time.Millisecond), time.Now().Add(window); time.Now().Before(ends); {
		<-ticks
		waiting := float64(v.waiting.Load())
		total, n, most = total+waiting, n+1, max(most, waiting)
	}
	return total / n, most
}

// lateness returns how late the visits of live data planes ended, and how late unfinished visits are.
func (v *visits) lateness() []float64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	late := slices.Clone(v.late)
	for _, p := range v.all {
		if overdue := time.Since(p.due).Seconds(); overdue > 0 && !p.dead {
			late = append(late, overdue)
		}
	}
	return late
}
