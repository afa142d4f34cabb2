// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

const shortLease = 3 * time.Second

// event is the start or the end of a run, or of a replica's lead of a shard.
type event struct {
	Time         time.Time
	Replica, Key string // Key is a data plane or a shard
	Ends         bool
	Cause        string // the cause of an end
}

// newReplica returns a Fleet that calls record at each start and end. Each run watches config maps
// of its data plane. For a data plane named stubborn, it watches until its connections are closed.
func newReplica(informer cache.SharedIndexInformer, sharding fleet.Sharding, record func(event)) *fleet.Fleet {
	sharding.Name = "test"
	begin := func(key string) { record(event{Time: time.Now(), Replica: sharding.Identity, Key: key}) }
	end := func(key string, cause error) {
		record(event{Time: time.Now(), Replica: sharding.Identity, Key: key, Ends: true, Cause: fmt.Sprint(cause)})
	}
	return fleet.New(func(ctx context.Context, cluster *remote.Cluster) error {
		key := cluster.Key()
		begin(key.Name)
		defer func() { end(key.Name, context.Cause(ctx)) }()
		client, err := newClient(cluster)
		if err != nil {
			return err
		}
		watching := ctx
		if strings.HasPrefix(key.Name, "stubborn") {
			watching = context.WithoutCancel(ctx)
		}
		watcher, err := client.CoreV1().ConfigMaps(key.Namespace).Watch(watching, metav1.ListOptions{})
		if err != nil {
			return err
		}
		defer watcher.Stop()
		for range watcher.ResultChan() {
		}
		return errors.New("the watch has ended")
	}, fleet.Options{
		StopGrace: time.Second, // longer than the grace after a lost Lease
		Sharding:  &sharding,
		Hooks: fleet.Hooks{
			OnShardGained: func(shard int) { begin(fmt.Sprint("shard ", shard)) },
			OnShardLost:   func(shard int, err error) { end(fmt.Sprint("shard ", shard), err) },
		},
	}, informer)
}

// span is the time from a start to an end; to is zero before the end.
type span struct {
	replica, key, cause string
	from, to            time.Time
}

// history has the runs, led shards and suspensions of replicas.
type history struct {
	mu        sync.Mutex
	spans     []*span
	suspended []*span // suspensions of replicas' processes
}

func (h *history) record(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !e.Ends {
		h.spans = append(h.spans, &span{replica: e.Replica, key: e.Key, from: e.Time})
		return
	}
	for _, s := range h.spans {
		if s.replica == e.Replica && s.key == e.Key && s.to.IsZero() {
			s.to, s.cause = e.Time, e.Cause
		}
	}
}

// kill ends all spans of a replica.
func (h *history) kill(replica string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.spans {
		if s.replica == replica && s.to.IsZero() {
			s.to, s.cause = time.Now(), "killed"
		}
	}
}

// await waits until each shard and each data plane belongs to one of the replicas, and all replicas
// have even shares of the shards.
func (h *history) await(t *testing.T, limit time.Duration, shards int, planes []string, replicas ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		by, led := map[string][]string{}, map[string]int{}
		h.mu.Lock()
		for _, s := range h.spans {
			if s.to.IsZero() && slices.Contains(replicas, s.replica) {
				by[s.key] = append(by[s.key], s.replica)
				if strings.HasPrefix(s.key, "shard ") {
					led[s.replica]++
				}
			}
		}
		h.mu.Unlock()
		for _, plane := range planes {
			require.Len(c, by[plane], 1, "replicas that run %s", plane)
		}
		require.Len(c, by, shards+len(planes))
		for _, replica := range replicas {
			require.InDelta(c, float64(shards)/float64(len(replicas)), led[replica], 0.99, "shards of %s", replica)
		}
	}, limit, tick)
}

// afterResume is how long the runs of a suspended process may continue after it was resumed: until the
// answer to its next renewal, which it sends within 2/15 of LeaseDuration.
const afterResume = processLease/5 + time.Second

// requireExclusive requires that no two replicas ran a data plane, or led a shard, at the same time.
func (h *history) requireExclusive(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var longest time.Duration
	for i, a := range h.spans {
		for _, b := range h.spans[i+1:] {
			from, to := a.from, time.Now()
			if b.from.After(from) {
				from = b.from
			}
			for _, end := range []time.Time{a.to, b.to} {
				if !end.IsZero() && end.Before(to) {
					to = end
				}
			}
			if a.key != b.key || !from.Before(to) {
				continue
			}
			excused := false
			for _, w := range h.suspended {
				if (w.replica == a.replica || w.replica == b.replica) && !from.Before(w.from) && to.Before(w.to.Add(afterResume)) {
					excused, longest = true, max(longest, to.Sub(w.to))
				}
			}
			assert.True(t, excused, "%s and %s had %s at once for %s from %s; ended by %q and %q",
				a.replica, b.replica, a.key, to.Sub(from), from, a.cause, b.cause)
		}
	}
	t.Logf("%d runs and terms of shards; the longest continued for %s after its process was resumed", len(h.spans), longest)
}

