// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// User is a user of the API server, with a client certificate. Its fields belong to the caller.
type User struct {
	// Name is the name by which the API server knows the user.
	Name string
	// Server is the API server's address, without a trailing slash.
	Server string
	// CA is the PEM of the authority that signed the API server's certificate.
	CA []byte
	// Certificate and Key are PEM. The authority that signed the certificate is not CA.
	Certificate []byte
	Key         []byte
}

// AddUser returns a user with a client certificate that is valid for 23 hours, even after a restart
// of the API server. It needs no running API server. Groups such as "system:masters" have their usual
// meaning; without groups, the user may do nothing until RBAC objects allow it. A second call with the
// same name returns another certificate of the same user.
func (cp *ControlPlane) AddUser(name string, groups ...string) (*User, error) {
	if name == "" {
		return nil, errors.New("user has no name")
	}
	key := pki.ECDSAKey()
	certificate := cp.authorities.client.Issue(name, key, func(template *x509.Certificate) { template.Subject.Organization = groups })
	return &User{
		Name:        name,
		Server:      cp.URL(),
		CA:          pki.Certificates(cp.authorities.serving.Cert),
		Certificate: pki.Certificates(certificate),
		Key:         pki.PKCS8(key),
	}, nil
}

// Config returns a new rest.Config of the user. Unlike client-go's default, it has no rate limit.
func (u *User) Config() *rest.Config {
	return &rest.Config{
		Host: u.Server,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:   bytes.Clone(u.CA),
			CertData: bytes.Clone(u.Certificate),
			KeyData:  bytes.Clone(u.Key),
		},
		QPS: -1,
	}
}

// Kubeconfig returns a new kubeconfig file of the user. It holds the user's key.
func (u *User) Kubeconfig() ([]byte, error) {
	const name = "controlplane"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: u.Server, CertificateAuthorityData: u.CA}
	config.AuthInfos[u.Name] = &clientcmdapi.AuthInfo{ClientCertificateData: u.Certificate, ClientKeyData: u.Key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: u.Name}
	config.CurrentContext = name
	return clientcmd.Write(*config)
}

// String names the user and the server, and never shows the key.
func (u *User) String() string {
	return fmt.Sprintf("user %q at %s", u.Name, u.Server)
}
