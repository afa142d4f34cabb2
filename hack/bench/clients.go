// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func clientRows() []row {
	const planes = 1000
	get := func(callers int) row {
		of := func(newCache func() clientSource) func(context.Context, *input) (measureFunc, error) {
			return func(context.Context, *input) (measureFunc, error) {
				all, err := newDataPlanes(planes)
				if err != nil {
					return nil, err
				}
				clients := newCache()
				for _, dp := range all {
					if _, err := clients.get(dp); err != nil {
						return nil, err
					}
				}
				var next atomic.Uint64
				f := func() error {
					_, err := clients.get(all[next.Add(1)%planes])
					return err
				}
				return func(context.Context, func() (int, error)) (values, error) {
					if callers == 1 {
						return perCallOf(f)
					}
					return perCallOfMany(callers, f)
				}, nil
			}
		}
		return row{
			name:    fmt.Sprintf("client-get-%d", callers),
			title:   fmt.Sprintf("the client of one of %d data planes, callers at once: %d", planes, callers),
			metrics: perCall,
			rounds:  [2]int{3, 15},
			subjects: []subject{
				{name: "sdk", how: "helpers.ClientCache.Get, which compares UID and credentials", start: of(newSDKSource)},
				{name: "mutex and map", how: "a read lock and a map by name, which compares nothing", start: of(newMapSource)},
				{name: "client-go", how: "kubernetes.NewForConfig each time", start: of(newBareSource)},
			},
		}
	}
	return []row{restConfigRow(), get(1), get(8)}
}

func restConfigRow() row {
	of := func(convert func(dp *openchoreov1alpha1.DataPlane) (func() error, error)) func(context.Context, *input) (measureFunc, error) {
		return func(context.Context, *input) (measureFunc, error) {
			all, err := newDataPlanes(1)
			if err != nil {
				return nil, err
			}
			f, err := convert(all[0])
			if err != nil {
				return nil, err
			}
			return func(context.Context, func() (int, error)) (values, error) { return perCallOf(f) }, nil
		}
	}
	return row{
		name:    "rest-config",
		title:   "from a DataPlane to a rest.Config",
		metrics: perCall,
		rounds:  [2]int{3, 15},
		subjects: []subject{
			{
				name: "sdk",
				how:  "helpers.RESTConfigFor, which verifies that certificates and key are usable",
				start: of(func(dp *openchoreov1alpha1.DataPlane) (func() error, error) {
					return func() error {
						_, err := helpers.RESTConfigFor(dp)
						return err
					}, nil
				}),
			},
			{
				name:  "floor",
				how:   "base64, x509.ParseCertificate and tls.X509KeyPair: the least that verifies",
				aside: true,
				start: of(func(dp *openchoreov1alpha1.DataPlane) (func() error, error) {
					return func() error {
						config, err := decodedConfig(dp)
						if err != nil {
							return err
						}
						block, _ := pem.Decode(config.CAData)
						if _, err := x509.ParseCertificate(block.Bytes); err != nil {
							return err
						}
						_, err = tls.X509KeyPair(config.CertData, config.KeyData)
						return err
					}, nil
				}),
			},
			{
				name: "unverified",
				how:  "base64 only, as OpenChoreo's controller does; faults come with the first request",
				start: of(func(dp *openchoreov1alpha1.DataPlane) (func() error, error) {
					return func() error {
						_, err := decodedConfig(dp)
						return err
					}, nil
				}),
			},
			{
				name: "client-go",
				how:  "clientcmd.RESTConfigFromKubeConfig of a kubeconfig with the same credentials, unverified",
				start: of(func(dp *openchoreov1alpha1.DataPlane) (func() error, error) {
					kubeconfig, err := kubeconfigOf(dp)
					return func() error {
						_, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
						return err
					}, err
				}),
			},
		},
	}
}

// clientSource is how a program comes by the clients of data planes.
type clientSource struct {
	get    func(dp *openchoreov1alpha1.DataPlane) (kubernetes.Interface, error)
	forget func(dp *openchoreov1alpha1.DataPlane) // the data plane is gone
}

