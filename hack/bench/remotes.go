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
	subjects := func(mapAside bool, measure func(ctx context.Context, in *input, source clientSource) (values, error)) []subject {
		of := func(newSource func() clientSource) func(context.Context, *input) (measureFunc, error) {
			return func(_ context.Context, in *input) (measureFunc, error) {
				return func(ctx context.Context, _ func() (int, error)) (values, error) {
					return measure(ctx, in, newSource())
				}, nil
			}
		}
		return []subject{
			{name: "sdk", how: "helpers.ClientCache, and Forget of those that are gone", start: of(newSDKSource)},
			{name: "mutex and map", how: "a map by name, which neither replaces nor closes", aside: mapAside, start: of(newMapSource)},
			{name: "client-go", how: "kubernetes.NewForConfig each time; it has no way to close", start: of(newBareSource)},
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
		subjects: subjects(false, func(ctx context.Context, in *input, source clientSource) (values, error) {
			return upAndDown(ctx, in, source, 0)
		}),
	}
	later := upDown
	later.name = "remotes-later"
	later.title = fmt.Sprintf("the same; what is left after %s", afterwards)
	later.metrics = upDown.metrics[6:] // the rest is in the other row
	later.scope, later.rounds = fullRun, [2]int{1, 1}
	later.subjects = subjects(false, func(ctx context.Context, in *input, source clientSource) (values, error) {
		return upAndDown(ctx, in, source, afterwards)
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
			subjects: subjects(true, rotate),
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
		in.DataPlanes = append(in.DataPlanes, newDataPlane(name, user.Server, user.CA, user.Certificate, user.Key))
	}
	return nil
}

func remoteName(i int) string { return fmt.Sprintf("dp-%04d", i) }

func upAndDown(ctx context.Context, in *input, source clientSource, wait time.Duration) (values, error) {
	before, err := takeStock()
	if err != nil {
		return nil, err
	}
	cpu, started := cpuTime(), time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, 8, len(in.DataPlanes), func(i int) {
		dp := in.DataPlanes[i]
		client, err := source.get(dp)
		if err == nil {
			var name string
			if name, err = whoAmI(ctx, client); err == nil && name != dp.Name {
				err = fmt.Errorf("%s is asked as %s", dp.Name, name)
			}
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
		source.forget(dp)
	}
	v["down"] = time.Since(started).Seconds()
	time.Sleep(wait)
	err = v.addStock(" left", before)
	runtime.KeepAlive(source)
	return v, err
}

func rotate(ctx context.Context, in *input, source clientSource) (values, error) {
	before, err := takeStock()
	if err != nil {
		return nil, err
	}
	cpu, started := cpuTime(), time.Now()
	current := 0
	for i, user := range in.DataPlanes {
		dp := *in.DataPlanes[0]
		dp.Generation = int64(i + 1)
		dp.Spec = user.Spec
		client, err := source.get(&dp)
		if err != nil {
			return nil, err
		}
		name, err := whoAmI(ctx, client)
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
	runtime.KeepAlive(source)
	return v, err
}

func whoAmI(ctx context.Context, client kubernetes.Interface) (string, error) {
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