// createPlanes creates data planes for the shared API server, and returns their names.
func (s *space) createPlanes(t *testing.T, count int) (names []string) {
	t.Helper()
	credentials := credentialsOf(addUser(t, shared, "agent-of-"+s.namespace, "system:masters"))
	for i := range count {
		dp := behaviours.NewDataPlane(fmt.Sprint([]string{"stubborn-", "meek-"}[i%2], i/2))
		dp.Spec.KubernetesCluster.Credentials = credentials
		names = append(names, s.create(t, dp).Name)
	}
	return names
}

// replica is a replica in this process.
type replica struct {
	*fleet.Fleet
	stop func()
}

// startReplica starts a replica that records to h, with an admin's rights to Leases.
func (s *space) startReplica(t *testing.T, h *history, identity string, shards int) *replica {
	t.Helper()
	f := newReplica(s.informer(t), fleet.Sharding{
		Leases: s.kubernetes.CoordinationV1(), Namespace: s.namespace, Identity: identity, Shards: shards, LeaseDuration: shortLease,
	}, h.record)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	r := &replica{Fleet: f, stop: sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-result:
			assert.NoError(t, err)
		case <-time.After(eventually):
			assert.Fail(t, "Run did not return")
		}
	})}
	t.Cleanup(r.stop)
	return r
}

func (s *space) leases() coordinationv1client.LeaseInterface {
	return s.kubernetes.CoordinationV1().Leases(s.namespace)
}

// requireReleased requires that replicas have left only Leases of shards, without a holder. A killed
// replica may have left its member Lease.
func (s *space) requireReleased(t *testing.T, killed string) {
	t.Helper()
	list, err := s.leases().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, list.Items)
	for i := range list.Items {
		name, holder := list.Items[i].Name, *list.Items[i].Spec.HolderIdentity
		if identity, _, _ := strings.Cut(holder, "_"); identity != killed {
			assert.NotContains(t, name, "member")
			assert.Empty(t, holder, "holder of %s", name)
		}
	}
}

// The rights come from the Role in docs/connecting.md.
func TestShardingNamesTheRightThatIsMissing(t *testing.T) {
	t.Parallel()
	rights := documented[rbacv1.Role](t, "Role", "dataplanes-shards").Rules[0].Verbs
	// start returns a replica of a new user with these rights, and a function that runs it until it
	// has noticed a missing right.
	start := func(t *testing.T, s *space, user string, rights ...string) (*fleet.Fleet, func() error) {
		t.Helper()
		leases := s.leasesAs(t, user, rights...)
		f := newReplica(s.informer(t), fleet.Sharding{
			Leases: leases, Namespace: s.namespace, Identity: "a", Shards: 2, LeaseDuration: 2 * time.Second,
		}, func(event) {})
		return f, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), eventually)
			defer cancel()
			return f.Run(ctx)
		}
	}
	requireMissing := func(t *testing.T, right string, err error) {
		t.Helper()
		require.ErrorContains(t, err, fmt.Sprintf("cannot %s resource %q", right, "leases"))
		require.True(t, apierrors.IsForbidden(err), "%v", err)
	}
	for _, missing := range rights {
		t.Run(missing, func(t *testing.T) {
			t.Parallel()
			s := shared.space(t)
			others := slices.DeleteFunc(slices.Clone(rights), func(right string) bool { return right == missing })
			f, run := start(t, s, "without-"+missing+"-in-"+s.namespace, others...)
			requireMissing(t, missing, run())
			require.Empty(t, f.Status().Sharding.Leads)
		})
	}
	t.Run("update is removed later", func(t *testing.T) {
		t.Parallel()
		s := shared.space(t)
		user := "agent-in-" + s.namespace
		f, run := start(t, s, user, rights...)
		result := make(chan error, 1)
		go func() { result <- run() }()
		require.Eventually(t, func() bool {
			sharding := f.Status().Sharding
			return sharding != nil && len(sharding.Leads) == 2
		}, eventually, tick)
		role, err := s.kubernetes.RbacV1().Roles(s.namespace).Get(t.Context(), user, metav1.GetOptions{})
		require.NoError(t, err)
		role.Rules[0].Verbs = slices.DeleteFunc(role.Rules[0].Verbs, func(right string) bool { return right == "update" })
		_, err = s.kubernetes.RbacV1().Roles(s.namespace).Update(t.Context(), role, metav1.UpdateOptions{})
		require.NoError(t, err)
		requireMissing(t, "update", <-result)
	})
}

