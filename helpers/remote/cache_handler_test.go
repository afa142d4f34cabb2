// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestHandlerDoesAtOnceWhatGetDoes(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	recreated := dp.DeepCopy()
	recreated.UID = "uid-2"
	bad := dp.DeepCopy()
	bad.Spec.KubernetesCluster.Credentials.ClientKey = "?"
	for name, test := range map[string]struct {
		now    *v1alpha1.DataPlane // nil if it is deleted
		event  func(h cache.ResourceEventHandler, now *v1alpha1.DataPlane)
		closed bool
		user   string
		err    error
	}{
		"deleted": {
			event: func(h cache.ResourceEventHandler, _ *v1alpha1.DataPlane) { h.OnDelete(dp) }, closed: true,
		},
		"deleted while nobody watched": {
			event: func(h cache.ResourceEventHandler, _ *v1alpha1.DataPlane) {
				h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod", Obj: dp})
			}, closed: true,
		},
		"deleted, and nothing but the key is known": {
			event: func(h cache.ResourceEventHandler, _ *v1alpha1.DataPlane) {
				h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/prod"})
			}, closed: true,
		},
		"deleted and there again": {
			now:   server.DataPlane("prod", "bob"),
			event: func(h cache.ResourceEventHandler, _ *v1alpha1.DataPlane) { h.OnDelete(dp) }, user: "bob",
		},
		"recreated": {
			now:    recreated,
			event:  func(h cache.ResourceEventHandler, now *v1alpha1.DataPlane) { h.OnUpdate(dp, now) },
			closed: true,
		},
		"rotated": {
			now:   server.DataPlane("prod", "bob"),
			event: func(h cache.ResourceEventHandler, now *v1alpha1.DataPlane) { h.OnUpdate(dp, now) }, user: "bob",
		},
		"rotated, and the informer has begun anew": {
			now:   server.DataPlane("prod", "bob"),
			event: func(h cache.ResourceEventHandler, now *v1alpha1.DataPlane) { h.OnAdd(now, true) }, user: "bob",
		},
		"credentials that can't be used": {
			now:   bad,
			event: func(h cache.ResourceEventHandler, now *v1alpha1.DataPlane) { h.OnUpdate(dp, now) }, err: helpers.ErrInvalidCredentials,
		},
		"an event that is older than the informer's memory": {
			now: server.DataPlane("prod", "carol"),
			event: func(h cache.ResourceEventHandler, _ *v1alpha1.DataPlane) {
				h.OnUpdate(dp, server.DataPlane("prod", "bob"))
			}, user: "carol",
		},
		"another data plane": {
			now: dp.DeepCopy(),
			event: func(h cache.ResourceEventHandler, _ *v1alpha1.DataPlane) {
				h.OnDelete(server.DataPlane("other", "alice"))
				h.OnAdd(server.DataPlane("other", "alice"), false)
			}, user: "alice",
		},
		"something else": {
			now: dp.DeepCopy(),
			event: func(h cache.ResourceEventHandler, _ *v1alpha1.DataPlane) {
				h.OnDelete("x")
				h.OnUpdate("x", "y")
			}, user: "alice",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, remote.Options{})
			f.set(dp.DeepCopy())
			c := f.mustGet(prod)
			if test.now == nil {
				require.NoError(t, f.indexer.Delete(dp))
			} else {
				f.set(test.now)
			}
			test.event(f.Handler(), test.now)
			assert.Equal(t, test.closed, isClosed(c))
			assert.Len(t, f.builds, 1, "the next Get builds, not the handler")
			if test.user != "" {
				f.requireUser(test.user, c)
			}
			if test.err != nil {
				_, err := get(t.Context(), c.Cluster, "/")
				require.ErrorIs(t, err, test.err)
			}
		})
	}
}

