// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// A replica's Status shows that the namespace of its Leases is missing. Once the namespace exists,
// the replica joins.
func TestShardingReportsAMissingNamespace(t *testing.T) {
	t.Parallel()
	s, h := shared.space(t), &history{}
	planes, leases := s.createPlanes(t, 2), shared.in("leases-of-"+s.namespace)
	f := newReplica(s.informer(t), fleet.Sharding{
		Leases: s.kubernetes.CoordinationV1(), Namespace: leases.namespace, Identity: "a", Shards: 2, LeaseDuration: shortLease,
	}, h.record)
	runFleet(t, f)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		sharding := f.Status().Sharding
		require.Empty(c, sharding.Leads)
		require.NotEmpty(c, sharding.LastError)
		require.Contains(c, sharding.LastError, `namespaces "`+leases.namespace+`" not found`)
	}, eventually, tick)
	_, err := s.kubernetes.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: leases.namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	h.await(t, eventually, 2, planes, "a")
	require.Eventually(t, func() bool { return f.Status().Sharding.LastError == "" }, eventually, tick)
}

// Run waits if a new Lease is forbidden for another reason than a missing right: a used-up quota,
// or a terminating namespace. Replicas that have their Leases keep them.
func TestShardingReportsWhyALeaseIsForbidden(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, s, leases *space, identity string) *fleet.Fleet {
		t.Helper()
		f := newReplica(s.informer(t), fleet.Sharding{
			Leases: s.kubernetes.CoordinationV1(), Namespace: leases.namespace, Identity: identity, Shards: 2, LeaseDuration: shortLease,
		}, (&history{}).record)
		runFleet(t, f)
		return f
	}
	// requireWaits requires that a replica waits longer than it would with a missing right.
	requireWaits := func(t *testing.T, f *fleet.Fleet, reason string) {
		t.Helper()
		began := time.Now()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.Empty(c, f.Status().Sharding.Leads)
			require.Contains(c, f.Status().Sharding.LastError, reason)
			require.Greater(c, time.Since(began), 3*shortLease)
		}, eventually, tick)
		require.NotContains(t, f.Status().Sharding.LastError, fleet.ErrStopped.Error())
	}
	t.Run("quota", func(t *testing.T) {
		t.Parallel()
		s := shared.space(t)
		a := start(t, s, s, "a")
		leads := func() bool { return len(a.Status().Sharding.Leads) == 2 && a.Status().Sharding.LastError == "" }
		require.Eventually(t, leads, eventually, tick)
		limit := corev1.ResourceList{"count/leases.coordination.k8s.io": resource.MustParse("3")}
		quota, err := s.kubernetes.CoreV1().ResourceQuotas(s.namespace).Create(t.Context(), &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Name: "leases"}, Spec: corev1.ResourceQuotaSpec{Hard: limit},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		quota.Status = corev1.ResourceQuotaStatus{Hard: limit, Used: limit} // no controller counts objects here
		_, err = s.kubernetes.CoreV1().ResourceQuotas(s.namespace).UpdateStatus(t.Context(), quota, metav1.UpdateOptions{})
		require.NoError(t, err)
		requireWaits(t, start(t, s, s, "b"), "exceeded quota")
		require.Eventually(t, leads, eventually, tick)
	})
	t.Run("terminating namespace", func(t *testing.T) {
		t.Parallel()
		s := shared.space(t)
		leases := shared.in("leases-of-" + s.namespace)
		namespaces := s.kubernetes.CoreV1().Namespaces()
		_, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: leases.namespace}}, metav1.CreateOptions{})
		require.NoError(t, err)
		require.NoError(t, namespaces.Delete(t.Context(), leases.namespace, metav1.DeleteOptions{})) // no controller empties it here
		requireWaits(t, start(t, s, leases, "a"), "being terminated")
	})
}

// While an informer can't list, Status shows why. Once it can, the Fleet continues.
func TestFleetReportsWhyItsInformerCannotList(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, config *rest.Config, namespace string) *fleet.Fleet {
		t.Helper()
		client, err := openchoreoclient.NewForConfig(config)
		require.NoError(t, err)
		factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0, openchoreoinformers.WithNamespace(namespace))
		f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{}, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())
		factory.Start(t.Context().Done())
		t.Cleanup(factory.Shutdown)
		runFleet(t, f)
		return f
	}
	requireError := func(t *testing.T, f *fleet.Fleet, want string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			status := f.Status()
			require.False(c, status.Informers[0].Synced)
			require.Contains(c, status.Informers[0].Error, want)
			require.NotZero(c, status.Informers[0].ErrorTime)
		}, eventually, tick)
	}
	requireSynced := func(t *testing.T, f *fleet.Fleet) {
		t.Helper()
		require.Eventually(t, func() bool { return f.Status().Informers[0].Synced }, eventually, tick)
	}
	t.Run("a right is missing", func(t *testing.T) {
		t.Parallel()
		s := shared.space(t)
		user := "agent-in-" + s.namespace
		f := start(t, addUser(t, shared, user).Config(), s.namespace)
		requireError(t, f, `cannot list resource "dataplanes"`)
		s.grant(t, user, openchoreov1alpha1.GroupName, "dataplanes", "list", "watch")
		requireSynced(t, f)
	})
	t.Run("the CRD is missing", func(t *testing.T) {
		t.Parallel()
		cp, err := controlplane.Start(t.Context(), controlplane.WithName(t.Name()))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, cp.Stop()) })
		f := start(t, cp.Config(), "default")
		requireError(t, f, "could not find the requested resource")
		require.NoError(t, cp.InstallCRDs(t.Context(), crds.DataPlane()))
		requireSynced(t, f)
	})
}

// runFleet runs a Fleet until the test ends.
func runFleet(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- f.Run(t.Context()) }()
	t.Cleanup(func() { assert.NoError(t, <-result) })
}
