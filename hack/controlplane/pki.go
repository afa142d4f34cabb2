// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"

	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// The files that both processes read.
const (
	servingCAFile        = "serving-ca.crt"
	servingCertFile      = "serving.crt"
	servingKeyFile       = "serving.key"
	clientCAFile         = "client-ca.crt"
	etcdClientCertFile   = "etcd-client.crt"
	etcdClientKeyFile    = "etcd-client.key"
	accountKeyFile       = "service-account.key"
	accountPublicKeyFile = "service-account.pub"
)

// authorities are the two certificate authorities of a control plane. They differ, as they may in a
// real cluster, so that a client that confuses them fails.
type authorities struct {
	dir     string
	serving *pki.Authority // signs the certificates of the processes
	client  *pki.Authority // signs the certificates of users
}

// newAuthorities creates dir and writes the files that the processes read.
func newAuthorities(dir string) (*authorities, error) {
	a := &authorities{dir: dir, serving: pki.New(), client: pki.New()}
	servingKey, etcdKey, accountKey := pki.ECDSAKey(), pki.ECDSAKey(), pki.ECDSAKey()
	accountPublicKey, err := x509.MarshalPKIXPublicKey(accountKey.Public())
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{
		servingCAFile: pki.Certificates(a.serving.Cert),
		servingCertFile: pki.Certificates(a.serving.Issue("localhost", servingKey, func(template *x509.Certificate) {
			template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})),
		servingKeyFile:       pki.PKCS8(servingKey),
		clientCAFile:         pki.Certificates(a.client.Cert),
		etcdClientCertFile:   pki.Certificates(a.client.Issue("kube-apiserver", etcdKey)),
		etcdClientKeyFile:    pki.PKCS8(etcdKey),
		accountKeyFile:       pki.PKCS8(accountKey),
		accountPublicKeyFile: pki.Block("PUBLIC KEY", accountPublicKey),
	} {
		if err := os.WriteFile(a.path(name), data, 0o600); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *authorities) path(name string) string { return filepath.Join(a.dir, name) }
