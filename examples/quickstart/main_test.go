// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

var program string

func TestMain(m *testing.M) { demotest.Main(m, "quickstart", &program) }

func TestQuickstartTakesEveryStep(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program)
	require.Zero(t, p.Wait(), p)
	for _, want := range []string{
		"dataplanes.openchoreo.dev is installed and served",
		"informer: production-dataplane has arrived",
		`conflict with "quickstart": .spec.registry.secretRef`,
		`as "openchoreo-deployer"`,
		"deployed Deployment workloads/greeter, image docker.io/myorg/greeter:1.0",
		`User "openchoreo-deployer" cannot patch resource "configmaps"`,
		"Ready               True     Current",
		"Ready               Unknown  Stale",
		"GatewayProvisioned  Unknown  NotReported",
		`the same client is user "openchoreo-successor" now`,
		"has seen ConfigMap workloads/farewell",
		"Done: ",
	} {
		assert.Contains(t, p.String(), want)
	}
	p.LeavesNothing()
}

func TestQuickstartEndsCleanlyWhenInterrupted(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{"while the clusters start": " 1. ", "while the user is at work": " 8. "} {
		t.Run(name, func(t *testing.T) {
			p := demotest.Start(t, program)
			p.WaitFor(at)
			p.Signal(os.Interrupt)
			assert.Equal(t, 130, p.Wait(), p)
			assert.Contains(t, p.String(), "interrupted; cleaning up")
			p.LeavesNothing()
		})
	}
}

// An existing cluster gets back what it was, except for a definition that others use.
func TestQuickstartOnAnExistingCluster(t *testing.T) {
	t.Parallel()
	existing, err := controlplane.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, existing.Stop()) })
	data, err := existing.Kubeconfig()
	require.NoError(t, err)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, data, 0o600))
	anything, err := dynamic.NewForConfig(existing.Config())
	require.NoError(t, err)
	definitions := anything.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})

	p := demotest.Start(t, program, "--kubeconfig", kubeconfig, "--context", "controlplane")
	require.Zero(t, p.Wait(), p)
	assert.Contains(t, p.String(), "management  "+existing.URL())
	p.LeavesNothing()
	require.Eventually(t, func() bool {
		_, err := definitions.Get(t.Context(), crds.DataPlaneName, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}, demotest.Patience, 50*time.Millisecond, "the definition is left")
	core, err := kubernetes.NewForConfig(existing.Config())
	require.NoError(t, err)
	namespaces, err := core.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, namespace := range namespaces.Items {
		if strings.HasPrefix(namespace.Name, "dataplane-quickstart-") {
			assert.NotNil(t, namespace.DeletionTimestamp, namespace.Name) // no controller finalizes namespaces here
		}
	}

	client, err := openchoreoclient.NewForConfig(existing.Config())
	require.NoError(t, err)
	p = demotest.Start(t, program, "--kubeconfig", kubeconfig)
	p.WaitFor(" 2. ")
	theirs := &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}}
	require.Eventually(t, func() bool {
		_, err := client.OpenChoreoV1alpha1().DataPlanes("default").Create(t.Context(), theirs, metav1.CreateOptions{})
		return err == nil
	}, demotest.Patience, time.Millisecond)
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), "dataplanes.openchoreo.dev stays, because of DataPlane default/theirs")
	_, err = client.OpenChoreoV1alpha1().DataPlanes("default").Get(t.Context(), "theirs", metav1.GetOptions{})
	require.NoError(t, err)
}

func TestQuickstartRefusesBadFlags(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program, "--kubeconfig", filepath.Join(t.TempDir(), "absent"))
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), "absent: no such file or directory")
	assert.Equal(t, 2, demotest.Start(t, program, "surplus").Wait())
}
