// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fieldset"
)

func TestMain(m *testing.M) { demotest.Main(m, "controller-runtime", &program) }

var program string

func TestStory(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program)
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
	e := newEnvironment(t, 2)
	// These use the management cluster before the controller does: control planes take time.
	t.Run("apply", func(t *testing.T) { testApply(t, e) })
	if testApplyStatus != nil {
		t.Run("apply of a status", func(t *testing.T) { testApplyStatus(t, e) })
	}
	p := e.startController()
	production, other := e.create(e.Targets[0], "production"), e.create(e.Targets[1], "other")

	t.Run("configures the gateway of each data plane in its cluster", func(t *testing.T) {
		for dp, target := range map[*openchoreov1alpha1.DataPlane]*demo.Target{production: e.Targets[0], other: e.Targets[1]} {
			e.waitUntil(t, dp, metav1.ConditionTrue, "Configured")
			configMap := e.configMap(t, target, dp)
			assert.Equal(t, map[string]string{
				"publicVirtualHost": "api.example.com", "organizationVirtualHost": "internal.example.com",
			}, configMap.Data)
			require.Len(t, configMap.ManagedFields, 1)
			assert.Equal(t, "gateway-example", configMap.ManagedFields[0].Manager)
			assert.Equal(t, metav1.ManagedFieldsOperationApply, configMap.ManagedFields[0].Operation)

			stored := e.get(t, dp)
			assert.Equal(t, []string{finalizer}, stored.Finalizers)
			owners, err := fieldset.Managers(stored, ".metadata.finalizers")
			require.NoError(t, err)
			assert.Equal(t, []string{"gateway-example"}, owners)
		}
	})

	t.Run("follows the spec and leaves alone what others write", func(t *testing.T) {
		configMap := e.configMap(t, e.Targets[0], production)
		before := configMap.DeepCopy()
		configMap.Data["theirs"] = "stays"
		require.NoError(t, e.client(t, e.Targets[0]).Patch(t.Context(), configMap, client.MergeFrom(before)))
		_, err := helpers.PatchConditions(t.Context(), e.dataPlanes, e.get(t, production), []metav1.Condition{{
			Type: openchoreov1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, Reason: "Theirs",
		}}, helpers.PatchOptions{})
		require.NoError(t, err)

		e.change(t, production, func(dp *openchoreov1alpha1.DataPlane) { dp.Spec.Gateway.PublicVirtualHost = "www.example.com" })
		dp := e.waitUntil(t, production, metav1.ConditionTrue, "Configured")
		assert.Equal(t, map[string]string{
			"publicVirtualHost": "www.example.com", "organizationVirtualHost": "internal.example.com", "theirs": "stays",
		}, e.configMap(t, e.Targets[0], production).Data)
		assert.Equal(t, "Theirs", helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionConnected).Reason)
	})

	t.Run("follows the credentials", func(t *testing.T) {
		credentials := func(of *openchoreov1alpha1.DataPlane, err error) func(*openchoreov1alpha1.DataPlane) {
			require.NoError(t, err)
			return func(dp *openchoreov1alpha1.DataPlane) {
				dp.Spec.KubernetesCluster.Credentials = of.Spec.KubernetesCluster.Credentials
			}
		}
		// The earlier user may still write: only the new credentials can be refused.
		e.change(t, production, credentials(e.DataPlane(t.Context(), e.Targets[0], "nobody")))
		dp := e.waitUntil(t, production, metav1.ConditionFalse, "Forbidden")
		assert.Contains(t, helpers.EvaluateCondition(dp, gatewayProvisioned).Message, `User "nobody" cannot patch resource "configmaps"`)

		e.change(t, production, func(dp *openchoreov1alpha1.DataPlane) { dp.Spec.KubernetesCluster.Credentials.ClientKey = "%%%" })
		dp = e.waitUntil(t, production, metav1.ConditionFalse, "InvalidCredentials")
		assert.Contains(t, helpers.EvaluateCondition(dp, gatewayProvisioned).Message, "spec.kubernetesCluster.credentials.clientKey")

		e.change(t, production, credentials(e.DataPlane(t.Context(), e.Targets[0], "successor", mayWrite)))
		e.waitUntil(t, production, metav1.ConditionTrue, "Configured")
	})

	t.Run("corrects changes that happened while it did not run", func(t *testing.T) {
		p.Kill()
		configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: targetNamespace, Name: configMapName(production)}}
		require.NoError(t, e.client(t, e.Targets[0]).Delete(t.Context(), configMap))
		p = e.startController()
		require.Eventually(t, func() bool {
			return e.client(t, e.Targets[0]).Get(t.Context(), client.ObjectKeyFromObject(configMap), configMap) == nil
		}, demotest.Patience, 20*time.Millisecond)
	})

	t.Run("cleans up before a data plane is gone", func(t *testing.T) {
		require.NoError(t, e.dataPlanes.Delete(t.Context(), production.Name, metav1.DeleteOptions{}))
		e.waitUntilGone(t, production)
		e.requireNoConfigMap(t, e.Targets[0], production)
		e.configMap(t, e.Targets[1], other)
	})

	t.Run("doesn't delay a deletion if the cluster can't be reached any more", func(t *testing.T) {
		lost := e.create(e.Targets[0], "lost")
		e.waitUntil(t, lost, metav1.ConditionTrue, "Configured")
		e.change(t, lost, func(dp *openchoreov1alpha1.DataPlane) {
			dp.Spec.KubernetesCluster.Credentials = openchoreov1alpha1.APIServerCredentials{}
		})
		e.waitUntil(t, lost, metav1.ConditionFalse, "InvalidCredentials")
		require.NoError(t, e.dataPlanes.Delete(t.Context(), lost.Name, metav1.DeleteOptions{}))
		e.waitUntilGone(t, lost)
		e.configMap(t, e.Targets[0], lost)
	})

	t.Run("removes everything that it has written when it ends", func(t *testing.T) {
		p.Signal(os.Interrupt)
		assert.Equal(t, 130, p.Wait(), p)
		p.LeavesNothing()
		assert.Empty(t, e.get(t, other).Finalizers)
		e.waitUntil(t, other, metav1.ConditionFalse, "Removed")
		e.requireNoConfigMap(t, e.Targets[1], other)
	})
}

