// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/serverurl"
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

// GatewayConfigFor returns a client configuration for the cluster of dp that goes through
// OpenChoreo's cluster gateway. Use it for DataPlanes of OpenChoreo v0.9 and later, which
// hold no credentials: an agent in the data plane connects to the gateway instead.
//
// The result is a copy of gateway with another Host:
// {gateway}/api/proxy/dataplane/{planeID}/{namespace}/{name}/k8s. All other settings, TLS
// among them, are those of gateway, which is not modified. A path in gateway.Host is
// kept. planeID is spec.planeID of the DataPlane, a field that this module's types lack.
// If it is "", the name of dp is used, as OpenChoreo does by default.
//
// The gateway serves unary requests only, for up to 30 s and 10 MB each. It answers 501
// to watch, log --follow, exec, attach and port-forward, so informers don't work, and 502
// while the agent is not connected.
//
// GatewayConfigFor makes no request and reads no credentials of dp. The error names the
// field that is missing or can't be part of the URL. A gateway without TLS is refused.
func GatewayConfigFor(dp *v1alpha1.DataPlane, gateway *rest.Config, planeID string) (*rest.Config, error) {
	switch {
	case dp == nil:
		return nil, errors.New("nil data plane")
	case gateway == nil:
		return nil, errors.New("nil gateway configuration")
	}
	host, err := hostURL(gateway)
	if err != nil {
		return nil, fmt.Errorf("gateway.Host: %w", err)
	}
	server, err := serverurl.ParseAPIServer(host)
	if err != nil {
		return nil, fmt.Errorf("gateway.Host: %w", err)
	}
	if planeID == "" {
		planeID = dp.Name
	}
	for _, segment := range []struct{ field, value string }{
		{"metadata.namespace", dp.Namespace},
		{"metadata.name", dp.Name},
		{"planeID", planeID},
	} {
		if segment.value == "" {
			return nil, fmt.Errorf("%s: must be set", segment.field)
		}
		// client-go undoes the escaping of a slash.
		if invalid := rest.IsValidPathSegmentName(segment.value); len(invalid) > 0 {
			return nil, fmt.Errorf("%s: %s", segment.field, strings.Join(invalid, ", "))
		}
	}
	config := *gateway
	config.Host = server.JoinPath("api/proxy/dataplane", url.PathEscape(planeID),
		url.PathEscape(dp.Namespace), url.PathEscape(dp.Name), "k8s").String()
	return &config, nil
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
		return none, errors.Join(append(errs, fmt.Errorf("Host: %w", err))...)
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
