// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/metrics"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// newRemoteCache caches the remotes themselves.
func newRemoteCache(t testing.TB, opts ...Option) *ClientCache[*Remote] {
	t.Helper()
	c := NewClientCache(func(r *Remote) (*Remote, error) { return r, nil }, opts...)
	t.Cleanup(c.Close)
	return c
}

func mustGet(t testing.TB, c *ClientCache[*Remote], dp *v1alpha1.DataPlane) *Remote {
	t.Helper()
	before := dp.DeepCopy()
	r, err := c.Get(dp)
	require.NoError(t, err)
	assert.Equal(t, before, dp, "must not be changed")
	return r
}

func assertClosed(t testing.TB, want bool, r *Remote) {
	t.Helper()
	select {
	case <-r.Done():
		assert.True(t, want, "is closed")
	default:
		assert.False(t, want, "is not closed")
	}
}

func TestClientCacheKeepsAClientAsLongAsItsCredentials(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	c := newRemoteCache(t)
	dp := server.dataPlane("prod", "alice")
	first := mustGet(t, c, dp)

	for name, edit := range map[string]func(*v1alpha1.DataPlane){
		"nothing changed": func(*v1alpha1.DataPlane) {},
		"other labels":    func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"a": "b"}; dp.ResourceVersion = "2" },
		"other gateway":   func(dp *v1alpha1.DataPlane) { dp.Spec.Gateway.PublicVirtualHost = "x"; dp.Generation++ },
		"no UID":          func(dp *v1alpha1.DataPlane) { dp.UID = "" },
		"being deleted":   func(dp *v1alpha1.DataPlane) { dp.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} },
		"strings of their own": func(dp *v1alpha1.DataPlane) {
			creds := &dp.Spec.KubernetesCluster.Credentials
			creds.ClientKey = string([]byte(creds.ClientKey))
		},
	} {
		t.Run(name, func(t *testing.T) {
			changed := dp.DeepCopy()
			edit(changed)
			assert.Same(t, first, mustGet(t, c, changed))
		})
	}
	assert.Equal(t, 1, c.Len())
}

func TestClientCacheSwapsOnChange(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	dp := server.dataPlane("prod", "alice")
	for name, changed := range map[string]func() *v1alpha1.DataPlane{
		"other credentials": func() *v1alpha1.DataPlane {
			changed := server.dataPlane("prod", "bob")
			changed.Generation = 2
			return changed
		},
		"other credentials, no generations": func() *v1alpha1.DataPlane {
			changed := server.dataPlane("prod", "bob")
			changed.Generation = 0
			changed.UID = ""
			return changed
		},
		"recreated": func() *v1alpha1.DataPlane {
			changed := dp.DeepCopy()
			changed.UID = "uid-2"
			return changed
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRemoteCache(t)
			before := mustGet(t, c, dp)
			after := mustGet(t, c, changed())
			assert.NotSame(t, before, after)
			assertClosed(t, true, before)
			assertClosed(t, false, after)
			assert.Equal(t, 1, c.Len())
		})
	}
}

func TestClientCacheIgnoresALaggingObject(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	c := newRemoteCache(t)
	older := server.dataPlane("prod", "alice")
	newer := server.dataPlane("prod", "bob")
	newer.Generation = 2
	mustGet(t, c, older)
	r := mustGet(t, c, newer)
	assert.Same(t, r, mustGet(t, c, older), "an older generation does not bring old credentials back")
	assertClosed(t, false, r)
}

func TestClientCacheNeverServesOldCredentialsForBadOnes(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	c := newRemoteCache(t)
	dp := server.dataPlane("prod", "alice")
	r := mustGet(t, c, dp)
	bad := dp.DeepCopy()
	bad.Generation = 2
	bad.Spec.KubernetesCluster.Credentials.ClientKey = "?"
	_, err := c.Get(bad)
	require.ErrorIs(t, err, ErrInvalidCredentials)
	assertClosed(t, true, r)
	assert.Zero(t, c.Len())

	bad.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{}
	_, err = c.Get(bad)
	require.ErrorIs(t, err, ErrNoCredentials)
}