func testApply(t *testing.T, e *environment) {
	t.Helper()
	dp := e.newDataPlane("applied")
	t.Cleanup(func() { assert.NoError(t, client.IgnoreNotFound(e.management.Delete(context.Background(), dp))) })
	creds := dp.Spec.KubernetesCluster.Credentials
	// Each call needs a new one, since apply may overwrite it.
	whole := func() *openchoreoapply.DataPlaneApplyConfiguration {
		return openchoreoapply.DataPlane(dp.Name, dp.Namespace).WithSpec(openchoreoapply.DataPlaneSpec().
			WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().WithName(dp.Spec.KubernetesCluster.Name).
				WithCredentials(openchoreoapply.APIServerCredentials().WithAPIServerURL(creds.APIServerURL).
					WithCACert(creds.CACert).WithClientCert(creds.ClientCert).WithClientKey(creds.ClientKey))).
			WithRegistry(openchoreoapply.Registry().WithPrefix(dp.Spec.Registry.Prefix)).
			WithGateway(openchoreoapply.GatewaySpec().WithPublicVirtualHost(dp.Spec.Gateway.PublicVirtualHost).
				WithOrganizationVirtualHost(dp.Spec.Gateway.OrganizationVirtualHost)))
	}
	require.NoError(t, apply(t.Context(), e.management, whole()))
	stored := e.get(t, dp)
	assert.Equal(t, dp.Spec, stored.Spec)
	require.Len(t, stored.ManagedFields, 1)
	assert.Equal(t, "gateway-example", stored.ManagedFields[0].Manager)
	assert.Equal(t, metav1.ManagedFieldsOperationApply, stored.ManagedFields[0].Operation)

	// With the UID of another object, an apply changes and creates nothing.
	err := apply(t.Context(), e.management, whole().WithUID("other"))
	require.True(t, apierrors.IsInvalid(err), err)
	require.NoError(t, e.management.Delete(t.Context(), dp))
	err = apply(t.Context(), e.management, whole().WithUID(stored.UID))
	require.True(t, apierrors.IsConflict(err), err)
	_, err = e.dataPlanes.Get(t.Context(), dp.Name, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), err)
}

// testApplyStatus is nil with a controller-runtime whose clients can't do it.
var testApplyStatus func(t *testing.T, e *environment)

func TestRefusesArguments(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program, "surplus")
	assert.Equal(t, 2, p.Wait(), p)
}

// environment is a set of clusters for the controller.
type environment struct {
	*demo.Clusters
	t          *testing.T
	management client.Client
	dataPlanes openchoreotyped.DataPlaneInterface
}

