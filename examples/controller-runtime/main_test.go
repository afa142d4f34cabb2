// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
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
		"config map default/clustergateway.default holds the hosts",
		"external: apps.example.com",
		"target-1 has config map default/clustergateway.default again after ",
		"Done: ",
	} {
		assert.Contains(t, p.Stdout(), want)
	}
	p.LeavesNothing()
}

// TestController runs the controller with the rights and arguments of the manifest.
func TestController(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	p := e.startController(t)
	e.create(t, e.Targets[0], "production")
	e.create(t, e.Targets[1], "other")
	e.createCluster(t, "default")

	t.Run("configures the gateway of each data plane in its cluster", func(t *testing.T) {
		for i, name := range []string{"production", "other"} {
			dp := e.waitUntil(t, name, metav1.ConditionTrue, "Configured")
			assert.Equal(t, map[string]string{
				"publicVirtualHost": "api.example.com", "organizationVirtualHost": "internal.example.com",
			}, e.configMap(t, i, "gateway.default."+name))
			owners, err := fieldset.Managers(dp, ".metadata.finalizers")
			require.NoError(t, err)
			assert.Equal(t, []string{"gateway-example"}, owners)
		}
		e.waitUntilCluster(t, "default", metav1.ConditionTrue, "Configured")
		assert.Equal(t, map[string]string{"external": "apps.example.com"}, e.configMap(t, 0, "clustergateway.default"))
	})

	t.Run("watches its config maps, with credentials and through the gateway", func(t *testing.T) {
		for _, name := range []string{"gateway.default.production", "clustergateway.default"} {
			e.deleteConfigMap(t, name)
			e.waitForConfigMap(t, name)
		}
	})

	t.Run("follows the spec and keeps the fields of other managers", func(t *testing.T) {
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
		}, e.configMap(t, 0, "gateway.default.production"))
		assert.Equal(t, "Theirs", helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionConnected).Reason)
	})

	follower := e.startController(t)
	t.Run("a follower takes over from a leader that ends", func(t *testing.T) {
		p.Signal(syscall.SIGTERM)
		assert.Zero(t, p.Wait(), p)
		e.deleteConfigMap(t, "gateway.default.production")
		e.waitForConfigMap(t, "gateway.default.production")
	})

	t.Run("cleans up before a data plane is gone", func(t *testing.T) {
		e.remove(t, "production")
		assert.Nil(t, e.configMap(t, 0, "gateway.default.production"))
		assert.NotNil(t, e.configMap(t, 1, "gateway.default.other"))
	})

	t.Run("doesn't delay a deletion if the cluster can't be reached any more", func(t *testing.T) {
		e.create(t, e.Targets[0], "lost")
		e.waitUntil(t, "lost", metav1.ConditionTrue, "Configured")
		e.change(t, "lost", func(spec *openchoreov1alpha1.DataPlaneSpec) { spec.KubernetesCluster.Credentials.ClientKey = "%%%" })
		e.waitUntil(t, "lost", metav1.ConditionFalse, "InvalidCredentials")
		e.remove(t, "lost")
		assert.NotNil(t, e.configMap(t, 0, "gateway.default.lost"))
	})

	t.Run("waits for the certificate of the gateway, even with a deletion", func(t *testing.T) {
		require.NoError(t, os.Truncate(filepath.Join(e.certificates, "tls.key"), 0)) // a file that is being written
		e.createCluster(t, "new")
		clusterDataPlanes := e.Client.OpenChoreoV1alpha1().ClusterDataPlanes()
		require.NoError(t, clusterDataPlanes.Delete(t.Context(), "default", metav1.DeleteOptions{}))
		for _, name := range []string{"default", "new"} {
			e.waitUntilCluster(t, name, metav1.ConditionFalse, "InvalidCredentials")
		}
		e.writeCertificates(t)
		e.waitUntilCluster(t, "new", metav1.ConditionTrue, "Configured")
		ctx, cancel := context.WithTimeout(t.Context(), demotest.Patience)
		defer cancel()
		require.NoError(t, await.ForDeletion(ctx, clusterDataPlanes, "default"))
		assert.Nil(t, e.configMap(t, 0, "clustergateway.default"))
	})

	t.Run("ends after SIGTERM, and only --release removes the config maps", func(t *testing.T) {
		follower.Signal(syscall.SIGTERM)
		assert.Zero(t, follower.Wait(), follower)
		assert.NotContains(t, follower.String(), "forbidden", "the manifest grants all rights that the controller uses")
		assert.NotNil(t, e.configMap(t, 1, "gateway.default.other"))

		p := demotest.Start(t, "controller-runtime", e.kubeconfig, "--release")
		assert.Equal(t, 1, p.Wait(), "without --gateway")
		assert.Contains(t, p.String(), "/new keeps finalizer openchoreo.dev/gateway-example: ")
		assert.NotNil(t, e.configMap(t, 0, "clustergateway.new"))

		p = demotest.Start(t, "controller-runtime", append(e.releaseArgs(t), e.kubeconfig)...)
		assert.Zero(t, p.Wait(), p)
		dp := e.waitUntil(t, "other", metav1.ConditionFalse, "Removed")
		assert.Empty(t, dp.Finalizers)
		assert.Nil(t, e.configMap(t, 1, "gateway.default.other"))
		assert.Nil(t, e.configMap(t, 0, "clustergateway.new"))
	})

	t.Run("needs no rights outside the namespace that it serves", func(t *testing.T) {
		team, err := e.InNamespace(t.Context(), "team-a")
		require.NoError(t, err)
		demotest.Apply(t, e.Clusters, demotest.ReadFile(t, "namespaced.yaml"))
		e.deployed(t, "team-a")
		p := e.startController(t)
		e.create(t, e.Targets[1], "elsewhere")
		e.Clusters = team
		e.create(t, e.Targets[0], "mine")
		e.waitUntil(t, "mine", metav1.ConditionTrue, "Configured")
		assert.NotNil(t, e.configMap(t, 0, "gateway.team-a.mine"))
		assert.Nil(t, e.configMap(t, 1, "gateway.default.elsewhere"))
		p.Signal(syscall.SIGTERM)
		assert.Zero(t, p.Wait(), p)
		assert.NotContains(t, p.String(), "forbidden")
	})
}

