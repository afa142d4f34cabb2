// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"errors"
	"fmt"
	"runtime"
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
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

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

func TestANilDataPlaneIsGone(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	dp.ResourceVersion = "1"
	read := func(types.NamespacedName) (*v1alpha1.DataPlane, error) { return dp, nil }
	c := remote.NewCache(read, func(c *remote.Cluster) (*remote.Cluster, error) { return c, nil }, remote.Options{})
	t.Cleanup(c.Close)
	key := types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}
	built, err := c.Get(key)
	require.NoError(t, err)
	dp = nil
	_, err = c.Get(key)
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	testserver.Receive(t, built.Done())
	assert.Zero(t, c.Len())
}

func TestOtherErrorsOfReadingLeaveTheClient(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	f.set(server.DataPlane("prod", "alice"))
	before := f.mustGet(prod)
	failure := apierrors.NewForbidden(v1alpha1.Resource("dataplanes"), "prod", nil) // from the cluster that holds the DataPlane
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

func TestACacheKeepsItsClientThroughAnotherSpellingOfTheAddress(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	dp := f.set(server.DataPlane("prod", "alice"))
	before := f.mustGet(prod)
	spelled := server.DataPlane("prod", "bob")
	spelled.Spec.KubernetesCluster.Credentials.APIServerURL += "/"
	f.Handler().OnUpdate(dp, f.set(spelled))
	assert.Same(t, before, f.mustGet(prod))
	assert.False(t, isClosed(before))
	f.requireUser("bob", before)
}

func TestCacheOfBothKinds(t *testing.T) {
	server := dataplanetest.NewServer(nil)
	t.Cleanup(server.Close)
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	namespaced, cluster := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}),
		cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	get := remote.FromListers(listers.NewDataPlaneLister(namespaced), listers.NewClusterDataPlaneLister(cluster))
	clients := remote.NewCache(get, func(c *remote.Cluster) (*remote.Cluster, error) { return c, nil },
		remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
	t.Cleanup(clients.Close)
	old, v1 := types.NamespacedName{Namespace: "default", Name: "prod"}, types.NamespacedName{Name: "prod"}

	_, err := clients.Get(v1)
	assert.True(t, apierrors.IsNotFound(err))
	require.EqualError(t, err, `data plane prod: clusterdataplane.openchoreo.dev "prod" not found`)
	_, err = clients.Get(old)
	assert.True(t, apierrors.IsNotFound(err))

	require.NoError(t, namespaced.Add(dataplanetest.DataPlane("default", "prod", server.As("alice"), versioned("1"))))
	require.NoError(t, cluster.Add(dataplanetest.ClusterDataPlane("prod", versioned("1"))))
	direct, err := clients.Get(old)
	require.NoError(t, err)
	assert.Equal(t, server.URL(), direct.Config().Host)
	through, err := clients.Get(v1)
	require.NoError(t, err)
	assert.Equal(t, v1, through.Key())
	assert.Contains(t, through.Config().Host, "/prod/_cluster/prod/k8s")
	assert.Contains(t, through.String(), "data plane prod at")
	again, err := clients.Get(v1)
	require.NoError(t, err)
	assert.Same(t, through, again)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = clients.Get(v1) }),
		testing.AllocsPerRun(100, func() { _, _ = clients.Get(old) }), "a hit converts nothing")

	// Another object of the same name is another data plane.
	require.NoError(t, cluster.Update(dataplanetest.ClusterDataPlane("prod", versioned("2"), func(dp *v1alpha1.DataPlane) { dp.UID = "another" })))
	again, err = clients.Get(v1)
	require.NoError(t, err)
	assert.NotSame(t, through, again)
	<-through.Done()

	require.NoError(t, cluster.Delete(dataplanetest.ClusterDataPlane("prod")))
	clients.Handler().OnDelete(cache.DeletedFinalStateUnknown{Key: "prod", Obj: nil})
	<-again.Done()
	_, err = clients.Get(v1)
	assert.True(t, apierrors.IsNotFound(err))
}

func TestCacheOfOneKindHasNoOther(t *testing.T) {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	require.NoError(t, indexer.Add(dataplanetest.ClusterDataPlane("prod")))
	_, err := remote.FromListers(nil, listers.NewClusterDataPlaneLister(indexer))(types.NamespacedName{Namespace: "default", Name: "prod"})
	assert.True(t, apierrors.IsNotFound(err))
	var status apierrors.APIStatus
	require.ErrorAs(t, err, &status)
	assert.Equal(t, "dataplanes", status.Status().Details.Kind)
	_, err = remote.FromListers(listers.NewDataPlaneLister(indexer), nil)(types.NamespacedName{Name: "prod"})
	require.ErrorAs(t, err, &status)
	assert.Equal(t, "clusterdataplanes", status.Status().Details.Kind)
}

func versioned(version string) func(*v1alpha1.DataPlane) {
	return func(dp *v1alpha1.DataPlane) { dp.ResourceVersion = version }
}

func TestCloseOfACacheClosesAll(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	for i := range 20 {
		f.set(server.DataPlane(keyOf(i).Name, "alice"))
		f.requireUser("alice", f.mustGet(keyOf(i)))
	}
	f.Close()
	f.Close()
	for _, c := range f.builds {
		assert.True(t, isClosed(c))
	}
	assert.Zero(t, f.Len())
	_, err := f.Get(keyOf(0))
	require.ErrorIs(t, err, remote.ErrClosed)
	f.Handler().OnAdd(server.DataPlane("dp-0", "alice"), false)
	server.RequireNoConnections()
	server.Close()
	testserver.RequireGoroutines(t, goroutines)
}

func keyOf(i int) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: fmt.Sprint("dp-", i)}
}

func TestOnRotateMayUseTheCache(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	var f *fixture
	rotations := 0
	f = newFixture(t, remote.Options{OnRotate: func(key types.NamespacedName) {
		rotations++
		f.requireUser("bob", f.mustGet(key))
	}})
	f.set(server.DataPlane("prod", "alice"))
	f.mustGet(prod)
	f.set(server.DataPlane("prod", "bob"))
	soon(t, func() { _, _ = f.Get(prod) })
	assert.Equal(t, 1, rotations)
}