// leasesAs returns a client of a new user with rights to Leases, when the API server knows the rights.
func (s *space) leasesAs(t *testing.T, name string, rights ...string) coordinationv1client.CoordinationV1Interface {
	t.Helper()
	s.grant(t, name, coordinationv1.GroupName, "leases", rights...)
	client, err := kubernetes.NewForConfig(addUser(t, s.plane, name).Config())
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		review, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), &authorizationv1.SelfSubjectRulesReview{
			Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: s.namespace},
		}, metav1.CreateOptions{})
		require.NoError(c, err)
		require.Contains(c, review.Status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: rights, APIGroups: []string{coordinationv1.GroupName}, Resources: []string{"leases"},
		})
	}, eventually, tick)
	return client.CoordinationV1()
}

// Another program may hold the Lease of a shard, or somebody may edit it.
func TestShardWhoseLeaseSomebodyHolds(t *testing.T) {
	t.Parallel()
	s, h := shared.space(t), &history{}
	planes := s.createPlanes(t, 8)
	somebody := coordinationv1.LeaseSpec{
		HolderIdentity: new("somebody"), LeaseDurationSeconds: new(int32(shortLease.Seconds())), RenewTime: new(metav1.NowMicro()),
	}
	_, err := s.leases().Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "test-2-0"}, Spec: somebody}, metav1.CreateOptions{})
	require.NoError(t, err)
	patch := func(field string, value any) {
		t.Helper()
		_, err := s.leases().Patch(t.Context(), "test-2-0", types.MergePatchType,
			fmt.Appendf(nil, `{"spec": {%q: %q}}`, field, value), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	renew := func() { patch("renewTime", time.Now().UTC().Format(metav1.RFC3339Micro)) }
	r := s.startReplica(t, h, "a", 2)
	requireWaits := func() {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			renew()
			sharding := r.Status().Sharding
			require.NotNil(c, sharding)
			require.Equal(c, []int{1}, sharding.Leads)
			require.Equal(c, []fleet.ShardWait{{Shard: 0, Lease: "test-2-0", Holder: "somebody"}}, sharding.Waiting)
		}, eventually, tick)
	}
	requireWaits()
	for began := time.Now(); time.Since(began) < 2*shortLease; time.Sleep(tick) {
		renew()
		require.Equal(t, []int{1}, r.Status().Sharding.Leads)
	}
	h.await(t, eventually, 2, planes, "a")

	edited := time.Now()
	patch("holderIdentity", "somebody")
	requireWaits() // renews the Lease for somebody
	h.await(t, eventually, 2, planes, "a")
	r.stop()
	ended := 0
	for _, span := range h.spans {
		if span.from.After(edited) {
			assert.Greater(t, span.from.Sub(edited), shortLease, "%s begins before the Lease has expired", span.key)
		} else if strings.Contains(span.cause, fleet.ErrShardLost.Error()) {
			ended++
		}
	}
	assert.Greater(t, ended, 1, "the shard and its runs end")
	h.requireExclusive(t)
	s.requireReleased(t, "")
}

// Of replicas with different numbers of shards, the replicas with one number work. The others wait.
func TestShardsOfAnotherNumberWait(t *testing.T) {
	t.Parallel()
	s, h := shared.space(t), &history{}
	planes := s.createPlanes(t, 8)
	shards := map[string]int{"four": 4, "six": 6}
	replicas := map[string]*replica{}
	for name, count := range shards { // at the same time
		replicas[name] = s.startReplica(t, h, name, count)
	}
	joined, waits := "", ""
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		joined, waits = "", ""
		for name, r := range replicas {
			switch sharding := r.Status().Sharding; {
			case sharding == nil:
			case len(sharding.Leads) > 0:
				joined = name
			case strings.Contains(sharding.LastError, "has another number of shards; waiting until it has ended"):
				waits = name
			}
		}
		require.NotEmpty(c, joined)
		require.NotEmpty(c, waits)
	}, eventually, tick)
	t.Logf("the replica with %s shards has begun", joined)
	h.await(t, eventually, shards[joined], planes, joined)
	other := s.startReplica(t, h, "other", shards[joined])
	h.await(t, eventually, shards[joined], planes, joined, "other")
	replicas[joined].stop()
	h.await(t, eventually, shards[joined], planes, "other")
	require.Empty(t, replicas[waits].Status().Sharding.Leads)
	other.stop()
	h.await(t, eventually, shards[waits], planes, waits)
	replicas[waits].stop()
	h.requireExclusive(t)
	s.requireReleased(t, "")
}
