// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package envtest_test tests the reconciler of the example unittest on a real API server, by
// controller-runtime's envtest:
//
//	go -C examples test ./envtest
package envtest_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/unittest"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func TestReconciler(t *testing.T) {
	crd := filepath.Join(t.TempDir(), crds.DataPlaneName+".yaml")
	require.NoError(t, os.WriteFile(crd, crds.DataPlane(), 0o600))
	env := &envtest.Environment{CRDDirectoryPaths: []string{crd}}
	// In your test, delete these lines, and set KUBEBUILDER_ASSETS to the output of setup-envtest use -p path.
	var err error
	env.BinaryAssetsDirectory, err = controlplane.Binaries(t.Context(), os.Stderr)
	require.NoError(t, err)
	config, err := env.Start()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, env.Stop()) })

	scheme := runtime.NewScheme()
	require.NoError(t, openchoreov1alpha1.AddToScheme(scheme))
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Logger:  testr.New(t),
		Metrics: metricsserver.Options{BindAddress: "0"}, // no server
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	require.NoError(t, unittest.SetUp(ctx, mgr))
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})

	client, err := openchoreoclient.NewForConfig(config)
	require.NoError(t, err)
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
	// The API server stores the DataPlane and is its target cluster.
	dp, err := dataPlanes.Create(ctx, dataplanetest.DataPlane("default", "prod", dataplanetest.WithCredentials(config)), metav1.CreateOptions{})
	require.NoError(t, err)
	dp, err = await.For(ctx, dataPlanes, dp.Name, await.True(openchoreov1alpha1.DataPlaneConditionConnected))
	require.NoError(t, err)

	// The API server rejects the next certificate, which another authority issued.
	stranger := dataplanetest.DataPlane("default", "stranger").Spec.KubernetesCluster.Credentials
	dp.Spec.KubernetesCluster.Credentials.ClientCert = stranger.ClientCert
	dp.Spec.KubernetesCluster.Credentials.ClientKey = stranger.ClientKey
	dp, err = dataPlanes.Update(ctx, dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	dp, err = await.For(ctx, dataPlanes, dp.Name, await.Match("Connected=False", func(r helpers.Report) bool {
		return r.Connected.Status == metav1.ConditionFalse
	}), await.MinGeneration(dp.Generation))
	require.NoError(t, err)
	assert.Equal(t, "Unauthorized", helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionConnected).Reason)
}
