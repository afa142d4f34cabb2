// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func clientRows() []row {
	const planes = 1000
	get := func(callers int) row {
		of := func(newSource newSource) func(context.Context, *input) (measureFunc, error) {
			return func(context.Context, *input) (measureFunc, error) {
				all, err := newDataPlanes(planes)
				if err != nil {
					return nil, err
				}
				clients := newSource.start()
				keys := make([]types.NamespacedName, planes)
				for i, dp := range all {
					keys[i] = keyOf(dp)
					if err := clients.set(dp); err != nil {
						return nil, err
					}
					if _, err := clients.get(keys[i]); err != nil {
						return nil, err
					}
				}
				var next atomic.Uint64
				f := func() error {
					_, err := clients.get(keys[next.Add(1)%planes])
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
			rounds:  [2]int{3, 9},
			subjects: []subject{
				{name: "sdk", how: "remote.Cache.Get with a lister", start: of(sdkSource)},
				{name: "mutex and map", how: "a lister, a mutex and a map by hand, with the same guarantees", start: of(mapSource)},
				{name: "client-go", how: "a lister, and kubernetes.NewForConfig each time", start: of(bareSource)},
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
		rounds:  [2]int{3, 9},
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
						_, err := checkedConfig(dp)
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
		},
	}
}

// newDataPlane returns one as an API server returns it.
func newDataPlane(name, url string, ca, cert, key []byte) *openchoreov1alpha1.DataPlane {
	return &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-of-" + name), ResourceVersion: "1", Generation: 1},
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
