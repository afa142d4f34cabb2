// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func someConfig(*v1alpha1.DataPlane) (*rest.Config, error) {
	return &rest.Config{Host: "https://127.0.0.1:1", BearerToken: "token"}, nil
}

func untilEnd(ctx context.Context, _ *remote.Cluster) error {
	<-ctx.Done()
	return ctx.Err()
}

// slowError holds the Fleet's lock while its text is asked for.
type slowError struct{ asked, told chan struct{} }

func (e *slowError) Error() string {
	e.asked <- struct{}{}
	<-e.told
	return "slow"
}

// A data plane that is deleted has a run when it is created again, also if it comes
// back while OnRemove is called.
func TestADataPlaneThatComesBackHasARun(t *testing.T) {
	s := newSource(t)
	runs := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{})}
	plane := func(name, uid string) *v1alpha1.DataPlane {
		dp := &v1alpha1.DataPlane{}
		dp.Name, dp.UID = name, types.UID(uid)
		return dp
	}
	f := fleet.New(func(_ context.Context, c *remote.Cluster) error {
		runs[c.Key().Name] <- struct{}{}
		return nil
	}, fleet.Options{
		Remote: remote.Options{ConfigFor: someConfig},
		Hooks: fleet.Hooks{OnRemove: func(types.NamespacedName) {
			s.Add(plane("a", "2"))
			s.Add(plane("b", "1"))
			testserver.Receive(t, runs["b"]) // so the Fleet knows that a is back
		}},
	}, s.informer)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	s.Add(plane("a", "1"))
	testserver.Receive(t, runs["a"])
	s.Delete(plane("a", "1"))
	testserver.Receive(t, runs["a"])
	stop()
	require.NoError(t, testserver.Receive(t, result))
}

// The text of an error may be made of the Fleet's Status: no lock is held when it is asked for.
func TestTheTextOfAnErrorIsNotAskedForWithTheLock(t *testing.T) {
	s := newSource(t)
	e := &slowError{make(chan struct{}), make(chan struct{})}
	f := fleet.New(func(context.Context, *remote.Cluster) error { return e },
		fleet.Options{Remote: remote.Options{ConfigFor: someConfig}}, s.informer)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	s.Add(&v1alpha1.DataPlane{})
	<-e.asked
	status := make(chan fleet.Status, 1)
	go func() { status <- f.Status() }()
	testserver.Receive(t, status) // it does not wait for the text of an error
	close(e.told)
	stop()
	require.NoError(t, <-result)
}

// A replica that ends in order lets the others have each shard as soon as its runs have ended.
// One run that takes long doesn't hold up the other shards.
func TestAReplicaThatEndsHandsOverEachShardAtOnce(t *testing.T) {
	bubble(t, 8, 40, func(t *testing.T, p *program) {
		var slow atomic.Bool
		a := p.startWith("a", func(ctx context.Context, _ *remote.Cluster) error {
			<-ctx.Done()
			if slow.CompareAndSwap(false, true) { // only one of them
				time.Sleep(10 * time.Minute)
			}
			return ctx.Err()
		}, func(o *fleet.Options) { o.StopGrace = time.Hour })
		b := p.start("b")
		time.Sleep(moment)
		p.requireShared(40, a, b)
		a.stop()
		time.Sleep(5 * time.Minute)
		assert.GreaterOrEqual(t, len(b.sharding().Leads), 7, "only one shard has a run that hasn't ended: %+v", b.sharding())
		require.NoError(t, <-a.result)
		time.Sleep(moment)
		p.requireShared(40, b)
		p.end(b)
	})
}

// When ctx ends, the contexts of the runs end, whatever the API server does.
func TestRunsEndAtOnceWithoutTheAPIServer(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(12, a)
		a.client.setFault(func(string) fault { return fault{after: time.Hour} })
		time.Sleep(retryPeriod / 2)
		a.stop()
		since := time.Now()
		for len(p.current()) > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		assert.Less(t, time.Since(since), time.Second, "until the contexts of the runs ended")
		require.NoError(t, <-a.result)
		assert.Less(t, time.Since(since), leaseDuration, "until Run returned, without any run to wait for")
	})
}

