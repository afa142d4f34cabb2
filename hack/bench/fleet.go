// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

const (
	// fleetAsking limits simultaneous requests, because a thousand TLS handshakes at once time out.
	fleetAsking = 50
	// takeovers is how many pairs of replicas, each with other Leases, are measured at the same time.
	takeovers      = 8
	takeoverPlanes = 20
	// takeoverSettle is longer than a second replica needs to join the first and lead its share.
	takeoverSettle = 8 * time.Second
	// client-go's defaults. A Fleet derives the last two from the first.
	leaseDuration, renewDeadline, retryPeriod = 15 * time.Second, 10 * time.Second, 2 * time.Second
)

// work runs for each data plane until ctx ends.
type work func(ctx context.Context, name string, client kubernetes.Interface) error

// runPlanes calls work for each DataPlane of a synced informer. It returns when ctx has ended and
// all calls have returned.
type runPlanes func(ctx context.Context, informer cache.SharedIndexInformer, work work) error

// newReplica returns the runPlanes of one replica of two.
type newReplica func(leases kubernetes.Interface, name, identity string) runPlanes

func fleetRows() []row {
	return []row{
		{
			Name: "fleet",
			Title: fmt.Sprintf("a function for each of %d data planes sends one request, %d at once, and runs until it is stopped; "+
				"start lasts until all have an answer", users, fleetAsking),
			Metrics: append([]metric{{Name: "start", Unit: "s"}, {Name: "stop", Unit: "s"}, {Name: "cpu", Unit: "s"}}, stockMetrics("")...),
			plane:   true, rounds: 5,
			prepare: prepareUsers,
			Subjects: []subject{
				{Name: "sdk", How: "fleet.New", measure: measureFleet(runFleet(nil))},
				{Name: "by hand", How: "a goroutine for each, which follows no change and never retries", measure: measureFleet(runByHand)},
			},
		},
		{
			Name:    "takeover",
			Title:   fmt.Sprintf("one of two replicas is killed: from then until the other runs all data planes; LeaseDuration is %s", leaseDuration),
			Metrics: []metric{{Name: "p50", Unit: "s"}, {Name: "worst", Unit: "s"}},
			plane:   true, slow: true, rounds: 3,
			Subjects: []subject{
				{Name: "sdk", How: "fleet.Sharding with 8 shards: each replica runs half of the data planes", measure: measureTakeovers(runShards)},
				{Name: "leaderelection", How: "client-go's leaderelection: one replica runs all", measure: measureTakeovers(runLeader)},
			},
		},
	}
}

func runFleet(sharding *fleet.Sharding) runPlanes {
	return func(ctx context.Context, informer cache.SharedIndexInformer, work work) error {
		return fleet.New(func(ctx context.Context, c *remote.Cluster) error {
			client, err := newClusterClient(c)
			if err != nil {
				return err
			}
			return work(ctx, c.Key().Name, client)
		}, fleet.Options{Remote: remote.Options{ConfigFor: verifiedConfig}, Sharding: sharding}, informer).Run(ctx)
	}
}

func runShards(leases kubernetes.Interface, name, identity string) runPlanes {
	return runFleet(&fleet.Sharding{
		Leases: leases.CoordinationV1(), Namespace: metav1.NamespaceDefault, Name: name, Identity: identity,
		Shards: 8, LeaseDuration: leaseDuration,
	})
}

// runByHand runs work for the objects that the informer holds at the start.
func runByHand(ctx context.Context, informer cache.SharedIndexInformer, work work) error {
	var running sync.WaitGroup
	defer running.Wait()
	for _, obj := range informer.GetStore().List() {
		dp := obj.(*openchoreov1alpha1.DataPlane)
		running.Go(func() {
			client, closeAll, err := newOwnClient(dp)
			if err != nil {
				return // the measurement waits for it in vain
			}
			defer closeAll()
			_ = work(ctx, dp.Name, client)
		})
	}
	return nil
}

// runLeader runs work for all data planes in the replica that leads.
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