func TestASlowBuildHoldsUpNobodyElse(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	dp := f.set(server.DataPlane("prod", "alice"))
	f.mustGet(prod)
	building, release := make(chan struct{}), make(chan struct{})
	f.onBuild = func(c *remote.Cluster) error {
		if c.Key() == prod {
			close(building)
			<-release
		}
		return nil
	}
	recreated := dp.DeepCopy()
	recreated.UID = "uid-2"
	f.set(recreated)
	h := f.Handler()
	soon(t, func() { h.OnUpdate(dp, recreated) }) // builds nothing
	result := make(chan *client, 1)
	go func() {
		c, err := f.Get(prod)
		assert.NoError(t, err)
		result <- c
	}()
	testserver.Receive(t, building)
	for i := range 3 {
		f.set(server.DataPlane(keyOf(i).Name, "alice"))
		soon(t, func() {
			_, err := f.Get(keyOf(i))
			assert.NoError(t, err)
		})
	}
	rotated := server.DataPlane("prod", "bob")
	rotated.UID = "uid-2"
	f.set(rotated)
	soon(t, func() { h.OnUpdate(recreated, rotated) })
	soon(t, func() { assert.Equal(t, 3, f.Len()) })
	close(release)
	f.requireUser("bob", testserver.Receive(t, result))
}

func TestADataPlaneThatGoesDuringItsBuild(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	for name, end := range map[string]func(*fixture, *v1alpha1.DataPlane){
		"deleted": func(f *fixture, dp *v1alpha1.DataPlane) {
			assert.NoError(t, f.indexer.Delete(dp))
			f.Handler().OnDelete(dp)
		},
		"cache closed": func(f *fixture, _ *v1alpha1.DataPlane) { f.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, remote.Options{})
			dp := f.set(server.DataPlane("prod", "alice"))
			f.onBuild = func(*remote.Cluster) error {
				end(f, dp)
				return nil
			}
			_, err := f.Get(prod)
			require.Error(t, err)
			assert.True(t, apierrors.IsNotFound(err) || errors.Is(err, remote.ErrClosed), "%v", err)
			assert.True(t, isClosed(f.builds[0]))
			assert.Zero(t, f.Len())
		})
	}
}

func TestAResyncAppliesCredentialsFromElsewhere(t *testing.T) {
	server := testserver.New(t, echoHeader)
	token := "old"
	f := newFixture(t, editConfig(func(config *rest.Config) { config.BearerToken = token }))
	dp := f.set(server.DataPlane("prod", "alice"))
	c := f.mustGet(prod)
	token = "new"
	f.Handler().OnUpdate(dp, dp)
	sent, err := get(t.Context(), c.Cluster, "/Authorization")
	require.NoError(t, err)
	assert.Equal(t, "Bearer new", sent)
}

func TestAResyncDuringAGetIsNotLost(t *testing.T) {
	server := testserver.New(t, echoHeader)
	for name, test := range map[string]struct {
		built     bool // there is a client already
		onBuild   bool
		onConfigs int // the call of ConfigFor during which the resync comes
	}{
		"during a build":   {onBuild: true},
		"before a build":   {onConfigs: 1},
		"during an update": {built: true, onConfigs: 2},
	} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			var dp *v1alpha1.DataPlane
			token, configs := "old", 0
			resync := func() {
				token = "new"
				f.Handler().OnUpdate(dp, dp)
			}
			f = newFixture(t, editConfig(func(config *rest.Config) {
				config.BearerToken = token
				if configs++; configs == test.onConfigs {
					resync()
				}
			}))
			dp = f.set(server.DataPlane("prod", "alice"))
			if test.built {
				f.mustGet(prod)
				dp = dp.DeepCopy()
				dp.Labels = map[string]string{"a": "b"}
				f.set(dp)
			}
			if test.onBuild {
				f.onBuild = func(*remote.Cluster) error { resync(); return nil }
			}
			sent, err := get(t.Context(), f.mustGet(prod).Cluster, "/Authorization")
			require.NoError(t, err)
			assert.Equal(t, "Bearer new", sent)
			assert.Len(t, f.builds, 1)
		})
	}
}

