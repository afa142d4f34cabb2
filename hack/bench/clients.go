// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
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

// remoteRows have a thousand users of the control plane, which stand for a thousand clusters.
func remoteRows() []row {
	return []row{{
		name:  "remotes-up-down",
		title: fmt.Sprintf("%d data planes come, each is asked who we are, and all go; clients are kept in between", users),
		metrics: []metric{
			{Name: "up", Unit: "s"},
			{Name: "down", Unit: "s"},
			{Name: "cpu", Unit: "s"},
			{Name: "heap up", Unit: "B"},
			{Name: "sockets up"},
			{Name: "goroutines up"},
			{Name: "heap left", Unit: "B"},
			{Name: "sockets left"},
			{Name: "goroutines left"},
		},
		plane: true, rounds: 5,
		prepare: prepareUsers,
		subjects: []subject{
			{"sdk", "remote.Cache with a lister and a handler", upAndDown(sdkSource)},
			{"mutex and map", "by hand, with the same guarantees", upAndDown(mapSource)},
			{"client-go", "kubernetes.NewForConfig, unverified, which can't close", upAndDown(bareSource)},
		},
	}}
}

func prepareUsers(_ context.Context, f *fixture, in *input) (err error) {
	in.DataPlanes, err = addUsers(f)
	return err
}

func upAndDown(newSource newSource) measureFunc {
	return func(ctx context.Context, in *input, _ func() error) (values, error) {
		clients := newSource.start()
		before := takeStock()
		kept := make([]kubernetes.Interface, len(in.DataPlanes))
		cpu, started := cpuTime(), time.Now()
		if err := parallel(ctx, 8, len(in.DataPlanes), func(ctx context.Context, i int) (err error) {
			if kept[i], err = clients.add(in.DataPlanes[i]); err != nil {
				return err
			}
			return whoAmI(ctx, kept[i], in.DataPlanes[i].Name)
		}); err != nil {
			return nil, err
		}
		v := values{"up": time.Since(started).Seconds(), "cpu": cpuTime() - cpu}
		v.addStock(" up", before)
		started = time.Now()
		for _, dp := range in.DataPlanes {
			if err := clients.remove(dp); err != nil {
				return nil, err
			}
		}
		clear(kept)
		v["down"] = time.Since(started).Seconds()
		v.addStock(" left", before)
		runtime.KeepAlive(clients)
		return v, nil
	}
}

// whoAmI asks a data plane for the name of the user, which must be want.
func whoAmI(ctx context.Context, client kubernetes.Interface, want string) error {
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err == nil && review.Status.UserInfo.Username != want {
		err = fmt.Errorf("%s is asked as %s", want, review.Status.UserInfo.Username)
	}
	return err
}