func TestClientCacheDoesNotKeepAFailedBuild(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	var fail atomic.Bool
	fail.Store(true)
	var failed *Remote
	c := NewClientCache(func(r *Remote) (*Remote, error) {
		if fail.Load() {
			failed = r
			return nil, errors.New("no client today")
		}
		return r, nil
	})
	defer c.Close()
	dp := server.dataPlane("prod", "alice")
	_, err := c.Get(dp)
	require.EqualError(t, err, "data plane default/prod: no client today")
	assertClosed(t, true, failed)
	fail.Store(false)
	_, err = c.Get(dp)
	require.NoError(t, err)
}

func TestClientCacheRebuildsWhatWasClosed(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	c := newRemoteCache(t)
	dp := server.dataPlane("prod", "alice")
	r := mustGet(t, c, dp)
	r.Close()
	assert.NotSame(t, r, mustGet(t, c, dp))
}

func TestClientCacheNeedsAName(t *testing.T) {
	c := newRemoteCache(t)
	for _, dp := range []*v1alpha1.DataPlane{nil, {}, {ObjectMeta: metav1.ObjectMeta{Namespace: "default", UID: "x"}}} {
		_, err := c.Get(dp)
		require.ErrorContains(t, err, "no name")
	}
	dp := newDataPlane(t)
	dp.Namespace, dp.UID = "", ""
	mustGet(t, c, dp)
}

func TestClientCacheKeepsDataPlanesApart(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	c := newRemoteCache(t)
	a := server.dataPlane("a", "alice")
	b := a.DeepCopy() // the same credentials, and labels or the lack of them
	b.Name = "b"
	ra, rb := mustGet(t, c, a), mustGet(t, c, b)
	for _, r := range []*Remote{ra, rb} {
		_, err := get(t, r, "/")
		require.NoError(t, err)
	}
	c.Forget(keyOf(a))
	assertClosed(t, true, ra)
	assertClosed(t, false, rb)
	require.Eventually(t, func() bool { return server.open() == 1 }, 10*time.Second, time.Millisecond)
	_, err := get(t, rb, "/")
	require.NoError(t, err)
	assert.Equal(t, 2, server.accepted())
}

func TestRotationLetsOldRequestsEndAndGivesNewOnesTheNewUser(t *testing.T) {
	arrived, answer := make(chan struct{}, 1), make(chan struct{})
	server := newAPIServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-answer
		}
		whoAmI(w, r)
	})
	c := newRemoteCache(t, WithCloseGrace(time.Minute))
	old := mustGet(t, c, server.dataPlane("prod", "alice"))
	result := make(chan string, 1)
	go func() {
		user, err := get(t, old, "/slow")
		result <- fmt.Sprint(user, err)
	}()
	mustReceive(t, arrived)
	rotated := server.dataPlane("prod", "bob")
	rotated.Generation = 2
	fresh := mustGet(t, c, rotated)
	mustReceive(t, old.Done())
	user, err := get(t, fresh, "/")
	require.NoError(t, err)
	assert.Equal(t, "bob", user)
	_, err = get(t, old, "/")
	require.ErrorIs(t, err, ErrRemoteClosed)
	close(answer)
	assert.Equal(t, "alice<nil>", mustReceive(t, result))
	require.Eventually(t, func() bool { return server.open() == 1 }, 10*time.Second, time.Millisecond)
}