// A Lease is kept for LeaseDuration after it was seen, not after it was asked for, as in
// client-go, whose observedTime is that of the answer.
func TestAListThatTakesLongDoesNotShortenALease(t *testing.T) {
	for range 10 { // rounds begin at random times
		bubble(t, 4, 12, func(_ *testing.T, p *program) {
			a := p.startWith("a", func(_ context.Context, cluster *remote.Cluster) error {
				<-cluster.Done()
				return nil
			}, func(o *fleet.Options) { o.StopGrace = time.Hour })
			time.Sleep(moment)
			b := p.start("b")
			time.Sleep(moment)
			const slow = 4 * time.Second
			lists := 0
			b.client.setFault(func(verb string) fault {
				if verb != "list" {
					return fault{}
				}
				if lists++; lists == 3 { // a is cut off when this is carried out
					time.AfterFunc(slow-time.Millisecond, func() { a.client.setFault(cutOff) })
				}
				return fault{before: slow}
			})
			time.Sleep(3 * leaseDuration)
			p.stop(a)
			p.end(b)
			p.requireNoOverlap(0)
		})
	}
}

type valueKey struct{}

// The context of a run has the values of that of Run, such as a logger.
func TestRunsHaveTheValuesOfTheContextOfRun(t *testing.T) {
	s := newSource(t)
	values := make(chan any, 1)
	f := fleet.New(func(ctx context.Context, _ *remote.Cluster) error {
		values <- ctx.Value(valueKey{})
		return nil
	}, fleet.Options{Remote: remote.Options{ConfigFor: someConfig}}, s.informer)
	ctx, stop := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "logger"))
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	s.Add(&v1alpha1.DataPlane{})
	assert.Equal(t, "logger", testserver.Receive(t, values))
	stop()
	require.NoError(t, testserver.Receive(t, result))
}

// A hook that is called when something has ended finds that in Status.
func TestStatusInHooks(t *testing.T) {
	t.Run("OnEnd", func(t *testing.T) {
		var f *fleetTest
		statuses := make(chan fleet.PlaneStatus, 10)
		ready := make(chan struct{})
		f = newFleetTest(t, false, fleet.Options{
			Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
			Hooks: fleet.Hooks{OnEnd: func(types.NamespacedName, error, time.Duration, time.Duration) {
				<-ready
				statuses <- f.status("a")
			}},
		})
		close(ready)
		f.add("a")
		f.next().end <- errors.New("no route")
		assert.Equal(t, fleet.StateRetrying, testserver.Receive(t, statuses).State)
		require.NoError(t, f.ended())
	})
	t.Run("OnShardLost", func(t *testing.T) {
		bubble(t, 1, 1, func(t *testing.T, p *program) {
			var a *replica
			leads := make(chan []int, 1)
			a = p.start("a", func(o *fleet.Options) {
				o.Hooks.OnShardLost = func(int, error) { leads <- a.sharding().Leads }
			})
			time.Sleep(moment)
			p.end(a)
			assert.Empty(t, <-leads)
		})
	})
}

// The retry that OnEnd is told of is the one that follows.
func TestOnEndIsToldTheTruthAboutTheRetry(t *testing.T) {
	var calls atomic.Int64
	making, made := make(chan struct{}), make(chan struct{})
	retries := make(chan time.Duration, 10)
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			if calls.Add(1) == 1 {
				close(making)
				<-made
				return nil, errors.New("bad credentials")
			}
			return someConfig(dp)
		}},
		Hooks: fleet.Hooks{OnEnd: func(_ types.NamespacedName, _ error, _, retry time.Duration) { retries <- retry }},
	})
	dp := f.add("a")
	<-making
	f.rotate(dp, "other")
	f.add("b")
	f.next() // the Fleet has what came before
	close(made)
	retry := testserver.Receive(t, retries)
	f.next() // it begins at once
	assert.Zero(t, retry, "there was no wait")
	require.NoError(t, f.ended())
}

// OnRotate reports credentials that can't be used once, not for each update of the object.
func TestOnRotateReportsBadCredentialsOnce(t *testing.T) {
	var reports atomic.Int64
	f := newFleetTest(t, false, fleet.Options{Hooks: fleet.Hooks{
		OnRotate: func(types.NamespacedName, error) { reports.Add(1) },
	}})
	dp := f.add("a")
	f.next()
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.ClientCert = "bad"
	})
	require.Eventually(t, func() bool { return reports.Load() > 0 }, 10*time.Second, time.Millisecond)
	for i := range 5 { // such as a controller that writes its heartbeat into the status
		dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Annotations = map[string]string{"heartbeat": strconv.Itoa(i)} })
		time.Sleep(20 * time.Millisecond)
	}
	assert.EqualValues(t, 1, reports.Load())
	require.NoError(t, f.ended())
}

