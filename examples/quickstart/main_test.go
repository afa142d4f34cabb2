// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, ".") }

func TestQuickstartTakesEveryStep(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, "quickstart")
	require.Zero(t, p.Wait(), p)
	for _, want := range []string{
		"informer: production-dataplane has arrived",
		`conflict with "quickstart": .spec.registry.secretRef`,
		`as "openchoreo-deployer"`,
		"deployed Deployment default/greeter, image docker.io/myorg/greeter:1.0",
		`User "openchoreo-deployer" cannot patch resource "secrets"`,
		"Ready               True     Current",
		"Ready               Unknown  Stale",
		"GatewayProvisioned  Unknown  NotReported",
		`the same client is user "openchoreo-successor" now`,
		"the same informer, which listed once, has seen ConfigMap default/farewell",
		"created ClusterDataPlane dataplane-quickstart-",
		`the target cluster sees the agent, "openchoreo-agent"`,
		"the informer has seen ConfigMap default/news, ",
		"Done: ",
	} {
		assert.Contains(t, p.String(), want)
	}
	p.LeavesNothing()
}

func TestQuickstartEndsCleanlyWhenInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"starting Kubernetes", " 7. "} {
		p := demotest.Start(t, "quickstart")
		p.WaitFor(at)
		p.Signal(os.Interrupt)
		assert.Zero(t, p.Wait(), p)
		assert.Contains(t, p.String(), "interrupted; cleaning up")
		p.LeavesNothing()
	}
}

func TestQuickstartOnAnExistingCluster(t *testing.T) {
	t.Parallel()
	existing := demotest.Clusters(t, 0)
	args := []string{"--kubeconfig", existing.Plane.KubeconfigFile(), "--context", "controlplane"}
	without := demotest.Start(t, "quickstart", args...)
	without.WaitFor(" 9. ")
	require.NoError(t, existing.Plane.InstallCRDs(t.Context(), crds.ClusterDataPlane()))
	with := demotest.Start(t, "quickstart", args...)
	for p, want := range map[*demotest.Process]string{
		without: "left out, since your cluster serves no ClusterDataPlanes",
		with:    "created ClusterDataPlane dataplane-quickstart-",
	} {
		require.Zero(t, p.Wait(), p)
		assert.Contains(t, p.String(), want)
		p.LeavesNothing()
	}
	list, err := existing.Client.OpenChoreoV1alpha1().DataPlanes("").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list.Items)
	clusterDataPlanes, err := existing.Client.OpenChoreoV1alpha1().ClusterDataPlanes().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, clusterDataPlanes.Items)
	namespaces, err := existing.Core.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, namespace := range namespaces.Items {
		if strings.HasPrefix(namespace.Name, "dataplane-quickstart-") {
			assert.NotNil(t, namespace.DeletionTimestamp, namespace.Name) // no controller finalizes namespaces here
		}
	}
}

func TestQuickstartRefusesBadFlags(t *testing.T) {
	t.Parallel()
	demotest.RefusesBadFlags(t, "quickstart")
}