func TestClientCacheHandler(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	dp := server.dataPlane("prod", "alice")
	recreated := dp.DeepCopy()
	recreated.UID = "uid-2"
	rotated := server.dataPlane("prod", "bob")
	rotated.Generation = 2
	relabelled := dp.DeepCopy()
	relabelled.Labels = map[string]string{"a": "b"}

	for name, test := range map[string]struct {
		event  func(cache.ResourceEventHandler)
		closed bool
	}{
		"deleted": {func(h cache.ResourceEventHandler) { h.OnDelete(dp) }, true},
		"deleted while nobody watched": {func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod", Obj: dp})
		}, true},
		"another object of the name deleted": {func(h cache.ResourceEventHandler) { h.OnDelete(recreated) }, false},
		"recreated while nobody watched":     {func(h cache.ResourceEventHandler) { h.OnUpdate(dp, recreated) }, true},
		"deleted, and nothing but the key is known": {func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod"})
		}, true},
		"something else": {func(h cache.ResourceEventHandler) {
			h.OnDelete("x")
			h.OnUpdate("x", "y")
			h.OnDelete((*v1alpha1.DataPlane)(nil))
			h.OnUpdate((*v1alpha1.DataPlane)(nil), (*v1alpha1.DataPlane)(nil))
		}, false},
		"secrets dropped": {func(h cache.ResourceEventHandler) { h.OnUpdate(dp, Redact(dp)) }, false},
		"added":           {func(h cache.ResourceEventHandler) { h.OnAdd(dp, true) }, false},
		"relabelled":      {func(h cache.ResourceEventHandler) { h.OnUpdate(dp, relabelled) }, false},
		"rotated":         {func(h cache.ResourceEventHandler) { h.OnUpdate(dp, rotated) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRemoteCache(t)
			r := mustGet(t, c, dp)
			test.event(c.Handler())
			assertClosed(t, test.closed, r)
		})
	}

	t.Run("an event that is older than the client", func(t *testing.T) {
		c := newRemoteCache(t)
		r := mustGet(t, c, rotated)
		c.Handler().OnUpdate(dp, dp)
		assertClosed(t, false, r)
	})
}

// An object that somebody still holds brings back neither old credentials nor a client of
// a data plane that is gone.
func TestClientCacheAndWhatIsOutOfDate(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	dp := server.dataPlane("prod", "alice")
	dp.CreationTimestamp = metav1.NewTime(time.Unix(1000, 0))
	rotated := server.dataPlane("prod", "bob")
	rotated.CreationTimestamp = dp.CreationTimestamp
	rotated.Generation = 3
	invalid := rotated.DeepCopy()
	invalid.Spec.KubernetesCluster.Credentials.ClientKey = "?"
	recreated := rotated.DeepCopy()
	recreated.UID, recreated.Generation = "uid-2", 1
	recreated.CreationTimestamp = metav1.NewTime(time.Unix(2000, 0))

	t.Run("after credentials that can't be used", func(t *testing.T) {
		c := newRemoteCache(t)
		mustGet(t, c, dp)
		_, err := c.Get(invalid)
		require.ErrorIs(t, err, ErrInvalidCredentials)
		_, err = c.Get(dp)
		require.ErrorIs(t, err, ErrOutdated)
		invalid := invalid.DeepCopy()
		invalid.Spec, invalid.Generation = rotated.Spec, 4
		mustGet(t, c, invalid)
	})
	t.Run("after the handler has seen a rotation", func(t *testing.T) {
		c := newRemoteCache(t)
		mustGet(t, c, dp)
		c.Handler().OnUpdate(dp, rotated)
		_, err := c.Get(dp)
		require.ErrorIs(t, err, ErrOutdated)
		mustGet(t, c, rotated)
	})
	t.Run("after the handler has seen the deletion", func(t *testing.T) {
		c := newRemoteCache(t)
		c.Handler().OnDelete(dp)
		_, err := c.Get(dp)
		require.ErrorIs(t, err, ErrDeleted)
		assert.Zero(t, c.Len())
		r := mustGet(t, c, recreated)
		_, err = c.Get(dp)
		require.ErrorIs(t, err, ErrReplaced)
		c.Handler().OnDelete(dp)
		assertClosed(t, false, r)
	})
	t.Run("after another object of the name was served", func(t *testing.T) {
		c := newRemoteCache(t)
		r := mustGet(t, c, recreated)
		_, err := c.Get(dp)
		require.ErrorIs(t, err, ErrReplaced)
		assertClosed(t, false, r)
	})
	t.Run("a generation that was seen counts, not only the one it was built at", func(t *testing.T) {
		c := newRemoteCache(t)
		r := mustGet(t, c, dp)
		later := dp.DeepCopy()
		later.Generation = 5
		mustGet(t, c, later)
		assert.Same(t, r, mustGet(t, c, rotated), "generation 3 is older than 5")
	})
	t.Run("no generation is not an old one", func(t *testing.T) {
		c := newRemoteCache(t)
		r := mustGet(t, c, rotated)
		unknown := dp.DeepCopy()
		unknown.Generation = 0
		assert.NotSame(t, r, mustGet(t, c, unknown))
	})
	t.Run("dropped secrets say nothing", func(t *testing.T) {
		c := newRemoteCache(t)
		r := mustGet(t, c, dp)
		_, err := c.Get(Redact(dp))
		require.ErrorIs(t, err, ErrSecretsDropped)
		assertClosed(t, false, r)
	})
	t.Run("only so many deletions are remembered", func(t *testing.T) {
		c := newRemoteCache(t)
		for i := range maxBuried + 10 {
			gone := dp.DeepCopy()
			gone.Name = fmt.Sprint("dp-", i)
			c.Handler().OnDelete(gone)
		}
		assert.Len(t, c.slots.all(), maxBuried)
	})
}

