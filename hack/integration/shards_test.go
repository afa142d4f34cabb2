// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// leads keeps account of who leads which shard, and fails when two do.
type leads struct {
	t  *testing.T
	mu sync.Mutex
	by map[int]string
}

func (l *leads) begin(shard fleet.Shard, replica string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, led := l.by[shard.Index]; led {
		assert.Fail(l.t, "two lead at once", "%s: %s and %s", shard, other, replica)
	}
	l.by[shard.Index] = replica
}

func (l *leads) end(shard fleet.Shard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.by, shard.Index)
}

func (l *leads) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for _, replica := range l.by {
		counts[replica]++
	}
	return counts
}

// requireCounts waits until replicas lead so many shards each.
func (l *leads) requireCounts(counts map[string]int) {
	l.t.Helper()
	require.EventuallyWithT(l.t, func(c *assert.CollectT) { assert.Equal(c, counts, l.counts()) }, eventually, tick)
}

// replica is one of a program, in this process.
type replica struct {
	name   string
	cutOff atomic.Bool // from the API server
	stop   context.CancelFunc
	result chan error
}

const leaseDuration = 3 * time.Second

// startReplica runs one that does nothing in its shards, and takes a while to return.
func startReplica(t *testing.T, s *space, name string, count int, leads *leads, returns time.Duration) *replica {
	t.Helper()
	return startReplicaOf(t, s, name, count, leaseDuration, func(ctx context.Context, r *replica, shard fleet.Shard) error {
		leads.begin(shard, r.name)
		defer leads.end(shard)
		<-ctx.Done()
		time.Sleep(returns) // as a run may that has something to finish
		return nil
	})
}

// startReplicaOf runs one with the rights that the documentation names.
func startReplicaOf(t *testing.T, s *space, name string, count int, lease time.Duration,
	run func(ctx context.Context, r *replica, shard fleet.Shard) error,
) *replica {
	t.Helper()
	user := addUser(t, s.plane, name+"-of-"+s.namespace)
	s.grant(t, user.Name, coordinationv1.GroupName, "leases", "create", "list", "update", "get", "delete")
	r := &replica{name: name, result: make(chan error, 1)}
	config := user.Config()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if r.cutOff.Load() {
				return nil, errors.New("cut off")
			}
			return next.RoundTrip(req)
		})
	})
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) { // the API server takes a moment to notice
		_, err := client.CoordinationV1().Leases(s.namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
	}, eventually, tick)
	go func() {
		r.result <- fleet.RunShards(ctx, fleet.ShardsConfig{
			Leases: client.CoordinationV1(), Namespace: s.namespace, Name: "test", Identity: name,
			Count: count, LeaseDuration: lease,
		}, func(ctx context.Context, shard fleet.Shard) error { return run(ctx, r, shard) })
	}()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-r.result:
			require.NoError(t, err)
		case <-time.After(eventually):
			require.Fail(t, "RunShards does not return")
		}
	})
	return r
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestShardsAreSharedEvenly(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	l := &leads{t: t, by: map[int]string{}}
	const count = 6
	a := startReplica(t, s, "a", count, l, 0)
	l.requireCounts(map[string]int{"a": 6})
	b := startReplica(t, s, "b", count, l, 0)
	l.requireCounts(map[string]int{"a": 3, "b": 3})
	startReplica(t, s, "c", count, l, 0)
	l.requireCounts(map[string]int{"a": 2, "b": 2, "c": 2})

	b.stop() // the others know at once
	l.requireCounts(map[string]int{"a": 3, "c": 3})
	leases, err := s.kubernetes.CoordinationV1().Leases(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	var names []string
	for i := range leases.Items {
		names = append(names, leases.Items[i].Name)
		assert.Equal(t, "test", leases.Items[i].Labels["openchoreo.dev/shards"])
	}
	assert.ElementsMatch(t, []string{"test-0", "test-1", "test-2", "test-3", "test-4", "test-5", "test-member-a", "test-member-c"}, names)
	a.stop()
	l.requireCounts(map[string]int{"c": 6})
}

// A replica that can't reach the API server ends its runs before another may begin them,
// also when they take all the time that they may.
func TestShardsOfAReplicaThatIsCutOffMove(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	l := &leads{t: t, by: map[int]string{}}
	const grace = leaseDuration * 3 / 10
	a := startReplica(t, s, "a", 4, l, grace)
	startReplica(t, s, "b", 4, l, grace)
	l.requireCounts(map[string]int{"a": 2, "b": 2})
	a.cutOff.Store(true)
	cut := time.Now()
	l.requireCounts(map[string]int{"b": 4})
	t.Logf("the shards moved in %.1f lease durations", time.Since(cut).Seconds()/leaseDuration.Seconds())
	a.cutOff.Store(false)
	l.requireCounts(map[string]int{"a": 2, "b": 2})
}

// Nobody has two more than another, also where the number of shards is no multiple of the
// number of replicas.
func TestShardsThatDoNotDivide(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	l := &leads{t: t, by: map[int]string{}}
	const count = 7
	for i, name := range []string{"a", "b", "c", "d"} {
		startReplica(t, s, name, count, l, 0)
		replicas := i + 1
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			counts, all := l.counts(), 0
			assert.Len(c, counts, replicas)
			for _, n := range counts {
				all += n
				assert.GreaterOrEqual(c, n, count/replicas)
				assert.LessOrEqual(c, n, (count+replicas-1)/replicas)
			}
			assert.Equal(c, count, all)
		}, eventually, tick)
	}
}

