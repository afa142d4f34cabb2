// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	cachetesting "k8s.io/client-go/tools/cache/testing"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	// fleetAsking is how many data planes are asked at once: a thousand TLS handshakes time out.
	fleetAsking = 50
	// takeovers happen at the same time, each of a pair of replicas with Leases of their own.
	takeovers      = 8
	takeoverPlanes = 20
	// takeoverSettle is more than a second replica needs to join the first, and to lead its part.
	takeoverSettle = 8 * time.Second
	takeoverLimit  = time.Minute
	// These are client-go's usual ones. A Fleet takes the first, and derives the others.
	leaseDuration, renewDeadline, retryPeriod = 15 * time.Second, 10 * time.Second, 2 * time.Second
)

// work is done in each data plane until ctx ends.
type work func(ctx context.Context, name string, client kubernetes.Interface) error

// runPlanes calls work for all DataPlanes of an informer, and returns when ctx has ended and all
// calls have returned.
type runPlanes func(ctx context.Context, informer cache.SharedIndexInformer, work work) error

// newReplica returns that of one replica of two.
type newReplica func(leases kubernetes.Interface, name, identity string) runPlanes

func fleetRows() []row {
	of := func(run runPlanes) func(context.Context, *input) (measureFunc, error) {
		return func(_ context.Context, in *input) (measureFunc, error) {
			return func(ctx context.Context, _ func() (int, error)) (values, error) { return measureFleet(ctx, in, run) }, nil
		}
	}
	pairOf := func(newReplica newReplica) func(context.Context, *input) (measureFunc, error) {
		return func(_ context.Context, in *input) (measureFunc, error) {
			return func(ctx context.Context, _ func() (int, error)) (values, error) {
				return measureTakeovers(ctx, in, newReplica)
			}, nil
		}
	}
	return []row{
		{
			name: "fleet",
			title: fmt.Sprintf("a function for each of %d data planes, which asks who we are, %d at once, and goes on until it is stopped; "+
				"start is until all have an answer", remoteCount, fleetAsking),
			metrics: []metric{
				{Name: "start", Unit: seconds},
				{Name: "stop", Unit: seconds},
				{Name: "cpu", Unit: seconds},
				{Name: "heap", Unit: bytesUnit},
				{Name: "sockets", Unit: count},
				{Name: "goroutines", Unit: count},
			},
			onPlane: true,
			fresh:   true,
			rounds:  [2]int{2, 5},
			prepare: addUsers,
			subjects: []subject{
				{name: "sdk", how: "fleet.New", start: of(runFleet(nil))},
				{name: "by hand", how: "a goroutine for each, which follows no change and never retries", start: of(runByHand)},
			},
		},
		{
			name: "takeover",
			title: fmt.Sprintf("from the last request of one of two replicas, which releases nothing, until all its data planes have a "+
				"function in the other; LeaseDuration is %s", leaseDuration),
			metrics: []metric{{Name: "p50", Unit: seconds}, {Name: "worst", Unit: seconds}},
			onPlane: true,
			fresh:   true,
			scope:   fullRun,
			rounds:  [2]int{3, 3},
			subjects: []subject{
				{
					name: "sdk", how: "fleet.Sharding with 8 shards: each replica runs half of the data planes",
					start: pairOf(func(leases kubernetes.Interface, name, identity string) runPlanes {
						return runFleet(&fleet.Sharding{
							Leases: leases.CoordinationV1(), Namespace: metav1.NamespaceDefault, Name: name, Identity: identity,
							Shards: 8, LeaseDuration: leaseDuration,
						})
					}),
				},
				{name: "leaderelection", how: "client-go's leaderelection: one replica runs all", start: pairOf(runLeader)},
			},
		},
	}
}

func runFleet(sharding *fleet.Sharding) runPlanes {
	return func(ctx context.Context, informer cache.SharedIndexInformer, work work) error {
		return fleet.New(informer, func(ctx context.Context, c *remote.Cluster) error {
			client, err := newClusterClient(c)
			if err != nil {
				return err
			}
			return work(ctx, c.Key().Name, client)
		}, fleet.Options{Remote: remote.Options{ConfigFor: verifiedConfig}, Sharding: sharding}).Run(ctx)
	}
}

// runByHand runs what the informer has when it begins.
func runByHand(ctx context.Context, informer cache.SharedIndexInformer, work work) error {
	var running sync.WaitGroup
	defer running.Wait()
	for _, obj := range informer.GetStore().List() {
		dp, ok := obj.(*openchoreov1alpha1.DataPlane)
		if !ok {
			return fmt.Errorf("the informer has a %T", obj)
		}
		running.Go(func() {
			client, closeAll, err := newOwnClient(dp)
			if err != nil {
				return // the measurement misses it
			}
			defer closeAll()
			_ = work(ctx, dp.Name, client)
		})
	}
	return nil
}

// runLeader runs all data planes in the replica that leads.
func runLeader(leases kubernetes.Interface, name, identity string) runPlanes {
	return func(ctx context.Context, informer cache.SharedIndexInformer, work work) error {
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
				Client:     leases.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
			},
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) { _ = runByHand(ctx, informer, work) },
				OnStoppedLeading: func() {},
			},
		})
		return nil
	}
}