func TestClientCacheOutlivesABuildThatPanics(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	var made *Remote
	panics := true
	c := NewClientCache(func(r *Remote) (*Remote, error) {
		made = r
		if panics {
			panic("in the caller's code")
		}
		return r, nil
	})
	defer c.Close()
	dp := server.dataPlane("prod", "alice")
	assert.Panics(t, func() { _, _ = c.Get(dp) })
	assertClosed(t, true, made)
	panics = false
	mustGet(t, c, dp)
}

// Neither an eviction nor the handler waits for a build.
func TestASlowBuildHoldsUpNobodyElse(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	slow := server.dataPlane("slow", "alice")
	rotated := server.dataPlane("slow", "bob")
	rotated.Generation = 2
	var others []*v1alpha1.DataPlane
	for _, name := range []string{"a", "b", "c"} {
		others = append(others, server.dataPlane(name, "alice"))
	}
	var hang atomic.Bool
	building, release := make(chan struct{}), make(chan struct{})
	c := NewClientCache(func(r *Remote) (*Remote, error) {
		if r.Key().Name == "slow" && hang.Load() {
			close(building)
			<-release
		}
		return r, nil
	}, WithMaxEntries(2))
	defer c.Close()
	mustGet(t, c, slow)
	hang.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := c.Get(rotated)
		result <- err
	}()
	mustReceive(t, building)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, dp := range others {
			_, err := c.Get(dp)
			assert.NoError(t, err)
		}
		c.Handler().OnUpdate(slow, rotated)
		c.Handler().OnDelete(rotated)
	}()
	mustReceive(t, done)
	close(release)
	err := mustReceive(t, result)
	if err != nil { // evicted and built again, or deleted meanwhile
		require.ErrorIs(t, err, ErrDeleted)
	}
	_, err = c.Get(rotated)
	require.ErrorIs(t, err, ErrDeleted)
}

func TestClientCacheClose(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	c := newRemoteCache(t)
	goroutines := runtime.NumGoroutine()
	var remotes []*Remote
	for i := range 20 {
		r := mustGet(t, c, server.dataPlane(fmt.Sprint("dp-", i), "alice"))
		_, err := get(t, r, "/")
		require.NoError(t, err)
		remotes = append(remotes, r)
	}
	c.Close()
	c.Close()
	for _, r := range remotes {
		assertClosed(t, true, r)
	}
	assert.Zero(t, c.Len())
	server.requireNoConnections()
	_, err := c.Get(server.dataPlane("late", "alice"))
	require.ErrorIs(t, err, ErrRemoteClosed)
	requireGoroutines(t, goroutines)
}