func newSDKSource() clientSource {
	clients := helpers.NewClientCache(func(r *helpers.Remote) (kubernetes.Interface, error) {
		return kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
	})
	return clientSource{clients.Get, func(dp *openchoreov1alpha1.DataPlane) {
		clients.Forget(types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name})
	}}
}

// newMapSource returns the way of OpenChoreo: clients are kept by name, and are never
// replaced or closed.
func newMapSource() clientSource {
	var mu sync.RWMutex
	clients := map[string]kubernetes.Interface{}
	return clientSource{func(dp *openchoreov1alpha1.DataPlane) (kubernetes.Interface, error) {
		key := dp.Namespace + "/" + dp.Name
		mu.RLock()
		client, ok := clients[key]
		mu.RUnlock()
		if ok {
			return client, nil
		}
		mu.Lock()
		defer mu.Unlock()
		if client, ok := clients[key]; ok {
			return client, nil
		}
		client, err := newBareClient(dp)
		if err != nil {
			return nil, err
		}
		clients[key] = client
		return client, nil
	}, func(*openchoreov1alpha1.DataPlane) {}}
}

// newBareSource returns what makes a client whenever one is asked for. client-go keeps
// the connections of equal configurations together.
func newBareSource() clientSource {
	return clientSource{newBareClient, func(*openchoreov1alpha1.DataPlane) {}}
}

func newBareClient(dp *openchoreov1alpha1.DataPlane) (kubernetes.Interface, error) {
	config, err := decodedConfig(dp)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func decodedConfig(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	creds := dp.Spec.KubernetesCluster.Credentials
	config := &rest.Config{Host: creds.APIServerURL, QPS: -1}
	var errs [3]error
	config.CAData, errs[0] = base64.StdEncoding.DecodeString(creds.CACert)
	config.CertData, errs[1] = base64.StdEncoding.DecodeString(creds.ClientCert)
	config.KeyData, errs[2] = base64.StdEncoding.DecodeString(creds.ClientKey)
	return config, errors.Join(errs[:]...)
}

func kubeconfigOf(dp *openchoreov1alpha1.DataPlane) ([]byte, error) {
	config, err := decodedConfig(dp)
	if err != nil {
		return nil, err
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["dp"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	c.AuthInfos["dp"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	c.Contexts["dp"] = &clientcmdapi.Context{Cluster: "dp", AuthInfo: "dp"}
	c.CurrentContext = "dp"
	return clientcmd.Write(*c)
}

// newDataPlane returns one as an API server returns it.
func newDataPlane(name, url string, ca, cert, key []byte) *openchoreov1alpha1.DataPlane {
	return &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-of-" + name), Generation: 1},
		Spec: openchoreov1alpha1.DataPlaneSpec{KubernetesCluster: openchoreov1alpha1.KubernetesClusterSpec{
			Name: name,
			Credentials: openchoreov1alpha1.APIServerCredentials{
				APIServerURL: url,
				CACert:       base64.StdEncoding.EncodeToString(ca),
				ClientCert:   base64.StdEncoding.EncodeToString(cert),
				ClientKey:    base64.StdEncoding.EncodeToString(key),
			},
		}},
	}
}

// newDataPlanes returns n with a name and a user of their own.
func newDataPlanes(n int) ([]*openchoreov1alpha1.DataPlane, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			BasicConstraintsValid: true,
		}
	}
	authority := template("authority")
	authority.IsCA = true
	ca, err := x509.CreateCertificate(rand.Reader, authority, authority, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	all := make([]*openchoreov1alpha1.DataPlane, n)
	for i := range all {
		name := fmt.Sprintf("dp-%04d", i)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		cert, err := x509.CreateCertificate(rand.Reader, template(name), authority, key.Public(), caKey)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		all[i] = newDataPlane(name, "https://"+name+".example.com:6443", encode("CERTIFICATE", ca), encode("CERTIFICATE", cert),
			encode("PRIVATE KEY", der))
	}
	return all, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
