// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

// CredentialsFor returns the credentials of config in the form of a DataPlane's spec. Use it
// to register a cluster, for example from a kubeconfig or from envtest. It is the inverse of
// [RESTConfigFor]. It reads CAFile, CertFile and KeyFile if the data isn't inline, makes no
// request and doesn't modify config. If a file holds both certificate and key, as kubeadm's
// do, each field gets only its part.
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
		return none, errors.Join(append(errs, fmt.Errorf("TLSClientConfig: %w", redact.Error(err)))...)
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
	if errs = configErrors(creds); len(errs) > 0 { // too long, since onlyPEM broke long lines
		return none, errors.Join(errs...)
	}
	return creds, nil
}

// configErrors returns the faults of credentials, with the names of the rest.Config fields
// that they come from.
func configErrors(creds v1alpha1.APIServerCredentials) (errs []error) {
	names := []string{"Host", "TLSClientConfig.CAData", "TLSClientConfig.CertData", "TLSClientConfig.KeyData"}
	for i, err := range decodeCredentials(creds).faults() {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", names[i], errors.Unwrap(err)))
		}
	}
	return errs
}