func TestClientCacheBounds(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	plane := func(i int) *v1alpha1.DataPlane { return server.dataPlane(fmt.Sprint("dp-", i), "alice") }
	t.Run("size", func(t *testing.T) {
		var now atomic.Int64
		c := newRemoteCache(t, WithMaxEntries(2))
		c.clock = func() time.Time { return time.Unix(now.Add(1), 0) }
		first, second := plane(1), plane(2)
		a, b := mustGet(t, c, first), mustGet(t, c, second)
		mustGet(t, c, first)
		mustGet(t, c, plane(3))
		assert.Equal(t, 2, c.Len())
		assertClosed(t, false, a)
		assertClosed(t, true, b)
	})
	t.Run("idle", func(t *testing.T) {
		var now atomic.Int64
		c := newRemoteCache(t, WithIdleTimeout(time.Minute))
		c.clock = func() time.Time { return time.Unix(now.Load(), 0) }
		first := plane(1)
		a, b := mustGet(t, c, first), mustGet(t, c, plane(2))
		now.Store(50)
		mustGet(t, c, first)
		now.Store(70)
		c.evictIdle()
		assertClosed(t, false, a)
		assertClosed(t, true, b)
	})
	t.Run("idle, by the clock", func(t *testing.T) {
		c := newRemoteCache(t, WithIdleTimeout(20*time.Millisecond))
		mustReceive(t, mustGet(t, c, plane(1)).Done())
		mustReceive(t, mustGet(t, c, plane(1)).Done())
	})
}

// One build per key, whoever asks; a build that hangs holds up nobody else.
func TestClientCacheBuildsOncePerKey(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	const planes, callers = 50, 8
	var builds [planes]atomic.Int32
	release := make(chan struct{})
	c := NewClientCache(func(r *Remote) (*Remote, error) {
		var i int
		_, _ = fmt.Sscanf(r.Key().Name, "dp-%d", &i)
		builds[i].Add(1)
		if i%2 == 1 {
			<-release
		}
		return r, nil
	})
	defer c.Close()
	dp := server.dataPlane("dp-0", "alice")
	var live, all sync.WaitGroup
	for i := range planes {
		dp := dp.DeepCopy()
		dp.Name = fmt.Sprint("dp-", i)
		dp.UID = types.UID(dp.Name)
		for range callers {
			all.Add(1)
			if i%2 == 0 {
				live.Add(1)
			}
			go func() {
				defer all.Done()
				r, err := c.Get(dp)
				if assert.NoError(t, err) {
					assert.Equal(t, dp.Name, r.Key().Name)
				}
				if i%2 == 0 {
					live.Done()
				}
			}()
		}
	}
	live.Wait() // while the builds of the others hang
	close(release)
	all.Wait()
	for i := range builds {
		assert.EqualValues(t, 1, builds[i].Load(), i)
	}
	assert.Equal(t, planes, c.Len())
}

func TestClientCacheUnderRace(t *testing.T) {
	server := newAPIServer(t, whoAmI)
	variants := make([]*v1alpha1.DataPlane, 4)
	for i := range variants {
		variants[i] = server.dataPlane("x", fmt.Sprint("user-", i))
		variants[i].UID = types.UID(strconv.Itoa(i / 2))
	}
	var mu sync.Mutex
	built := map[*Remote]bool{}
	c := NewClientCache(func(r *Remote) (*Remote, error) {
		mu.Lock()
		defer mu.Unlock()
		built[r] = true
		return r, nil
	}, WithCloseGrace(0), WithMaxEntries(3), WithIdleTimeout(time.Millisecond))
	handler := c.Handler()
	var wg sync.WaitGroup
	for worker := range 8 {
		random := rand.New(rand.NewPCG(1, uint64(worker)))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 300 {
				dp := variants[random.IntN(len(variants))].DeepCopy()
				dp.Name = fmt.Sprint("dp-", random.IntN(5))
				dp.Generation = random.Int64N(3)
				switch random.IntN(10) {
				case 0:
					c.Forget(keyOf(dp))
				case 1:
					handler.OnDelete(dp)
				case 2:
					handler.OnUpdate(dp, dp)
				default:
					r, err := c.Get(dp)
					switch {
					case err == nil:
						if _, err := get(t, r, "/"); err != nil {
							assert.ErrorIs(t, err, ErrRemoteClosed)
						}
					case !errors.Is(err, ErrDeleted) && !errors.Is(err, ErrOutdated):
						assert.NoError(t, err)
					}
				}
			}
		}()
	}
	wg.Wait()
	c.Close()
	for r := range built {
		assertClosed(t, true, r)
	}
	server.requireNoConnections()
}

// transportCacheEntries listens to what client-go tells of its process-wide cache.
type transportCacheEntries struct{ entries atomic.Int64 }