// objects are what an informer lists and watches.
type objects struct {
	*cachetesting.FakeControllerSource
}

// IsWatchListSemanticsUnSupported tells client-go to list.
func (objects) IsWatchListSemanticsUnSupported() bool { return true }

// informerOf returns an informer of DataPlanes, which ends with ctx.
func informerOf(ctx context.Context, all []*openchoreov1alpha1.DataPlane) (cache.SharedIndexInformer, error) {
	source := objects{cachetesting.NewFakeControllerSource()}
	for _, dp := range all {
		source.Add(dp)
	}
	informer := cache.NewSharedIndexInformer(source, &openchoreov1alpha1.DataPlane{}, 0, cache.Indexers{})
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, context.Cause(ctx)
	}
	return informer, nil
}

func measureFleet(ctx context.Context, in *input, run runPlanes) (values, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	informer, err := informerOf(ctx, in.DataPlanes)
	if err != nil {
		return nil, err
	}
	before, err := takeStock()
	if err != nil {
		return nil, err
	}
	asking := make(chan struct{}, fleetAsking)
	var answers atomic.Int64
	answered, ended := make(chan struct{}), make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	cpu, started := cpuTime(), time.Now()
	go func() {
		ended <- run(running, informer, func(ctx context.Context, name string, client kubernetes.Interface) error {
			asking <- struct{}{}
			err := whoAmI(ctx, client, name)
			<-asking
			if err != nil {
				cancel(err)
				return err
			}
			if answers.Add(1) == int64(len(in.DataPlanes)) {
				close(answered)
			}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	select {
	case <-answered:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("%d data planes have answered", answers.Load())
	}
	v := values{"start": time.Since(started).Seconds(), "cpu": cpuTime() - cpu}
	if err := v.addStock("", before); err != nil {
		return nil, err
	}
	started = time.Now()
	stop()
	err = <-ended
	v["stop"] = time.Since(started).Seconds()
	return v, err
}

func measureTakeovers(ctx context.Context, in *input, newReplica newReplica) (values, error) {
	all, err := newDataPlanes(takeoverPlanes)
	if err != nil {
		return nil, err
	}
	informer, err := informerOf(ctx, all)
	if err != nil {
		return nil, err
	}
	var took [takeovers]float64
	var errs [takeovers]error
	var running sync.WaitGroup
	for i := range takeovers {
		running.Go(func() {
			name := fmt.Sprintf("takeover-%d-%d", time.Now().UnixNano(), i)
			took[i], errs[i] = takeOver(ctx, in, informer, name, newReplica)
		})
	}
	running.Wait()
	return values{"p50": median(took[:]), "worst": percentile(took[:], 1)}, errors.Join(errs[:]...)
}

// replica is one whose requests to the API server fail once it is dead. To the other, that is as
// if its process had been killed.
type replica struct {
	dead atomic.Bool
	mu   sync.Mutex
	runs sets.Set[string] // the names of data planes
}

// planes returns what the replica runs.
func (r *replica) planes() sets.Set[string] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runs.Clone()
}

// takeOver returns how many seconds it takes.
func takeOver(ctx context.Context, in *input, informer cache.SharedIndexInformer, name string, newReplica newReplica) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, takeoverLimit)
	defer cancel()
	start := func(identity string) (*replica, error) {
		r := &replica{runs: sets.New[string]()}
		config := in.Server.config()
		config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if r.dead.Load() {
					return nil, errors.New("replica is dead")
				}
				return next.RoundTrip(req)
			})
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		go func() {
			_ = newReplica(client, name, identity)(ctx, informer, func(ctx context.Context, plane string, _ kubernetes.Interface) error {
				r.mu.Lock()
				r.runs.Insert(plane)
				r.mu.Unlock()
				<-ctx.Done()
				r.mu.Lock()
				r.runs.Delete(plane)
				r.mu.Unlock()
				return ctx.Err()
			})
		}()
		return r, nil
	}
	until := func(done func() bool) error {
		return wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(context.Context) (bool, error) { return done(), nil })
	}
	first, err := start("first")
	if err != nil {
		return 0, err
	}
	if err := until(func() bool { return first.planes().Len() == takeoverPlanes }); err != nil {
		return 0, fmt.Errorf("start of the first replica: %w", err)
	}
	second, err := start("second")
	if err != nil {
		return 0, err
	}
	time.Sleep(takeoverSettle + rand.N(retryPeriod)) // at any time between two renewals
	lost := first.planes()
	if n := lost.Len() + second.planes().Len(); lost.Len() == 0 || n != takeoverPlanes {
		return 0, fmt.Errorf("the first replica runs %d data planes, and both %d", lost.Len(), n)
	}
	first.dead.Store(true)
	killed := time.Now()
	if err := until(func() bool { return second.planes().IsSuperset(lost) }); err != nil {
		return 0, fmt.Errorf("takeover: %w", err)
	}
	return time.Since(killed).Seconds(), nil
}