func newEnvironment(t *testing.T, targets int) *environment {
	t.Helper()
	clusters, err := demo.Start(t.Context(), &demo.Flags{}, targets, io.Discard)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, clusters.Stop()) })
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, openchoreov1alpha1.AddToScheme(scheme))
	management, err := client.New(clusters.Management, client.Options{Scheme: scheme})
	require.NoError(t, err)
	typed, err := openchoreoclient.NewForConfig(clusters.Management)
	require.NoError(t, err)
	return &environment{
		Clusters: clusters, t: t, management: management,
		dataPlanes: typed.OpenChoreoV1alpha1().DataPlanes(clusters.Namespace),
	}
}

func (e *environment) startController() *demotest.Process {
	e.t.Helper()
	p := demotest.Start(e.t, program, e.Args()...)
	p.WaitFor("watching DataPlanes in namespace default")
	return p
}

// create creates a DataPlane whose user may write config maps.
func (e *environment) create(target *demo.Target, name string) *openchoreov1alpha1.DataPlane {
	e.t.Helper()
	dp, err := e.DataPlane(e.t.Context(), target, name, mayWrite)
	require.NoError(e.t, err)
	require.NoError(e.t, e.management.Create(e.t.Context(), dp))
	return dp
}

// newDataPlane returns a DataPlane of a cluster that doesn't exist.
func (e *environment) newDataPlane(name string) *openchoreov1alpha1.DataPlane {
	return &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: name},
		Spec: openchoreov1alpha1.DataPlaneSpec{
			KubernetesCluster: openchoreov1alpha1.KubernetesClusterSpec{
				Name: "nowhere",
				Credentials: openchoreov1alpha1.APIServerCredentials{
					APIServerURL: "https://127.0.0.1:1", CACert: "ca", ClientCert: "certificate", ClientKey: "key",
				},
			},
			Registry: openchoreov1alpha1.Registry{Prefix: "docker.io/myorg"},
			Gateway:  openchoreov1alpha1.GatewaySpec{PublicVirtualHost: "api.example.com", OrganizationVirtualHost: "internal.example.com"},
		},
	}
}

func (e *environment) get(t *testing.T, dp *openchoreov1alpha1.DataPlane) *openchoreov1alpha1.DataPlane {
	t.Helper()
	stored, err := e.dataPlanes.Get(t.Context(), dp.Name, metav1.GetOptions{})
	require.NoError(t, err)
	return stored
}

func (e *environment) change(t *testing.T, dp *openchoreov1alpha1.DataPlane, mutate func(*openchoreov1alpha1.DataPlane)) {
	t.Helper()
	before := dp.DeepCopy()
	mutate(dp)
	require.NoError(t, e.management.Patch(t.Context(), dp, client.MergeFrom(before)))
}

// waitUntil returns the DataPlane once the controller has reported on its generation.
func (e *environment) waitUntil(t *testing.T, dp *openchoreov1alpha1.DataPlane, status metav1.ConditionStatus, reason string) *openchoreov1alpha1.DataPlane {
	t.Helper()
	reached, err := await.For(timeLimited(t), e.dataPlanes, dp.Name, await.Match(string(status)+" "+reason, func(r helpers.Report) bool {
		verdict := r.Verdict(gatewayProvisioned)
		return verdict.Status == status && verdict.Reason == reason
	}), await.MinGeneration(dp.Generation))
	require.NoError(t, err)
	return reached
}

func (e *environment) waitUntilGone(t *testing.T, dp *openchoreov1alpha1.DataPlane) {
	t.Helper()
	require.NoError(t, await.ForDeletion(timeLimited(t), e.dataPlanes, dp.Name))
}

// client returns a client of an administrator of a target cluster.
func (e *environment) client(t *testing.T, target *demo.Target) client.Client {
	t.Helper()
	c, err := client.New(target.Config(), client.Options{Scheme: e.management.Scheme()})
	require.NoError(t, err)
	return c
}

func (e *environment) configMap(t *testing.T, target *demo.Target, dp *openchoreov1alpha1.DataPlane) *corev1.ConfigMap {
	t.Helper()
	configMap := &corev1.ConfigMap{}
	require.NoError(t, e.client(t, target).Get(t.Context(),
		client.ObjectKey{Namespace: targetNamespace, Name: configMapName(dp)}, configMap))
	return configMap
}

func (e *environment) requireNoConfigMap(t *testing.T, target *demo.Target, dp *openchoreov1alpha1.DataPlane) {
	t.Helper()
	err := e.client(t, target).Get(t.Context(),
		client.ObjectKey{Namespace: targetNamespace, Name: configMapName(dp)}, &corev1.ConfigMap{})
	require.True(t, apierrors.IsNotFound(err), err)
}

func timeLimited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), demotest.Patience)
	t.Cleanup(cancel)
	return ctx
}