func (m *transportCacheEntries) Observe(value int) { m.entries.Store(int64(value)) }

func TestRotatingForeverLeavesNothing(t *testing.T) {
	rotations := 10_000
	if testing.Short() {
		rotations = 500
	}
	entries := &transportCacheEntries{}
	before := metrics.TransportCacheEntries
	metrics.TransportCacheEntries = entries
	t.Cleanup(func() { metrics.TransportCacheEntries = before })
	server := newAPIServer(t, whoAmI)
	for range 2 { // the second is told of the first
		plain, err := RESTConfigFor(server.dataPlane("plain", "alice"))
		require.NoError(t, err)
		_, err = rest.HTTPClientFor(plain)
		require.NoError(t, err)
	}
	cached := entries.entries.Load()
	require.Positive(t, cached, "a plain configuration is cached, and counted")
	planes := make([]*v1alpha1.DataPlane, 2)
	for i := range planes {
		planes[i] = server.dataPlane("prod", fmt.Sprint("user-", i))
		planes[i].Generation = 0
	}
	c := NewClientCache(func(r *Remote) (kubernetes.Interface, error) {
		return kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
		// The ping timer of HTTP/2 keeps what is left of a closed connection until it
		// fires, which takes 30 s by default.
	}, func(o *options) { o.pingAfter, o.pingTimeout = 100*time.Millisecond, 100*time.Millisecond })
	defer c.Close()
	rotate := func(times int) {
		for i := range times {
			client, err := c.Get(planes[i%2])
			require.NoError(t, err)
			if i%21 != 0 { // a connection for some: handshakes take the most of the time
				continue
			}
			user, err := client.Discovery().RESTClient().Get().AbsPath("/").DoRaw(t.Context())
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("user-", i%2), string(user))
		}
	}
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	rotate(200)
	goroutines, start := runtime.NumGoroutine(), heap()
	rotate(rotations)
	c.mu.Lock()
	retiring := len(c.retiring)
	c.mu.Unlock()
	assert.LessOrEqual(t, retiring, 2)
	requireGoroutines(t, goroutines+10) // those of the last connections
	const slack = 4 << 20               // a remote that was kept would be 10 KB, ten thousand 100 MB
	for deadline := time.Now().Add(10 * time.Second); heap()-start > slack && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	assert.LessOrEqual(t, heap()-start, int64(slack), "heap grows with rotations")
	assert.LessOrEqual(t, server.open(), 4)
	assert.LessOrEqual(t, entries.entries.Load(), cached, "client-go's own cache is not used") // 0.36 and later collect
}

// Half of the clusters are dead, and each has callers that ask and callers that probe.
func TestDeadClustersHoldUpNobody(t *testing.T) {
	const planes, callers = 1000, 8
	server := newAPIServer(t, whoAmI)
	dead := newAPIServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	alive, mute := server.dataPlane("x", "alice"), dead.dataPlane("x", "alice")
	c := newRemoteCache(t, WithCloseGrace(0))
	goroutines := runtime.NumGoroutine()

	var answered atomic.Int32
	var asking, hanging sync.WaitGroup
	for i := range planes {
		dp := alive.DeepCopy()
		if i%2 == 1 {
			dp = mute.DeepCopy()
		}
		dp.Name = fmt.Sprint("dp-", i)
		for caller := range callers {
			wg := &asking
			if i%2 == 1 {
				wg = &hanging
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				r, err := c.Get(dp)
				if !assert.NoError(t, err) || caller > 0 || i%20 > 1 {
					return // connections to some of them say enough
				}
				if user, err := get(t, r, "/"); i%2 == 0 {
					assert.NoError(t, err)
					assert.Equal(t, "alice", user)
					answered.Add(1)
				} else {
					assert.ErrorIs(t, err, ErrRemoteClosed)
				}
			}()
		}
	}
	asking.Wait() // while the others hang
	assert.EqualValues(t, planes/20, answered.Load())
	c.Close()
	hanging.Wait()
	server.requireNoConnections()
	dead.requireNoConnections()
	requireGoroutines(t, goroutines)
}