// client-go's limiter that never waits says that its QPS is 1.
func TestShardingTakesAClientThatNeverWaits(t *testing.T) {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: "https://127.0.0.1:1", RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter(),
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, fleet.New(untilEnd, fleet.Options{Sharding: &fleet.Sharding{
		Leases: client.CoordinationV1(), Namespace: "system", Name: "test", Identity: "a", Shards: 8,
	}}, newSource(t).informer).Run(ctx))
}

// "Sharding is nil without Options.Sharding": with it, a metrics endpoint need not check.
func TestStatusHasShardingBeforeRun(t *testing.T) {
	f := fleet.New(untilEnd, fleet.Options{Sharding: &fleet.Sharding{}}, newSource(t).informer)
	assert.NotNil(t, f.Status().Sharding)
}

// What is wrong with a request that a replica doesn't need now doesn't keep it from taking
// over shards: no Lease must be created for that.
func TestAReplicaTakesOverWhileNoLeaseCanBeCreated(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		a.client.setFault(func(verb string) fault {
			if verb == "create" {
				return fault{err: apierrors.NewInternalError(errors.New("failed calling webhook"))}
			}
			return fault{}
		})
		time.Sleep(leaseDuration)
		b.kill()
		time.Sleep(3 * leaseDuration)
		synctest.Wait()
		assert.Len(t, a.sharding().Leads, 4, "%+v", a.sharding())
		a.client.setFault(nil)
		time.Sleep(moment)
		p.end(a)
	})
}

// An error is in the text of the error once.
func TestTheErrorOfAStoppedInformerIsSaidOnce(t *testing.T) {
	stop := make(chan struct{})
	s := newSource(t)
	informer := cache.NewSharedIndexInformer(s, &v1alpha1.DataPlane{}, time.Hour, cache.Indexers{})
	close(stop)
	informer.Run(stop)
	err := fleet.New(untilEnd, fleet.Options{}, informer).Run(t.Context())
	require.Error(t, err)
	assert.Equal(t, 1, strings.Count(err.Error(), "stopped already"), err.Error())
}

// No run begins with a context that has ended.
func TestNoRunBeginsAfterItsContextHasEnded(t *testing.T) {
	making, made := make(chan struct{}), make(chan struct{})
	removed := make(chan struct{}, 1)
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			if dp.Name == "a" {
				close(making)
				<-made
			}
			return someConfig(dp)
		}},
		Hooks: fleet.Hooks{OnRemove: func(types.NamespacedName) { removed <- struct{}{} }},
	})
	dp := f.add("a")
	<-making
	f.source.Delete(dp.DeepCopy())
	f.add("b")
	f.next() // the Fleet has what came before
	close(made)
	testserver.Receive(t, removed)
	assert.Empty(t, f.runs)
	require.NoError(t, f.ended())
}

// Users test with client-go's fake clientset, which has no resource versions. Replicas share
// there too: what tells that a Lease was renewed is what is in it, as in leader election.
func TestShardingOnAFakeClientset(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		leases := fake.NewClientset().CoordinationV1()
		on := func(o *fleet.Options) { o.Sharding.Leases = leases }
		a := p.start("a", on)
		time.Sleep(moment)
		b := p.start("b", on)
		time.Sleep(4 * leaseDuration)
		assert.Len(t, a.sharding().Leads, 2)
		assert.Len(t, b.sharding().Leads, 2)
		p.stop(a, b)
		p.requireNoOverlap(0)
	})
}

// Each OnStart has its OnEnd, whenever a Fleet ends.
func TestHooksComeInPairs(t *testing.T) {
	source := newSource(t)
	for i := range 300 {
		dp := &v1alpha1.DataPlane{}
		dp.Namespace, dp.Name = "default", strconv.Itoa(i)
		source.Add(dp)
	}
	require.Eventually(t, func() bool { return len(source.informer.GetStore().ListKeys()) == 300 }, time.Minute, time.Millisecond)
	for i := range 30 {
		var starts, ends atomic.Int32
		f := fleet.New(untilEnd, fleet.Options{
			Remote: remote.Options{ConfigFor: someConfig},
			Hooks: fleet.Hooks{
				OnStart: func(types.NamespacedName) { starts.Add(1) },
				OnEnd:   func(types.NamespacedName, error, time.Duration, time.Duration) { ends.Add(1) },
			},
		}, source.informer)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond/2)
		require.NoError(t, f.Run(ctx))
		cancel()
		require.Equal(t, starts.Load(), ends.Load())
	}
}