func TestAClusterThatAsksForPatienceHoldsNoWorker(t *testing.T) {
	t.Parallel()
	server := dataplanetest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	dp := dataplanetest.DataPlane("default", "prod", server.As("user"))
	dp.Finalizers = []string{finalizer}
	scheme, err := newScheme()
	require.NoError(t, err)
	r := &gatewayReconciler{targets: newTargets(func(types.NamespacedName) (*openchoreov1alpha1.DataPlane, error) {
		return dp, nil
	}, &rest.Config{}, scheme, nil)}
	t.Cleanup(r.targets.Close)
	for name, do := range map[string]func(context.Context, *openchoreov1alpha1.DataPlane) error{
		"provision": r.provision, "delete": r.deleteConfigMap,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*targetTimeout)
			defer cancel()
			require.ErrorIs(t, do(ctx, dp), context.DeadlineExceeded)
			require.NoError(t, ctx.Err())
		})
	}
}

// The program uses nothing of the other examples.
func TestCanBeCopied(t *testing.T) {
	t.Parallel()
	dir := demotest.Copy(t, "main.go", "manager.go", "reconciler.go", "targets.go", "apply.go")
	demotest.Go(t, dir, "list", "-export", ".") // compiles it, and links nothing
}

func TestRefusesBadFlags(t *testing.T) {
	t.Parallel()
	for args, code := range map[string]int{
		"surplus --kubeconfig=x": 2, "--kubeconfig=x surplus": 2, "--namespace=team": 2,
		"--kubeconfig=x --gateway-ca=x": 2, "--kubeconfig=x --gateway=https://x --gateway-ca=x": 2,
		"--kubeconfig=x --gateway=http://x": 2, "--kubeconfig=x --gateway=https://x --gateway-cert=x": 2,
		"--kubeconfig=x": 1,
	} {
		p := demotest.Start(t, "controller-runtime", strings.Fields(args)...)
		assert.Equal(t, code, p.Wait(), args)
		assert.NotContains(t, strings.TrimSpace(p.String()), "\n", "one line")
	}
}

// environment is a set of clusters for the controller.
type environment struct {
	*demo.Clusters
	gateway      *dataplanetest.Gateway
	certificates string   // the folder of the certificates for the gateway
	kubeconfig   string   // a flag
	args         []string // of the controller
}

func newEnvironment(t *testing.T) *environment {
	t.Helper()
	e := &environment{Clusters: demotest.Clusters(t, 2), gateway: dataplanetest.NewGateway(), certificates: t.TempDir()}
	t.Cleanup(e.gateway.Close)
	require.NoError(t, e.Plane.InstallCRDs(t.Context(), crds.ClusterDataPlane()))
	for _, plane := range []string{"default", "new"} {
		e.gateway.Connect(plane, dataplanetest.Agent(e.Targets[0].Config()))
	}
	e.writeCertificates(t)
	demotest.PrepareOpenChoreo(t, e.Clusters)
	demotest.Apply(t, e.Clusters, demotest.ReadFile(t, "manifest.yaml"))
	e.deployed(t, demotest.OpenChoreo)
	return e
}