// A Lease that somebody has given to another is nobody's for its time, and then is led again.
func TestShardsWhoseLeaseIsEdited(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	var begun, ended atomic.Int64
	startReplicaOf(t, s, "a", 1, leaseDuration, func(ctx context.Context, _ *replica, _ fleet.Shard) error {
		begun.Add(1)
		<-ctx.Done()
		if errors.Is(context.Cause(ctx), fleet.ErrShardLost) {
			ended.Add(1)
		}
		return ctx.Err()
	})
	require.Eventually(t, func() bool { return begun.Load() == 1 }, eventually, tick)
	_, err := s.kubernetes.CoordinationV1().Leases(s.namespace).Patch(t.Context(), "test-0", types.MergePatchType,
		[]byte(`{"spec": {"holderIdentity": "somebody"}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return ended.Load() == 1 }, eventually, tick)
	lease, err := s.kubernetes.CoordinationV1().Leases(s.namespace).Get(t.Context(), "test-0", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "somebody", *lease.Spec.HolderIdentity, "it is not released by who doesn't hold it")
	require.Eventually(t, func() bool { return begun.Load() == 2 }, eventually, tick)
}

func TestShardsNeedRights(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	client, err := kubernetes.NewForConfig(addUser(t, shared, "nobody-in-"+s.namespace).Config())
	require.NoError(t, err)
	err = fleet.RunShards(t.Context(), fleet.ShardsConfig{
		Leases: client.CoordinationV1(), Namespace: s.namespace, Name: "test", Identity: "a", Count: 1, LeaseDuration: 2 * time.Second,
	}, func(context.Context, fleet.Shard) error { return nil })
	require.True(t, apierrors.IsForbidden(err), "%v", err)
}

func TestShardsEndWithAnErrorOfARun(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	failure := errors.New("no more")
	var begun sync.WaitGroup
	begun.Add(3)
	err := fleet.RunShards(t.Context(), fleet.ShardsConfig{
		Leases: s.kubernetes.CoordinationV1(), Namespace: s.namespace, Name: "test", Identity: "a", Count: 3, LeaseDuration: 2 * time.Second,
	}, func(ctx context.Context, shard fleet.Shard) error {
		begun.Done()
		if shard.Index == 1 {
			begun.Wait()
			return failure
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	require.ErrorIs(t, err, failure)
	require.EqualError(t, err, "shard 1 of 3: no more")
	leases, err := s.kubernetes.CoordinationV1().Leases(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, leases.Items, 3, "that of the replica is removed")
	for i := range leases.Items {
		assert.Empty(t, *leases.Items[i].Spec.HolderIdentity, "%s is not released", leases.Items[i].Name)
	}
}

// Three replicas share data planes. One is cut off from the API server that has the Leases,
// and not from the data planes, to which its runs cling: they lose them before the runs of
// another replica begin.
func TestFleetInShards(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	user := addUser(t, shared, "agent-of-"+s.namespace)
	s.allow(t, user)
	const planes, shards = 30, 6
	for i := range planes {
		dp := newDataPlane(fmt.Sprint("dp-", i))
		dp.Spec.KubernetesCluster.Credentials = credentialsOf(user)
		s.create(t, dp)
	}
	informer := s.informer(t)
	runs := &fleetRuns{t: t, over: map[types.UID]bool{}}
	replicas := map[string]*replica{}
	for _, name := range []string{"a", "b", "c"} {
		// A lease so long that a busy machine does not look like one that stands still.
		replicas[name] = startReplicaOf(t, s, name, shards, 10*time.Second, func(ctx context.Context, r *replica, shard fleet.Shard) error {
			return fleet.New(informer, func(ctx context.Context, cluster *remote.Cluster) error {
				run := runs.begin(&fleetRun{key: cluster.Key(), replica: r.name, cluster: cluster})
				defer func() { runs.end(run, context.Cause(ctx)) }()
				target, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
				if err != nil {
					return err
				}
				watcher, err := target.CoreV1().ConfigMaps(s.namespace).Watch(ctx, metav1.ListOptions{})
				if err != nil {
					return err
				}
				defer watcher.Stop()
				<-ctx.Done()
				if r.cutOff.Load() {
					<-cluster.Done()
				}
				return ctx.Err()
			}, shard.Restrict(fleet.Options{})).Run(ctx)
		})
	}
	// requireRunsBy waits until each data plane has a run, each replica as many shards, and
	// each shard all its data planes on one replica.
	requireRunsBy := func(counts map[string]int) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			current := runs.current()
			require.Len(c, current, planes)
			by := map[int]string{}
			for key, run := range current {
				shard := shardOf(key, shards)
				if by[shard] == "" {
					by[shard] = run.replica
				}
				require.Equal(c, by[shard], run.replica)
			}
			led := map[string]int{}
			for _, replica := range by {
				led[replica]++
			}
			require.Equal(c, counts, led)
		}, 2*eventually, tick)
	}
	requireRunsBy(map[string]int{"a": 2, "b": 2, "c": 2})
	replicas["a"].cutOff.Store(true)
	requireRunsBy(map[string]int{"b": 3, "c": 3})
	replicas["a"].cutOff.Store(false)
	requireRunsBy(map[string]int{"a": 2, "b": 2, "c": 2})
}

// shardOf returns the one shard to which a data plane belongs.
func shardOf(key types.NamespacedName, count int) int {
	for i := range count {
		if (fleet.Shard{Index: i, Count: count}).Owns(key) {
			return i
		}
	}
	panic("it belongs to none")
}
