// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// clientRows take no API server.
func clientRows() []row {
	return []row{
		{
			name: "rest-config", title: "from a DataPlane to a rest.Config", metrics: perCallMetrics, rounds: 9,
			subjects: []subject{
				{"sdk", "helpers.RESTConfigFor, which verifies that certificates and key are usable", convert(helpers.RESTConfigFor)},
				{"floor", "base64, x509.ParseCertificate and tls.X509KeyPair: the least that verifies", convert(checkedConfig)},
				{"unverified", "base64 only, as OpenChoreo's controller does; faults come with the first request", convert(decodedConfig)},
			},
		},
		clientGetRow(1),
		clientGetRow(8),
	}
}

func convert(configFor func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error)) measureFunc {
	return func(context.Context, *input, func() error) (values, error) {
		dp := dataplanetest.DataPlane("default", "one")
		return perCall(1, func() error {
			_, err := configFor(dp)
			return err
		})
	}
}

func clientGetRow(callers int) row {
	of := func(newSource newSource) measureFunc {
		return func(context.Context, *input, func() error) (values, error) {
			clients := newSource.start()
			keys := make([]types.NamespacedName, users)
			for i := range keys {
				name := fmt.Sprintf("dp-%04d", i)
				dp := dataplanetest.DataPlane("default", name)
				dp.ResourceVersion = "1" // as an informer has it
				dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + name + ".example.com:6443"
				keys[i] = keyOf(dp)
				if _, err := clients.add(dp); err != nil {
					return nil, err
				}
			}
			var next atomic.Uint64
			return perCall(callers, func() error {
				_, err := clients.get(keys[next.Add(1)%users])
				return err
			})
		}
	}
	return row{
		name:    fmt.Sprintf("client-get-%d", callers),
		title:   fmt.Sprintf("the client of one of %d data planes, %d at once", users, callers),
		metrics: perCallMetrics, rounds: 9,
		subjects: []subject{
			{"sdk", "remote.Cache.Get with a lister", of(sdkSource)},
			{"mutex and map", "a lister, a mutex and a map by hand, with the same guarantees", of(mapSource)},
			{"client-go", "a lister, and kubernetes.NewForConfig each time", of(bareSource)},
		},
	}
}