// writeCertificates writes the files that the Deployment mounts.
func (e *environment) writeCertificates(t *testing.T) {
	t.Helper()
	_, err := demo.GatewayFlags(e.gateway.Config(), e.certificates)
	require.NoError(t, err)
}

// deployed gives the next controller the arguments and the ServiceAccount of the Deployment in a namespace.
func (e *environment) deployed(t *testing.T, namespace string) {
	t.Helper()
	e.kubeconfig = "--kubeconfig=" + demotest.ServiceAccount(t, e.Clusters, namespace, name, authorizationv1.ResourceAttributes{
		Namespace: namespace, Group: openchoreov1alpha1.SchemeGroupVersion.Group, Resource: "dataplanes", Verb: "list",
	})
	e.args = append(demotest.Args(demotest.Deployment(t, e.Clusters, namespace, name), e.gateway.Config().Host, e.certificates),
		e.kubeconfig, "--metrics-bind-address=0", "--health-probe-bind-address=0")
}

// releaseArgs applies the Job of release.yaml, and returns the arguments of its container.
func (e *environment) releaseArgs(t *testing.T) []string {
	t.Helper()
	demotest.Apply(t, e.Clusters, demotest.ReadFile(t, "release.yaml"))
	job, err := e.Core.BatchV1().Jobs(demotest.OpenChoreo).Get(t.Context(), name+"-release", metav1.GetOptions{})
	require.NoError(t, err)
	pod, deployed := job.Spec.Template.Spec, demotest.Deployment(t, e.Clusters, demotest.OpenChoreo, name)
	assert.Equal(t, deployed.ServiceAccountName, pod.ServiceAccountName)
	assert.Equal(t, deployed.Volumes, pod.Volumes)
	assert.Equal(t, deployed.Containers[0].Image, pod.Containers[0].Image)
	assert.Equal(t, deployed.Containers[0].VolumeMounts, pod.Containers[0].VolumeMounts)
	return demotest.Args(pod, e.gateway.Config().Host, e.certificates)
}

func (e *environment) startController(t *testing.T) *demotest.Process {
	t.Helper()
	return demotest.Start(t, "controller-runtime", e.args...)
}

// create creates a DataPlane whose user may write config maps.
func (e *environment) create(t *testing.T, target *demo.Target, name string) {
	t.Helper()
	_, err := e.Create(t.Context(), target, name, []rbacv1.PolicyRule{mayWrite})
	require.NoError(t, err)
}

func (e *environment) change(t *testing.T, name string, edit func(*openchoreov1alpha1.DataPlaneSpec)) {
	t.Helper()
	_, err := changeSpec(t.Context(), e.DataPlanes, name, edit)
	require.NoError(t, err)
}

// waitUntil returns the DataPlane once the controller has reported on its generation.
func (e *environment) waitUntil(t *testing.T, name string, status metav1.ConditionStatus, reason string) *openchoreov1alpha1.DataPlane {
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
func (e *environment) remove(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, e.DataPlanes.Delete(t.Context(), name, metav1.DeleteOptions{}))
	ctx, cancel := context.WithTimeout(t.Context(), demotest.Patience)
	defer cancel()
	require.NoError(t, await.ForDeletion(ctx, e.DataPlanes, name))
}

// createCluster creates a ClusterDataPlane, behind the gateway.
func (e *environment) createCluster(t *testing.T, name string) {
	t.Helper()
	_, err := e.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Create(t.Context(), newClusterDataPlane(name), metav1.CreateOptions{})
	require.NoError(t, err)
}

// waitUntilCluster waits for a report on the ClusterDataPlane, which may be under deletion.
func (e *environment) waitUntilCluster(t *testing.T, name string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	assert.NoError(t, wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, demotest.Patience, true, func(ctx context.Context) (bool, error) {
		plane, err := e.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		condition := meta.FindStatusCondition(plane.Status.Conditions, gatewayProvisioned)
		return condition != nil && condition.Status == status && condition.Reason == reason, nil
	}), "%s should be %s, %s", name, status, reason)
}

// configMap returns the data of a config map in a target, or nil if there is no such config map.
func (e *environment) configMap(t *testing.T, target int, name string) map[string]string {
	t.Helper()
	configMap, err := e.Targets[target].Core.CoreV1().ConfigMaps(targetNamespace).Get(t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(t, err)
	return configMap.Data
}

// deleteConfigMap deletes a config map in the first target.
func (e *environment) deleteConfigMap(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, e.Targets[0].Core.CoreV1().ConfigMaps(targetNamespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
}

func (e *environment) waitForConfigMap(t *testing.T, name string) {
	t.Helper()
	require.Eventually(t, func() bool { return e.configMap(t, 0, name) != nil }, demotest.Patience, 20*time.Millisecond)
}
