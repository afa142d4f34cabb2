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

// User is someone the API server knows by a client certificate. Its fields are what a client needs
// to be that user; they belong to the caller.
type User struct {
	// Name is who the API server takes the user for.
	Name string
	// Server is the API server's address, without a slash at its end.
	Server string
	// CA is the PEM of the authority that signed the API server's certificate.
	CA []byte
	// Certificate and Key are PEM. The authority that signed the certificate is not CA.
	Certificate []byte
	Key         []byte
}

// AddUser makes a user with a client certificate that is valid for 23 hours, even while the API
// server doesn't run and after a restart. Groups such as "system:masters" mean what they
// mean in any cluster; without any, the user may do nothing until RBAC objects allow it. Adding
// the same name again gives the same user another certificate.
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

// Config returns a new rest.Config of the user. It has no limit on requests per second, unlike
// client-go's default.
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
