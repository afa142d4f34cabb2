// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
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

// certificateLife is longer than any control plane of this package runs.
const certificateLife = 365 * 24 * time.Hour

// pki holds the two authorities of a control plane. They differ, as they may in a real cluster, so
// that a client that confuses them fails here too.
type pki struct {
	dir     string
	serving *authority // signs what the processes show
	client  *authority // signs what users show
}

// newPKI makes the authorities, and writes what the processes read to dir.
func newPKI(dir string) (*pki, error) {
	p := &pki{dir: dir}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.serving, err = newAuthority("serving"); err != nil {
		return nil, err
	}
	if p.client, err = newAuthority("client"); err != nil {
		return nil, err
	}
	servingCert, servingKey, err := p.serving.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, err
	}
	etcdCert, etcdKey, err := p.issueClient("kube-apiserver", nil)
	if err != nil {
		return nil, err
	}
	accountKey, accountPublicKey, err := newKeyPEM()
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{
		servingCAFile:        p.serving.pem,
		servingCertFile:      servingCert,
		servingKeyFile:       servingKey,
		clientCAFile:         p.client.pem,
		etcdClientCertFile:   etcdCert,
		etcdClientKeyFile:    etcdKey,
		accountKeyFile:       accountKey,
		accountPublicKeyFile: accountPublicKey,
	} {
		if err := os.WriteFile(p.path(name), data, 0o600); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// issueClient returns the PEM of a certificate that the API server takes for user and groups.
func (p *pki) issueClient(user string, groups []string) (cert, key []byte, err error) {
	return p.client.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte // of cert
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "controlplane-" + name + "-ca"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: encodePEM("CERTIFICATE", der)}, nil
}

// issue completes template and returns the PEM of a certificate and of its new key.
func (a *authority) issue(template *x509.Certificate) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := sign(template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", template.Subject.CommonName, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", keyDER), nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(certificateLife)
	return x509.CreateCertificate(rand.Reader, template, parent, public, signer)
}

// newKeyPEM returns a new key and its public half.
func newKeyPEM() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	return encodePEM("PRIVATE KEY", privateDER), encodePEM("PUBLIC KEY", publicDER), nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
