// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// RESTConfigFor returns a client configuration for the cluster that dp describes. It
// verifies the API server against the CA in the spec and authenticates with the client
// certificate in the spec. It makes no request and reads no file.
//
// The caller owns the result and may change it: set UserAgent, QPS, Proxy, ServerName,
// Impersonate or WrapTransport like on any other rest.Config. QPS is 50 and Burst 100.
// Timeout is 0, because client-go applies it to watches too; give each request a context
// with a deadline instead.
//
// client-go caches the connections of such a configuration for the life of the process
// and doesn't close them when the DataPlane changes. Use this function in short-lived
// programs. Long-running programs use the package helpers/remote.
//
// The error is [ErrNoCredentials] if dp holds no credentials, as in later OpenChoreo
// releases, and [ErrSecretsDropped] if its secrets were redacted. Otherwise it joins one
// [CredentialsError] for each invalid field. An expired certificate is no error: the API
// server judges it by its own clock.
func RESTConfigFor(dp *v1alpha1.DataPlane) (*rest.Config, error) {
	if err := requireCredentials(dp); err != nil {
		return nil, err
	}
	m := decodeCredentials(dp.Spec.KubernetesCluster.Credentials)
	if err := errors.Join(m.faults()...); err != nil {
		return nil, err
	}
	return m.config(), nil
}

// hostURL returns config.Host as a URL. To client-go it may be a host and a port alone.
func hostURL(config *rest.Config) (string, error) {
	if config.Host == "" || strings.Contains(config.Host, "://") {
		return config.Host, nil
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil { // which shows the host
		return "", errors.New("must be a URL or host:port")
	}
	return server.String(), nil
}

// KubeconfigFor returns a kubeconfig for the cluster that dp describes. Its only cluster,
// user and context are all named "namespace/name" after dp, so the kubeconfigs of several
// data planes can be merged. Certificates and key are inline: a file written with
// clientcmd.WriteToFile contains the client key.
//
// The caller owns the result. Errors are those of [RESTConfigFor].
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

// CredentialsFor returns the credentials of config as a DataPlane's spec holds them. It
// is the inverse of [RESTConfigFor] and serves to register a cluster, for example from a
// kubeconfig or from envtest. It reads CAFile, CertFile and KeyFile if the data isn't
// inline, makes no request and doesn't modify config. If a file holds both certificate and
// key, as kubeadm's do, each field gets only its part.
//
// [RESTConfigFor] accepts every result. The error joins one error for each rest.Config
// field that is missing, invalid, or can't be stored in a DataPlane: tokens, passwords,
// plugins, impersonation, Insecure, ServerName, Proxy, Dial and custom transports.
// Client preferences, such as QPS, UserAgent, Timeout and ContentType, are ignored.
func CredentialsFor(config *rest.Config) (v1alpha1.APIServerCredentials, error) {
	var none v1alpha1.APIServerCredentials
	if config == nil {
		return none, errors.New("nil rest.Config")
	}
	var errs []error
	as := config.Impersonate
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"Username", config.Username != ""},
		{"Password", config.Password != ""},
		{"BearerToken", config.BearerToken != ""},
		{"BearerTokenFile", config.BearerTokenFile != ""},
		{"Impersonate", as.UserName != "" || as.UID != "" || len(as.Groups) > 0 || len(as.Extra) > 0},
		{"AuthProvider", config.AuthProvider != nil},
		{"ExecProvider", config.ExecProvider != nil},
		{"TLSClientConfig.Insecure", config.Insecure},
		{"TLSClientConfig.ServerName", config.ServerName != ""},
		{"Transport", config.Transport != nil},
		{"WrapTransport", config.WrapTransport != nil},
		{"Dial", config.Dial != nil},
		{"Proxy", config.Proxy != nil},
	} {
		if field.set {
			errs = append(errs, fmt.Errorf("%s: can't be stored in a DataPlane", field.name))
		}
	}
	loaded := *config
	if err := rest.LoadTLSFiles(&loaded); err != nil {
		return none, errors.Join(append(errs, fmt.Errorf("TLSClientConfig: %w", err))...)
	}
	host, err := hostURL(&loaded)
	if err != nil {
		return none, errors.Join(append(errs, fmt.Errorf("%s: %w", "Host", err))...)
	}
	encode := base64.StdEncoding.EncodeToString
	creds := v1alpha1.APIServerCredentials{
		APIServerURL: host,
		CACert:       encode(loaded.CAData),
		ClientCert:   encode(loaded.CertData),
		ClientKey:    encode(loaded.KeyData),
	}
	if errs = append(errs, configErrors(creds)...); len(errs) > 0 {
		return none, errors.Join(errs...)
	}
	creds.ClientCert = encode(onlyPEM(loaded.CertData, func(block *pem.Block) bool { return block.Type == blockCertificate }))
	creds.ClientKey = encode(onlyPEM(loaded.KeyData, isPrivateKey))
	if errs = configErrors(creds); len(errs) > 0 { // too long, now that lines are broken
		return none, errors.Join(errs...)
	}
	return creds, nil
}

// configErrors returns the faults of credentials as errors of the configuration that they
// come from.
func configErrors(creds v1alpha1.APIServerCredentials) (errs []error) {
	names := []string{"Host", "TLSClientConfig.CAData", "TLSClientConfig.CertData", "TLSClientConfig.KeyData"}
	for i, err := range decodeCredentials(creds).faults() {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", names[i], errors.Unwrap(err)))
		}
	}
	return errs
}
