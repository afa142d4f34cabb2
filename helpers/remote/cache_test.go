// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

var prod = types.NamespacedName{Namespace: "default", Name: "prod"}

// client is what the caches of the tests build.
type client struct{ *remote.Cluster }

// fixture is a cache, and the memory of an informer that it reads.
type fixture struct {
	*remote.Cache[*client]
	t       testing.TB
	indexer cache.Indexer

	mu      sync.Mutex
	version int
	failing error // of reading a DataPlane
	builds  []*client
	onBuild func(*remote.Cluster) error
}

func newFixture(t testing.TB, options remote.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, indexer: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})}
	read := remote.FromLister(listers.NewDataPlaneLister(f.indexer))
	f.Cache = remote.NewCache(func(key types.NamespacedName) (*v1alpha1.DataPlane, error) {
		f.mu.Lock()
		err := f.failing
		f.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return read(key)
	}, f.build, options)
	t.Cleanup(f.Close)
	return f
}

func (f *fixture) build(c *remote.Cluster) (*client, error) {
	built := &client{c}
	f.mu.Lock()
	f.builds = append(f.builds, built)
	onBuild := f.onBuild
	f.mu.Unlock()
	if onBuild != nil {
		if err := onBuild(c); err != nil {
			return nil, err
		}
	}
	return built, nil
}

// set stores a new version of an object, as a watch event does, and returns it.
func (f *fixture) set(dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	f.t.Helper()
	f.mu.Lock()
	f.version++
	dp.ResourceVersion = strconv.Itoa(f.version)
	f.mu.Unlock()
	require.NoError(f.t, f.indexer.Add(dp))
	return dp
}

func (f *fixture) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failing = err
}

func (f *fixture) mustGet(key types.NamespacedName) *client {
	f.t.Helper()
	c, err := f.Get(key)
	require.NoError(f.t, err)
	require.NotNil(f.t, c)
	return c
}

func (f *fixture) requireUser(want string, c *client) {
	f.t.Helper()
	user, err := get(f.t.Context(), c.Cluster, "/")
	require.NoError(f.t, err)
	require.Equal(f.t, want, user)
}

func isClosed(c *client) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}

func TestGetKeepsAClientThroughEveryChangeOfItsDataPlane(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	for _, versions := range []string{"with resource versions", "without"} {
		t.Run(versions, func(t *testing.T) {
			f := newFixture(t, remote.Options{})
			dp := f.set(server.DataPlane("prod", "alice"))
			first := f.mustGet(prod)
			for _, change := range []struct {
				name string
				edit func(*v1alpha1.DataPlane)
				user string
			}{
				{"nothing", func(*v1alpha1.DataPlane) {}, "alice"},
				{"labels", func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"a": "b"} }, "alice"},
				{"gateway", func(dp *v1alpha1.DataPlane) { dp.Spec.Gateway.PublicVirtualHost = "x"; dp.Generation++ }, "alice"},
				{"deletion has begun", func(dp *v1alpha1.DataPlane) { dp.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, "alice"},
				{"credentials", func(dp *v1alpha1.DataPlane) { dp.Spec = server.DataPlane("prod", "bob").Spec }, "bob"},
				{"credentials again", func(dp *v1alpha1.DataPlane) { dp.Spec = server.DataPlane("prod", "carol").Spec }, "carol"},
			} {
				dp = dp.DeepCopy()
				change.edit(dp)
				f.set(dp)
				if versions == "without" {
					dp.ResourceVersion = ""
				}
				stored := dp.DeepCopy()
				assert.Same(t, first, f.mustGet(prod), change.name)
				assert.Same(t, first, f.mustGet(prod), change.name)
				f.requireUser(change.user, first)
				assert.Equal(t, stored, dp, "an object in a cache is not to be changed")
			}
			assert.Len(t, f.builds, 1)
			assert.Equal(t, 1, f.Len())
		})
	}
}

func TestGetBuildsAnewForAnotherCluster(t *testing.T) {
	server, other := testserver.New(t, testserver.WhoAmI), testserver.New(t, testserver.WhoAmI)
	recreated := server.DataPlane("prod", "bob")
	recreated.UID = "uid-2"
	for name, dp := range map[string]*v1alpha1.DataPlane{
		"recreated":     recreated,
		"other address": other.DataPlane("prod", "bob"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, remote.Options{})
			f.set(server.DataPlane("prod", "alice"))
			before := f.mustGet(prod)
			f.set(dp)
			after := f.mustGet(prod)
			assert.NotSame(t, before, after)
			assert.True(t, isClosed(before))
			f.requireUser("bob", after)
			assert.Same(t, after, f.mustGet(prod))
			assert.Equal(t, 1, f.Len())
		})
	}
}