func TestConfigForThatPanics(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		var calls atomic.Int32
		var ended, rotated []error
		var client atomic.Pointer[http.Client]
		f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
			client.Store(c.HTTPClient())
			return untilEnd(ctx, c)
		}, fleet.Options{
			Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				if calls.Add(1)%2 == 1 { // of the first attempt, and of the Update at a resync
					panic("no configuration")
				}
				return &rest.Config{Host: "https://127.0.0.1:1"}, nil
			}},
			Hooks: fleet.Hooks{
				OnEnd:    func(_ types.NamespacedName, err error, _, _ time.Duration) { ended = append(ended, err) },
				OnRotate: func(_ types.NamespacedName, err error) { rotated = append(rotated, err) },
			},
		}, p.source.informer)
		ctx, stop := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- f.Run(ctx) }()
		time.Sleep(50 * time.Hour) // the informer resyncs after one day or two
		_, err := client.Load().Get("https://127.0.0.1:1")
		require.ErrorAs(t, err, new(*fleet.PanicError))
		stop()
		require.NoError(t, <-result)
		require.Len(t, ended, 2)
		require.ErrorAs(t, ended[0], new(*fleet.PanicError))
		require.ErrorIs(t, ended[1], fleet.ErrStopped)
		require.Len(t, rotated, 1)
		require.ErrorAs(t, rotated[0], new(*fleet.PanicError))
	})
}

// A run whose ConfigFor hangs is given up, as one that does not return.
func TestConfigForThatHangs(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		goOn := make(chan struct{})
		f := fleet.New(func(context.Context, *remote.Cluster) error {
			assert.Fail(t, "it was given up")
			return nil
		}, fleet.Options{
			Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				<-goOn
				return &rest.Config{Host: "https://127.0.0.1:1"}, nil
			}},
		}, p.source.informer)
		ctx, stop := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- f.Run(ctx) }()
		time.Sleep(time.Minute)
		stop()
		require.ErrorIs(t, <-result, fleet.ErrOverdue)
		assert.Equal(t, 1, f.Status().Planes[0].Overdue)
		close(goOn)
		synctest.Wait()
		assert.Zero(t, f.Status().Planes[0].Overdue)
	})
}

// What ConfigFor takes from elsewhere is read again at each resync of the informer, also at one
// that comes while ConfigFor is called.
func TestAResyncRotates(t *testing.T) {
	for _, takes := range []time.Duration{0, 49 * time.Hour} {
		t.Run(takes.String(), func(t *testing.T) {
			bubble(t, 1, 1, func(t *testing.T, p *program) {
				var token atomic.Value
				token.Store("old")
				var calls, rotations atomic.Int32
				f := fleet.New(untilEnd, fleet.Options{
					Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
						config := &rest.Config{Host: "https://127.0.0.1:1", BearerToken: token.Load().(string)}
						if calls.Add(1) == 1 {
							time.Sleep(takes)
						}
						return config, nil
					}},
					Hooks: fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) {
						assert.NoError(t, err)
						rotations.Add(1)
					}},
				}, p.source.informer)
				ctx, stop := context.WithCancel(t.Context())
				result := make(chan error)
				go func() { result <- f.Run(ctx) }()
				time.Sleep(time.Hour)
				token.Store("new")
				time.Sleep(49 * time.Hour) // the informer resyncs after one day or two
				stop()
				require.NoError(t, <-result)
				assert.EqualValues(t, 1, rotations.Load())
			})
		})
	}
}

// A replica goes on where it was when it was suspended. It notices that others have its shards,
// also if they have another number of them, whose Leases have other names.
func TestAReplicaThatWasSuspended(t *testing.T) {
	for _, shards := range []int{4, 8} {
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			a := p.startWith("a", func(_ context.Context, cluster *remote.Cluster) error {
				<-cluster.Done()
				return nil
			}, func(o *fleet.Options) { o.StopGrace = time.Hour })
			time.Sleep(moment)
			p.requireShared(12, a)
			resume := a.client.suspend()
			b := p.start("b", func(o *fleet.Options) { o.Sharding.Shards = shards })
			time.Sleep(2 * leaseDuration)
			require.Len(t, b.sharding().Leads, shards)
			resume()
			time.Sleep(moment)
			p.current() // no two
			time.Sleep(2 * leaseDuration)
			assert.Len(t, p.current(), 12, "a: %+v, b: %+v", a.sharding(), b.sharding())
			a.client.setFault(cutOff) // a's runs end
			p.stop(a, b)
		})
	}
}