// Each of hundreds of data planes has eight callers and is built once. The builds of half of them
// hang.
func TestDeadClustersHoldUpNobody(t *testing.T) {
	const planes, callers = 400, 8
	goroutines := runtime.NumGoroutine()
	server := testserver.New(t, testserver.WhoAmI)
	var configs atomic.Int32
	options := editConfig(func(*rest.Config) { configs.Add(1) })
	options.Grace = -1
	f := newFixture(t, options.WithTimes(0, time.Minute)) // a busy machine may take long for so many handshakes
	release := make(chan struct{})
	var builds [planes]atomic.Int32
	f.onBuild = func(c *remote.Cluster) error {
		var i int
		_, _ = fmt.Sscanf(c.Key().Name, "dp-%d", &i)
		builds[i].Add(1)
		if i%2 == 1 {
			<-release
		}
		return nil
	}
	template := server.DataPlane("x", "alice")
	var live, dead sync.WaitGroup
	for i := range planes {
		dp := template.DeepCopy()
		dp.Name, dp.UID = keyOf(i).Name, types.UID(keyOf(i).Name)
		f.set(dp)
		for caller := range callers {
			wg := []*sync.WaitGroup{&live, &dead}[i%2]
			wg.Add(1)
			go func() {
				defer wg.Done()
				c, err := f.Get(keyOf(i))
				if !assert.NoError(t, err) || caller > 0 || i%20 > 0 {
					return // connections to a few are enough
				}
				user, err := get(t.Context(), c.Cluster, "/")
				assert.NoError(t, err)
				assert.Equal(t, "alice", user)
			}()
		}
	}
	live.Wait() // while the builds of the others hang
	assert.Equal(t, planes/2, f.Len())
	close(release)
	dead.Wait()
	for i := range builds {
		assert.EqualValues(t, 1, builds[i].Load(), i)
	}
	assert.EqualValues(t, planes, configs.Load(), "callers that waited for a build don't call ConfigFor")
	assert.Equal(t, planes, f.Len())
	f.Close()
	server.RequireNoConnections()
	server.Close()
	testserver.RequireGoroutines(t, goroutines)
}

func TestACacheUnderRace(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	variants := make([]*v1alpha1.DataPlane, 4)
	for i := range variants {
		variants[i] = server.DataPlane("x", fmt.Sprint("user-", i))
		variants[i].UID = types.UID(strconv.Itoa(i / 2))
	}
	bad := variants[0].DeepCopy()
	bad.Spec.KubernetesCluster.Credentials.ClientKey = "?"
	f := newFixture(t, remote.Options{Grace: 10 * time.Second})
	h := f.Handler()
	var workers sync.WaitGroup
	for worker := range 8 {
		random := rand.New(rand.NewPCG(1, uint64(worker)))
		workers.Add(1)
		go func() {
			defer workers.Done()
			for range 50 {
				key := keyOf(random.IntN(5))
				dp := append(variants, bad)[random.IntN(len(variants)+1)].DeepCopy()
				dp.Name = key.Name
				switch random.IntN(10) {
				case 0:
					assert.NoError(t, f.indexer.Delete(dp))
					h.OnDelete(dp)
				case 1, 2:
					h.OnUpdate(dp, f.set(dp))
				default:
					c, err := f.Get(key)
					if err == nil {
						_, err = get(t.Context(), c.Cluster, "/")
					}
					if err != nil && !apierrors.IsNotFound(err) && !errors.Is(err, remote.ErrClosed) && !errors.Is(err, helpers.ErrReplaced) {
						assert.ErrorIs(t, err, helpers.ErrInvalidCredentials)
					}
				}
			}
		}()
	}
	workers.Wait()
	f.Close()
	for _, c := range f.builds {
		assert.True(t, isClosed(c))
	}
	server.RequireNoConnections()
}