func TestGetOfADataPlaneThatIsGone(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	_, err := f.Get(prod)
	require.True(t, apierrors.IsNotFound(err))
	require.EqualError(t, err, `data plane default/prod: dataplane.openchoreo.dev "prod" not found`)
	assertClassified(t, remote.ReachabilityUnknown, err)
	dp := f.set(server.DataPlane("prod", "alice"))
	before := f.mustGet(prod)
	require.NoError(t, f.indexer.Delete(dp))
	c, err := f.Get(prod)
	require.True(t, apierrors.IsNotFound(err))
	assert.Nil(t, c)
	assert.True(t, isClosed(before))
	assert.Zero(t, f.Len())
	f.set(dp)
	assert.NotSame(t, before, f.mustGet(prod))
}

func TestOtherErrorsOfReadingLeaveTheClient(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	f.set(server.DataPlane("prod", "alice"))
	before := f.mustGet(prod)
	failure := apierrors.NewForbidden(v1alpha1.Resource("dataplanes"), "prod", nil) // by the cluster that holds the DataPlane
	f.fail(failure)
	_, err := f.Get(prod)
	require.ErrorIs(t, err, failure)
	require.ErrorContains(t, err, "data plane default/prod: ")
	assertClassified(t, remote.ReachabilityUnknown, err)
	assert.False(t, isClosed(before))
	f.fail(nil)
	assert.Same(t, before, f.mustGet(prod))
}

func TestAClientWaitsForCredentialsThatCanBeUsed(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	good := server.DataPlane("prod", "alice")
	f.set(good.DeepCopy())
	before := f.mustGet(prod)
	for _, test := range []struct {
		edit func(*v1alpha1.APIServerCredentials)
		want error
	}{
		{func(creds *v1alpha1.APIServerCredentials) { creds.ClientKey = "?" }, helpers.ErrInvalidCredentials},
		{func(creds *v1alpha1.APIServerCredentials) { *creds = v1alpha1.APIServerCredentials{} }, helpers.ErrNoCredentials},
	} {
		bad := good.DeepCopy()
		test.edit(&bad.Spec.KubernetesCluster.Credentials)
		f.set(bad)
		for range 2 {
			c, err := f.Get(prod)
			require.ErrorIs(t, err, test.want)
			assert.Nil(t, c)
		}
		_, err := get(t.Context(), before.Cluster, "/")
		require.ErrorIs(t, err, test.want, "never by the old ones")
		assert.False(t, isClosed(before))
	}
	f.set(server.DataPlane("prod", "bob"))
	assert.Same(t, before, f.mustGet(prod))
	f.requireUser("bob", before)
	assert.Len(t, f.builds, 1)
}

func TestABuildThatFailsIsTriedAgain(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	for name, fail := range map[string]func(){"error": func() {}, "panic": func() { panic("in the caller's code") }} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, remote.Options{})
			f.set(server.DataPlane("prod", "alice"))
			f.onBuild = func(*remote.Cluster) error {
				fail()
				return errors.New("no client today")
			}
			for i := range 2 {
				if name == "panic" {
					assert.PanicsWithValue(t, "in the caller's code", func() { _, _ = f.Get(prod) })
				} else {
					_, err := f.Get(prod)
					require.EqualError(t, err, "data plane default/prod: no client today")
				}
				assert.True(t, isClosed(f.builds[i]))
				assert.Zero(t, f.Len())
			}
			f.onBuild = nil
			f.requireUser("alice", f.mustGet(prod))
		})
	}
}

func TestGetBuildsAnewWhenTheCallerHasClosedTheCluster(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	f.set(server.DataPlane("prod", "alice"))
	before := f.mustGet(prod)
	before.Close()
	f.requireUser("alice", f.mustGet(prod))
}

func TestDataPlanesOfACacheShareNoConnection(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	a := f.set(server.DataPlane("a", "alice"))
	b := a.DeepCopy() // the same credentials
	b.Name = "b"
	f.set(b)
	keyA, keyB := types.NamespacedName{Namespace: "default", Name: "a"}, types.NamespacedName{Namespace: "default", Name: "b"}
	f.requireUser("alice", f.mustGet(keyA))
	f.requireUser("alice", f.mustGet(keyB))
	require.NoError(t, f.indexer.Delete(a))
	_, err := f.Get(keyA)
	require.True(t, apierrors.IsNotFound(err))
	require.Eventually(t, func() bool { return server.Open() == 1 }, 10*time.Second, time.Millisecond)
	f.requireUser("alice", f.mustGet(keyB))
	assert.Equal(t, 2, server.Accepted())
}
