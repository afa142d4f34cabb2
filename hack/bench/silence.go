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
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane/blackhole"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
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
		name: "dead-clusters",
		title: fmt.Sprintf("a controller with %d workers visits each of %d data planes every %s, and %d of them don't answer; "+
			"waiting counts the workers that wait for these; late is how long after its due time a visit of another data plane ends",
			visitWorkers, visitPlanes, visitEvery, visitDead),
		metrics: []metric{{Name: "waiting"}, {Name: "most waiting"}, {Name: "late p50", Unit: "s"}, {Name: "late p99", Unit: "s"}},
		slow:    true, rounds: 3,
		subjects: []subject{
			{"sdk", "remote.Cache", visitAll(sdkSource, swallowPackets, visitDying)},
			{"clientset each", "kubernetes.NewForConfig once for each data plane; it dials for 30 s", visitAll(clientsetSource, swallowPackets, 0)},
			{"sdk, hanging", "remote.Cache; the dead ones accept connections and then say nothing", visitAll(sdkSource, acceptAndHang, visitDying)},
			{"floor", "remote.Cache, and all data planes answer", visitAll(sdkSource, nil, 0)},
		},
	}}
}

// listenFunc returns the address of a dead data plane.
type listenFunc func() (address string, stop func(), err error)

func swallowPackets() (string, func(), error) {
	hole, err := blackhole.New("127.0.0.1:1")
	if err != nil {
		return "", nil, err
	}
	return hole.Addr(), func() { _ = hole.Close() }, hole.Swallow()
}

// acceptAndHang lets the kernel accept connections, and answers nothing.
func acceptAndHang() (string, func(), error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return listener.Addr().String(), func() { _ = listener.Close() }, nil
}

// clientsetSource keeps a clientset for each data plane.
func clientsetSource(lister openchoreolisters.DataPlaneLister) (getClient, cache.ResourceEventHandler) {
	makeClient, handler := bareSource(lister)
	var clients sync.Map
	return func(key types.NamespacedName) (kubernetes.Interface, error) {
		if client, ok := clients.Load(key); ok {
			return client.(kubernetes.Interface), nil
		}
		client, err := makeClient(key)
		clients.Store(key, client)
		return client, err
	}, handler
}

// visits is a controller that visits all data planes again and again.
type visits struct {
	clients *source
	dead    map[types.NamespacedName]bool
	queue   workqueue.TypedDelayingInterface[types.NamespacedName]
	waiting atomic.Int64

	mu   sync.Mutex
	due  map[types.NamespacedName]time.Time
	late []float64 // how late visits of live data planes ended, in seconds
}

// visitAll measures a controller whose dead data planes died before, as long ago as dying. A nil dead
// means that all data planes answer.
func visitAll(newSource newSource, dead listenFunc, dying time.Duration) measureFunc {
	return func(ctx context.Context, in *input, _ func() error) (values, error) {
		settle, window := 10*time.Second, 30*time.Second
		if in.Quick {
			settle, window = 6*time.Second, 8*time.Second
		}
		server := dataplanetest.NewServer(nil)
		defer server.Close()
		var deadAddress string
		if dead != nil {
			address, stop, err := dead()
			if err != nil {
				return nil, err
			}
			defer stop()
			deadAddress = address
		}
		v := &visits{
			clients: newSource.start(), dead: map[types.NamespacedName]bool{}, due: map[types.NamespacedName]time.Time{},
			queue: workqueue.NewTypedDelayingQueue[types.NamespacedName](),
		}
		var keys []types.NamespacedName
		for i := range visitPlanes {
			dp := dataplanetest.DataPlane("default", fmt.Sprintf("dp-%04d", i), server.As(fmt.Sprintf("user-%d", i)))
			dp.ResourceVersion = "1"
			key := ctrlclient.ObjectKeyFromObject(dp)
			if dead != nil && i%(visitPlanes/visitDead) == 0 {
				dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + deadAddress
				v.dead[key] = true
			}
			if _, err := v.clients.add(dp); err != nil {
				return nil, err
			}
			keys = append(keys, key)
		}
		v.die(ctx, dying)
		ctx, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		for i, key := range keys {
			v.addAfter(key, visitEvery*time.Duration(i)/visitPlanes)
		}
		for range visitWorkers {
			running.Go(func() { v.work(ctx) })
		}
		time.Sleep(settle)
		v.mu.Lock()
		v.late = nil
		v.mu.Unlock()
		mean, most := v.sample(window)
		late := v.lateness()
		stop()
		v.queue.ShutDown()
		running.Wait()
		slices.Sort(late)
		if len(late) == 0 {
			return nil, errors.New("no visit was due")
		}
		p99 := late[int(math.Ceil(0.99*float64(len(late))))-1]
		return values{"waiting": mean, "most waiting": most, "late p50": median(late), "late p99": p99}, nil
	}
}

// die visits the dead data planes once, all at the same time and for as long as dying, so that their
// clients learn that they are dead.
func (v *visits) die(ctx context.Context, dying time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, dying)
	defer cancel()
	var all sync.WaitGroup
	for key := range v.dead {
		all.Go(func() { _ = v.visit(ctx, key) })
	}
	all.Wait()
}

func (v *visits) visit(ctx context.Context, key types.NamespacedName) error {
	client, err := v.clients.get(key)
	if err != nil {
		return err
	}
	return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

func (v *visits) addAfter(key types.NamespacedName, after time.Duration) {
	v.mu.Lock()
	v.due[key] = time.Now().Add(after)
	v.mu.Unlock()
	v.queue.AddAfter(key, after)
}

func (v *visits) work(ctx context.Context) {
	for {
		key, shutdown := v.queue.Get()
		if shutdown {
			return
		}
		if v.dead[key] {
			v.waiting.Add(1)
		}
		err := v.visit(ctx, key)
		if v.dead[key] {
			v.waiting.Add(-1)
		} else if err == nil {
			v.mu.Lock()
			v.late = append(v.late, time.Since(v.due[key]).Seconds())
			v.mu.Unlock()
		}
		v.queue.Done(key)
		v.addAfter(key, visitEvery)
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
	for key, due := range v.due {
		if overdue := time.Since(due).Seconds(); overdue > 0 && !v.dead[key] {
			late = append(late, overdue)
		}
	}
	return late
}
