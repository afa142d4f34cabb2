// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// KubeconfigFor returns a kubeconfig for the cluster that dp describes. Its only cluster,
// user and context are all named "namespace/name" after dp, so the kubeconfigs of several
// data planes can be merged. Certificates and key are inline: a file written with
// clientcmd.WriteToFile contains the client key.
//
// The caller owns the result. The errors are the same as in [RESTConfigFor].
func KubeconfigFor(dp *v1alpha1.DataPlane) (*clientcmdapi.Config, error) {
	config, err := RESTConfigFor(dp)
	if err != nil {
		return nil, err
	}
	name := dp.Namespace + "/" + dp.Name
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	kubeconfig.CurrentContext = name
	return kubeconfig, nil
}
