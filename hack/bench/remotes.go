// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

const remoteCount = 1000

// remoteRows have a thousand users of the control plane, which stand for a thousand clusters.
func remoteRows() []row {
	of := func(newSource newSource) func(context.Context, *input) (measureFunc, error) {
		return func(_ context.Context, in *input) (measureFunc, error) {
			return func(ctx context.Context, _ func() (int, error)) (values, error) {
				return upAndDown(ctx, in, newSource.start())
			}, nil
		}
	}
	return []row{{
		name:  "remotes-up-down",
		title: fmt.Sprintf("%d data planes come, each is asked who we are, and all go; clients are kept in between", remoteCount),
		metrics: []metric{
			{Name: "up", Unit: seconds},
			{Name: "down", Unit: seconds, Info: true},
			{Name: "cpu", Unit: seconds},
			{Name: "heap up", Unit: bytesUnit},
			{Name: "sockets up", Unit: count},
			{Name: "goroutines up", Unit: count},
			{Name: "heap left", Unit: bytesUnit},
			{Name: "sockets left", Unit: count},
			{Name: "goroutines left", Unit: count},
		},
		onPlane: true,
		fresh:   true,
		rounds:  [2]int{2, 5},
		prepare: addUsers,
		subjects: []subject{
			{name: "sdk", how: "remote.Cache with a lister and a handler", start: of(sdkSource)},
			{name: "mutex and map", how: "by hand, with the same guarantees", start: of(mapSource)},
			{name: "client-go", how: "kubernetes.NewForConfig, unverified, which can't close", start: of(bareSource)},
		},
	}}
}

func addUsers(_ context.Context, f *fixture, in *input) error {
	for i := range remoteCount {
		name := remoteName(i)
		user, err := f.plane.AddUser(name)
		if err != nil {
			return err
		}
		in.DataPlanes = append(in.DataPlanes, dataPlaneOf(user))
	}
	return nil
}

func dataPlaneOf(user *controlplane.User) *openchoreov1alpha1.DataPlane {
	return newDataPlane(user.Name, user.Server, user.CA, user.Certificate, user.Key)
}

func remoteName(i int) string { return fmt.Sprintf("dp-%04d", i) }

func upAndDown(ctx context.Context, in *input, clients *source) (values, error) {
	before, err := takeStock()
	if err != nil {
		return nil, err
	}
	kept := make([]kubernetes.Interface, len(in.DataPlanes))
	cpu, started := cpuTime(), time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, 8, len(in.DataPlanes), func(i int) {
		dp := in.DataPlanes[i]
		err := clients.set(dp)
		if err == nil {
			kept[i], err = clients.get(keyOf(dp))
		}
		if err == nil {
			err = whoAmI(ctx, kept[i], dp.Name)
		}
		if err != nil {
			cancel(err)
		}
	})
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	v := values{"up": time.Since(started).Seconds(), "cpu": cpuTime() - cpu}
	if err := v.addStock(" up", before); err != nil {
		return nil, err
	}
	started = time.Now()
	for _, dp := range in.DataPlanes {
		if err := clients.remove(dp); err != nil {
			return nil, err
		}
	}
	clear(kept)
	v["down"] = time.Since(started).Seconds()
	err = v.addStock(" left", before)
	runtime.KeepAlive(clients)
	return v, err
}

// whoAmI asks a data plane for the name of the user, which must be so.
func whoAmI(ctx context.Context, client kubernetes.Interface, want string) error {
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err == nil && review.Status.UserInfo.Username != want {
		err = fmt.Errorf("%s is asked as %s", want, review.Status.UserInfo.Username)
	}
	return err
}

// stock is what a process holds.
type stock struct{ heap, sockets, goroutines float64 }

func takeStock() (stock, error) {
	heap := liveHeap()
	sockets, err := openSockets()
	return stock{heap, sockets, float64(runtime.NumGoroutine())}, err
}

// addStock adds what the process holds more than before. What ends in the background, as
// goroutines of closed connections, is given up to a second for it.
func (v values) addStock(suffix string, before stock) error {
	now, err := takeStock()
	for deadline := time.Now().Add(time.Second); err == nil && time.Now().Before(deadline); {
		last := now
		time.Sleep(50 * time.Millisecond)
		if now, err = takeStock(); now.goroutines >= last.goroutines && now.sockets >= last.sockets {
			break
		}
	}
	v["heap"+suffix] = now.heap - before.heap
	v["sockets"+suffix] = now.sockets - before.sockets
	v["goroutines"+suffix] = now.goroutines - before.goroutines
	return err
}
