// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fieldset"
)

func TestMain(m *testing.M) { demotest.Main(m, ".") }

func TestStory(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, "controller-runtime")
	require.Zero(t, p.Wait(), p)
	for _, want := range []string{
		"GatewayProvisioned is True (Configured) for generation 1",
		"target-1 has config map default/gateway.default.production, written by gateway-example by Apply",
		"publicVirtualHost: www.example.com",
		"GatewayProvisioned is False (Forbidden) for generation 3",
		"GatewayProvisioned is True (Configured) for generation 4",
		"DataPlane production is gone",
		"target-1 has no config map default/gateway.default.production",
		"Done: ",
	} {
		assert.Contains(t, p.Stdout(), want)
	}
	p.LeavesNothing()
}

func TestController(t *testing.T) {
	t.Parallel()
	e := environment{demotest.Clusters(t, 2)}
	p := e.startController(t)
	e.create(t, e.Targets[0], "production")
	e.create(t, e.Targets[1], "other")

	t.Run("configures the gateway of each data plane in its cluster", func(t *testing.T) {
		for i, name := range []string{"production", "other"} {
			dp := e.waitUntil(t, name, metav1.ConditionTrue, "Configured")
			assert.Equal(t, map[string]string{
				"publicVirtualHost": "api.example.com", "organizationVirtualHost": "internal.example.com",
			}, e.configMap(t, i, name))
			owners, err := fieldset.Managers(dp, ".metadata.finalizers")
			require.NoError(t, err)
			assert.Equal(t, []string{"gateway-example"}, owners)
		}
	})

	t.Run("follows the spec and leaves alone what others write", func(t *testing.T) {
		configMaps := e.Targets[0].Core.CoreV1().ConfigMaps(targetNamespace)
		theirs, err := configMaps.Get(t.Context(), "gateway.default.production", metav1.GetOptions{})
		require.NoError(t, err)
		theirs.Data["theirs"] = "stays"
		_, err = configMaps.Update(t.Context(), theirs, metav1.UpdateOptions{FieldManager: "theirs"})
		require.NoError(t, err)
		_, err = e.SetCondition(t.Context(), "production", "theirs", metav1.Condition{
			Type: openchoreov1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, Reason: "Theirs",
		})
		require.NoError(t, err)

		e.change(t, "production", func(spec *openchoreov1alpha1.DataPlaneSpec) { spec.Gateway.PublicVirtualHost = "www.example.com" })
		dp := e.waitUntil(t, "production", metav1.ConditionTrue, "Configured")
		assert.Equal(t, map[string]string{
			"publicVirtualHost": "www.example.com", "organizationVirtualHost": "internal.example.com", "theirs": "stays",
		}, e.configMap(t, 0, "production"))
		assert.Equal(t, "Theirs", helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionConnected).Reason)
	})

	p.Kill()
	require.NoError(t, e.Targets[0].Core.CoreV1().ConfigMaps(targetNamespace).Delete(t.Context(), "gateway.default.production", metav1.DeleteOptions{}))
	p = e.startController(t)
	t.Run("corrects changes that happened while it did not run", func(t *testing.T) {
		require.Eventually(t, func() bool { return e.configMap(t, 0, "production") != nil }, demotest.Patience, 20*time.Millisecond)
	})

	t.Run("cleans up before a data plane is gone", func(t *testing.T) {
		e.remove(t, "production")
		assert.Nil(t, e.configMap(t, 0, "production"))
		assert.NotNil(t, e.configMap(t, 1, "other"))
	})

	t.Run("doesn't delay a deletion if the cluster can't be reached any more", func(t *testing.T) {
		e.create(t, e.Targets[0], "lost")
		e.waitUntil(t, "lost", metav1.ConditionTrue, "Configured")
		e.change(t, "lost", func(spec *openchoreov1alpha1.DataPlaneSpec) { spec.KubernetesCluster.Credentials.ClientKey = "%%%" })
		e.waitUntil(t, "lost", metav1.ConditionFalse, "InvalidCredentials")
		e.remove(t, "lost")
		assert.NotNil(t, e.configMap(t, 0, "lost"))
	})

	t.Run("removes everything that it has written when it ends", func(t *testing.T) {
		p.Signal(syscall.SIGTERM)
		assert.Zero(t, p.Wait(), p)
		dp := e.waitUntil(t, "other", metav1.ConditionFalse, "Removed")
		assert.Empty(t, dp.Finalizers)
		assert.Nil(t, e.configMap(t, 1, "other"))
	})
}

func TestRefusesBadFlags(t *testing.T) {
	t.Parallel()
	demotest.RefusesBadFlags(t, "controller-runtime")
}

// environment is a set of clusters for the controller.
type environment struct{ *demo.Clusters }

func (e environment) startController(t *testing.T) *demotest.Process {
	t.Helper()
	p := demotest.Start(t, "controller-runtime", e.Args()...)
	p.WaitFor("watching DataPlanes in namespace default")
	return p
}

// create creates a DataPlane whose user may write config maps.
func (e environment) create(t *testing.T, target *demo.Target, name string) {
	t.Helper()
	_, err := e.Create(t.Context(), target, name, []rbacv1.PolicyRule{mayWrite})
	require.NoError(t, err)
}

func (e environment) change(t *testing.T, name string, edit func(*openchoreov1alpha1.DataPlaneSpec)) {
	t.Helper()
	_, err := changeSpec(t.Context(), e.DataPlanes, name, edit)
	require.NoError(t, err)
}

// waitUntil returns the DataPlane once the controller has reported on its generation.
func (e environment) waitUntil(t *testing.T, name string, status metav1.ConditionStatus, reason string) *openchoreov1alpha1.DataPlane {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), demotest.Patience)
	defer cancel()
	dp, err := await.For(ctx, e.DataPlanes, name, await.Match(string(status)+" "+reason, func(r helpers.Report) bool {
		verdict := r.Verdict(gatewayProvisioned)
		return verdict.Status == status && verdict.Reason == reason // a stale verdict is Unknown
	}))
	require.NoError(t, err)
	return dp
}

// remove deletes the DataPlane, and waits until the controller has removed its finalizer.
func (e environment) remove(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, e.DataPlanes.Delete(t.Context(), name, metav1.DeleteOptions{}))
	ctx, cancel := context.WithTimeout(t.Context(), demotest.Patience)
	defer cancel()
	require.NoError(t, await.ForDeletion(ctx, e.DataPlanes, name))
}

// configMap returns what the controller has written to a target, or nil if there is nothing.
func (e environment) configMap(t *testing.T, target int, name string) map[string]string {
	t.Helper()
	configMap, err := e.Targets[target].Core.CoreV1().ConfigMaps(targetNamespace).Get(t.Context(), "gateway.default."+name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(t, err)
	return configMap.Data
}