// startInformer returns a synced informer on a fake clientset. It ends with ctx.
func startInformer(ctx context.Context, all []*openchoreov1alpha1.DataPlane) (cache.SharedIndexInformer, error) {
	objects := make([]runtime.Object, 0, len(all))
	for _, dp := range all {
		objects = append(objects, dp)
	}
	factory := openchoreoinformers.NewSharedInformerFactory(dataplanetest.NewClientset(objects...), 0)
	informer := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, context.Cause(ctx)
	}
	return informer, nil
}

func measureFleet(run runPlanes) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		informer, err := startInformer(ctx, in.DataPlanes)
		if err != nil {
			return nil, err
		}
		before := takeStock()
		asking, answers := make(chan struct{}, fleetAsking), make(chan error, len(in.DataPlanes))
		ended := make(chan error, 1)
		running, stop := context.WithCancel(ctx)
		defer stop()
		cpu, started := cpuTime(), time.Now()
		go func() {
			ended <- run(running, informer, func(ctx context.Context, name string, client kubernetes.Interface) error {
				asking <- struct{}{}
				answers <- whoAmI(ctx, client, name)
				<-asking
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		for range in.DataPlanes {
			select {
			case err = <-answers:
			case <-ctx.Done():
				err = ctx.Err()
			}
			if err != nil {
				return nil, err
			}
		}
		v := values{"start": time.Since(started).Seconds(), "cpu": cpuTime() - cpu}
		v.addStock("", before)
		started = time.Now()
		stop()
		err = <-ended
		v["stop"] = time.Since(started).Seconds()
		return v, err
	}
}

func measureTakeovers(newReplica newReplica) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		var all []*openchoreov1alpha1.DataPlane
		for i := range takeoverPlanes {
			all = append(all, newDataPlane(i))
		}
		informer, err := startInformer(ctx, all)
		if err != nil {
			return nil, err
		}
		took := make([]float64, takeovers)
		err = parallel(ctx, takeovers, takeovers, func(ctx context.Context, i int) (err error) {
			took[i], err = takeOver(ctx, in, informer, fmt.Sprintf("takeover-%d-%d", time.Now().UnixNano(), i), newReplica)
			return err
		})
		return values{"p50": median(took), "worst": slices.Max(took)}, err
	}
}

// replica is killed by setting dead, which fails all its requests.
type replica struct {
	dead atomic.Bool
	runs atomic.Int64 // how many data planes have work now
}

func (r *replica) work(ctx context.Context, _ string, _ kubernetes.Interface) error {
	r.runs.Add(1)
	defer r.runs.Add(-1)
	<-ctx.Done()
	return ctx.Err()
}

// takeOver kills one of two replicas, and returns the seconds until the other has all data planes.
func takeOver(ctx context.Context, in *input, informer cache.SharedIndexInformer, name string, newReplica newReplica) (float64, error) {
	start := func(identity string) *replica {
		r := &replica{}
		config := in.Server.config()
		config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if r.dead.Load() {
					return nil, errors.New("replica is dead")
				}
				return next.RoundTrip(req)
			})
		}
		go func() { _ = newReplica(kubernetes.NewForConfigOrDie(config), name, identity)(ctx, informer, r.work) }()
		return r
	}
	first := start("first")
	if err := until(ctx, 10*time.Millisecond, func() bool { return first.runs.Load() == takeoverPlanes }); err != nil {
		return 0, fmt.Errorf("start of the first replica: %w", err)
	}
	second := start("second")
	time.Sleep(takeoverSettle + rand.N(retryPeriod)) // at any time between two renewals
	if lost, kept := first.runs.Load(), second.runs.Load(); lost == 0 || lost+kept != takeoverPlanes {
		return 0, fmt.Errorf("of %d data planes, the first replica runs %d, and the second %d", takeoverPlanes, lost, kept)
	}
	first.dead.Store(true)
	killed := time.Now()
	if err := until(ctx, 10*time.Millisecond, func() bool { return second.runs.Load() == takeoverPlanes }); err != nil {
		return 0, fmt.Errorf("takeover: %w", err)
	}
	return time.Since(killed).Seconds(), nil
}