// A replica that lets go of its member Lease leads no shard after that: replicas with another
// number of shards may.
func TestAReplicaThatLeavesTakesNoShard(t *testing.T) {
	for range 10 { // rounds begin at random times
		bubble(t, 1, 3, func(t *testing.T, p *program) {
			hold := func(holder string) {
				lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
					HolderIdentity: &holder, LeaseDurationSeconds: to(int32(5)), RenewTime: to(metav1.NowMicro()),
				}}
				lease.Name = "test-1-0"
				p.leases.mu.Lock()
				defer p.leases.mu.Unlock()
				p.leases.write(lease, nil)
			}
			hold("somebody")
			a := p.start("a")
			for range 3 {
				time.Sleep(retryPeriod)
				hold("somebody")
			}
			assert.Len(t, a.sharding().Waiting, 1)
			a.client.setFault(func(verb string) fault {
				switch verb {
				case "list":
					return fault{after: time.Hour}
				case "delete": // of its member Lease
					return fault{after: retryPeriod}
				case "update": // by which it would lead the shard
					return fault{before: 4500 * time.Millisecond}
				}
				return fault{}
			})
			for synctest.Wait(); len(p.leases.leases) == 2; synctest.Wait() {
				hold("somebody") // which a doesn't see, so that it takes part in the election
				time.Sleep(time.Second)
			}
			b := p.start("b", func(o *fleet.Options) { o.Sharding.Shards = 2 })
			b.client.setFault(func(string) fault { return fault{before: time.Millisecond} })
			hold("")
			time.Sleep(2 * leaseDuration)
			assert.Len(t, b.sharding().Leads, 2)
			p.requireNoOverlap(0)
			p.stop(a, b)
		})
	}
}

// A replica whose lists get no answer gives up its shards as soon as one whose lists fail.
func TestAReplicaWhoseListsHangLeavesInTime(t *testing.T) {
	for range 10 { // rounds begin at random times
		bubble(t, 4, 12, func(t *testing.T, p *program) {
			a := p.start("a")
			time.Sleep(moment)
			p.requireShared(12, a)
			a.client.setFault(func(verb string) fault {
				if verb == "list" {
					return fault{after: time.Hour}
				}
				return fault{}
			})
			time.Sleep(leaseDuration)
			assert.Empty(t, a.sharding().Leads)
			assert.Empty(t, p.current())
			p.end(a)
		})
	}
}

// Replicas share the shards even if each answer takes 4 s: renewals are still in time.
func TestShardingWithASlowAPIServer(t *testing.T) {
	bubble(t, 4, 12, func(_ *testing.T, p *program) {
		slow := func(o *fleet.Options) {
			o.Sharding.Leases.(*leaseClient).setFault(func(string) fault { return fault{after: 4 * time.Second} })
		}
		a, b := p.start("a", slow), p.start("b", slow)
		time.Sleep(4 * leaseDuration)
		p.requireShared(12, a, b)
		p.end(a, b)
	})
}

// A replica that has ended leaves no Lease that would have others wait until it expires.
func TestAReplicaThatEndsDeletesItsMemberLease(t *testing.T) {
	bubble(t, 4, 12, func(_ *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		a.client.setFault(func(verb string) fault {
			if verb == "delete" {
				return fault{before: 4 * time.Second}
			}
			return fault{}
		})
		p.end(a)
	})
}

// When a Lease is lost, runs have a moment to return before they are cut off.
func TestRunsMayReturnWhenALeaseIsLost(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.startWith("a", func(ctx context.Context, cluster *remote.Cluster) error {
			<-ctx.Done()
			select {
			case <-time.After(2 * time.Second):
			case <-cluster.Done():
			}
			return ctx.Err()
		})
		time.Sleep(moment)
		a.client.setFault(cutOff)
		time.Sleep(leaseDuration)
		synctest.Wait()
		for _, runs := range p.runs {
			require.ErrorIs(t, runs[0].err, fleet.ErrShardLost)
			require.NotErrorIs(t, runs[0].err, fleet.ErrOverdue)
		}
		a.client.setFault(nil)
		time.Sleep(moment)
		p.end(a)
	})
}

// A list that was sent before a shard was won shows its former leader, and ends no runs.
func TestAnOldListEndsNoRuns(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a, b := p.start("a"), p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		b.client.setFault(func(verb string) fault {
			switch verb {
			case "list":
				return fault{after: 4500 * time.Millisecond}
			case "update":
				return fault{before: 2400 * time.Millisecond}
			}
			return fault{}
		})
		a.kill()
		time.Sleep(3 * leaseDuration)
		p.requireShared(12, b)
		for key, runs := range p.runs {
			runs = slices.DeleteFunc(slices.Clone(runs), func(r *period) bool { return r.replica == a })
			assert.Len(t, runs, 1, key)
		}
		b.client.setFault(nil)
		time.Sleep(moment)
		p.end(b)
	})
}
