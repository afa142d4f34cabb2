// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

const (
	remoteCount = 1000
	// afterwards is longer than the timer of 30 s by which HTTP/2 connections are pinged, which
	// keeps the memory of those that are closed.
	afterwards = 45 * time.Second
)

// remoteRows have a thousand users of the control plane, for a thousand clusters or for as
// many credentials of one.
func remoteRows() []row {
	subjects := func(measure func(ctx context.Context, in *input, clients *source) (values, error)) []subject {
		of := func(newSource newSource) func(context.Context, *input) (measureFunc, error) {
			return func(_ context.Context, in *input) (measureFunc, error) {
				return func(ctx context.Context, _ func() (int, error)) (values, error) {
					return measure(ctx, in, newSource.start())
				}, nil
			}
		}
		return []subject{
			{name: "sdk", how: "remote.Cache with a lister and a handler", start: of(sdkSource)},
			{name: "mutex and map", how: "a lister, a mutex and a map by hand, which replace clients but don't close them", start: of(mapSource)},
			{name: "client-go", how: "a lister, and kubernetes.NewForConfig each time, which can't close", start: of(bareSource)},
		}
	}
	upDown := row{
		name:  "remotes-up-down",
		title: fmt.Sprintf("%d data planes come, each is asked who we are, and all go; what is left at once", remoteCount),
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
		rounds:  [2]int{2, 7},
		prepare: addUsers,
		subjects: subjects(func(ctx context.Context, in *input, clients *source) (values, error) {
			return upAndDown(ctx, in, clients, 0)
		}),
	}
	later := upDown
	later.name = "remotes-later"
	later.title = fmt.Sprintf("the same; what is left after %s", afterwards)
	later.metrics = upDown.metrics[6:] // the rest is in the other row
	later.scope, later.rounds = fullRun, [2]int{1, 1}
	later.subjects = subjects(func(ctx context.Context, in *input, clients *source) (values, error) {
		return upAndDown(ctx, in, clients, afterwards)
	})
	return []row{
		upDown, later,
		{
			name:  "rotations",
			title: fmt.Sprintf("the credentials of one data plane change %d times, with a request after each", remoteCount),
			metrics: []metric{
				{Name: "time", Unit: seconds},
				{Name: "cpu", Unit: seconds},
				{Name: "as the new user", Unit: share, More: true},
				{Name: "heap left", Unit: bytesUnit},
				{Name: "sockets left", Unit: count},
				{Name: "goroutines left", Unit: count},
			},
			onPlane:  true,
			fresh:    true,
			rounds:   [2]int{2, 7},
			prepare:  addUsers,
			subjects: subjects(rotate),
		},
	}
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

func upAndDown(ctx context.Context, in *input, clients *source, wait time.Duration) (values, error) {
	before, err := takeStock()
	if err != nil {
		return nil, err
	}
	cpu, started := cpuTime(), time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, 8, len(in.DataPlanes), func(i int) {
		dp := in.DataPlanes[i]
		name, err := clients.whoAmI(ctx, dp)
		if err == nil && name != dp.Name {
			err = fmt.Errorf("%s is asked as %s", dp.Name, name)
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
	v["down"] = time.Since(started).Seconds()
	time.Sleep(wait)
	err = v.addStock(" left", before)
	runtime.KeepAlive(clients)
	return v, err
}

func rotate(ctx context.Context, in *input, clients *source) (values, error) {
	before, err := takeStock()
	if err != nil {
		return nil, err
	}
	cpu, started := cpuTime(), time.Now()
	current := 0
	for i, user := range in.DataPlanes {
		dp := *in.DataPlanes[0]
		dp.Generation, dp.ResourceVersion = int64(i+1), strconv.Itoa(i+1)
		dp.Spec = user.Spec
		name, err := clients.whoAmI(ctx, &dp)
		if err != nil {
			return nil, err
		}
		if name == user.Name {
			current++
		}
	}
	v := values{
		"time": time.Since(started).Seconds() / remoteCount, "cpu": (cpuTime() - cpu) / remoteCount,
		"as the new user": 100 * float64(current) / remoteCount,
	}
	err = v.addStock(" left", before)
	runtime.KeepAlive(clients)
	return v, err
}

// whoAmI asks a data plane that is new or has changed for the name of the user.
func (s *source) whoAmI(ctx context.Context, dp *openchoreov1alpha1.DataPlane) (string, error) {
	if err := s.set(dp); err != nil {
		return "", err
	}
	client, err := s.get(keyOf(dp))
	if err != nil {
		return "", err
	}
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return review.Status.UserInfo.Username, nil
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
