// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestKubeconfigForIsWhatClientcmdReads(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	kubeconfig, err := helpers.KubeconfigFor(dp)
	require.NoError(t, err)
	data, err := clientcmd.Write(*kubeconfig)
	require.NoError(t, err)
	read, err := clientcmd.RESTConfigFromKubeConfig(data)
	require.NoError(t, err)
	want, err := helpers.RESTConfigFor(dp)
	require.NoError(t, err)
	assert.Equal(t, want.Host, read.Host)
	assert.Equal(t, want.TLSClientConfig, read.TLSClientConfig)
	assert.Equal(t, "default/production-dataplane", kubeconfig.CurrentContext)

	_, err = helpers.KubeconfigFor(nil)
	require.EqualError(t, err, "nil data plane")
}

func TestKubeconfigsOfTwoNamespacesCanBeMerged(t *testing.T) {
	one, other := dataplanetest.DataPlane("default", "production-dataplane"), dataplanetest.DataPlane("default", "production-dataplane")
	other.Namespace, other.Spec.KubernetesCluster.Credentials.APIServerURL = "other", "https://other.example.com"
	rules := clientcmd.ClientConfigLoadingRules{}
	for _, dp := range []*v1alpha1.DataPlane{one, other} {
		kubeconfig, err := helpers.KubeconfigFor(dp)
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "kubeconfig")
		require.NoError(t, clientcmd.WriteToFile(*kubeconfig, file))
		rules.Precedence = append(rules.Precedence, file)
	}
	merged, err := rules.Load()
	require.NoError(t, err)
	for _, dp := range []*v1alpha1.DataPlane{one, other} {
		config, err := clientcmd.NewNonInteractiveClientConfig(*merged, dp.Namespace+"/"+dp.Name, nil, nil).ClientConfig()
		require.NoError(t, err)
		assert.Equal(t, dp.Spec.KubernetesCluster.Credentials.APIServerURL, config.Host)
		assert.Equal(t, dp.Spec.KubernetesCluster.Credentials.ClientKey, pki.Encode(config.KeyData))
	}
}
