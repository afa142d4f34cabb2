// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// leads keeps account of who leads which shard, and fails when two do.
type leads struct {
	t  *testing.T
	mu sync.Mutex
	by map[int]string
}

func (l *leads) begin(shard helpers.Shard, replica string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, led := l.by[shard.Index]; led {
		assert.Fail(l.t, "two lead at once", "%s: %s and %s", shard, other, replica)
	}
	l.by[shard.Index] = replica
}

func (l *leads) end(shard helpers.Shard) {
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

// startReplica runs one with the rights that the documentation names.
func startReplica(t *testing.T, s *space, name string, count int, leads *leads, returns time.Duration) *replica {
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
	go func() {
		r.result <- helpers.RunShards(ctx, helpers.ShardsConfig{
			Leases: client.CoordinationV1(), Namespace: s.namespace, Name: "test", Identity: name,
			Count: count, LeaseDuration: leaseDuration,
		}, func(ctx context.Context, shard helpers.Shard) error {
			leads.begin(shard, name)
			defer leads.end(shard)
			<-ctx.Done()
			time.Sleep(returns) // as a run may that has something to finish
			return nil
		})
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

func TestShardsEndWithAnErrorOfARun(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	failure := errors.New("no more")
	var begun sync.WaitGroup
	begun.Add(3)
	err := helpers.RunShards(t.Context(), helpers.ShardsConfig{
		Leases: s.kubernetes.CoordinationV1(), Namespace: s.namespace, Name: "test", Identity: "a", Count: 3, LeaseDuration: 2 * time.Second,
	}, func(ctx context.Context, shard helpers.Shard) error {
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
