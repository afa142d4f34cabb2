// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
)

// modes are how an informer comes by its objects. The gate is client-go's.
var modes = []struct{ name, title, env string }{
	{"list", "by a list", "KUBE_FEATURE_WatchListClient=false"},
	{"watchlist", "by a watch that begins with all objects (client-go's default)", "KUBE_FEATURE_WatchListClient=true"},
}

// quarter is the first of four shards.
const quarter = "shardRange(object.metadata.uid, '0x0000000000000000', '0x4000000000000000')"

func informerRows(objects int, runs scope) []row {
	var rows []row
	rounds := [2]int{2, 5}
	if objects > 10_000 {
		rounds[1] = 3 // which take as long as many of the others
	}
	for _, mode := range modes {
		env := []string{mode.env}
		of := func(start startCache, o cacheOptions, least int) func(context.Context, *input) (measureFunc, error) {
			return func(_ context.Context, in *input) (measureFunc, error) {
				return func(ctx context.Context, _ func() (int, error)) (values, error) {
					return measureSync(ctx, in, start, o, least)
				}, nil
			}
		}
		floor := downloadList
		if mode.name == "watchlist" {
			floor = downloadWatchList
		}
		subjects := []subject{
			{name: "sdk", how: "informer of the factory", env: env, start: of(startSDKCache, cacheOptions{}, objects)},
			{
				name: "controller-runtime", how: "cache.New with typed objects", env: env,
				start: of(startControllerRuntimeCache, cacheOptions{}, objects),
			},
			{name: "dynamic", how: "dynamicinformer, unstructured objects", env: env, start: of(startDynamicCache, cacheOptions{}, objects)},
			{name: "floor", how: "the same bytes, thrown away", aside: true, env: env, start: measureDownload(floor)},
		}
		if mode.name == "watchlist" { // once is enough for what no peer has
			subjects = append(subjects,
				subject{
					name: "sdk, DropSecrets", how: "as sdk, for a program that does not connect", aside: true, env: env,
					start: of(startSDKCache, cacheOptions{transform: informer.DropSecrets}, objects),
				},
				subject{
					name: "sdk, one shard of 4", how: "as sdk, of a quarter of all objects by server-side sharding, alpha", aside: true, env: env,
					start: of(startSDKCache, cacheOptions{shard: quarter}, objects/8),
				},
			)
		}
		rows = append(rows, row{
			name:  fmt.Sprintf("informer-%d-%s", objects, mode.name),
			title: fmt.Sprintf("an informer of %d DataPlanes from start to synced, %s", objects, mode.title),
			metrics: []metric{
				{Name: "time", Unit: seconds},
				{Name: "cpu", Unit: seconds},
				{Name: "received", Unit: bytesUnit},
				{Name: "peak heap", Unit: bytesUnit},
				{Name: "peak memory", Unit: bytesUnit},
				{Name: "settled heap", Unit: bytesUnit},
				{Name: "objects", Unit: count, Info: true},
			},
			objects:  objects,
			onPlane:  true,
			fresh:    true,
			scope:    runs,
			rounds:   rounds,
			prepare:  warmUp(floor),
			subjects: subjects,
		})
	}
	return rows
}

// measureSync measures a cache until it has synced. It must have at least so many objects.
func measureSync(ctx context.Context, in *input, start startCache, o cacheOptions, least int) (values, error) {
	var m meter
	config := in.Server.config()
	config.Dial = m.dial
	before, cpu := liveHeap(), cpuTime()
	stop := watchHeap()
	started := time.Now()
	r, err := start(ctx, config, o)
	if err != nil {
		return nil, err
	}
	if err := r.waitForSync(ctx); err != nil {
		return nil, err
	}
	v := values{"time": time.Since(started).Seconds(), "cpu": cpuTime() - cpu, "received": float64(m.received.Load())}
	v["peak heap"] = stop() - before
	if peak := peakMemory(); peak > 0 {
		v["peak memory"] = peak
	}
	v["settled heap"] = liveHeap() - before
	n := r.len()
	if n < least || n > in.Objects {
		return nil, fmt.Errorf("the cache holds %d objects of %d", n, in.Objects)
	}
	v["objects"] = float64(n)
	runtime.KeepAlive(r)
	return v, nil
}

const dataPlanesPath = "/apis/openchoreo.dev/v1alpha1/dataplanes"

// warmUp has the API server send all once, before any subject.
func warmUp(download func(ctx context.Context, client *http.Client, url string) error) func(context.Context, *fixture, *input) error {
	return func(ctx context.Context, _ *fixture, in *input) error {
		client, err := bareClient(in.Server.config())
		if err != nil {
			return err
		}
		return download(ctx, client, in.Server.URL+dataPlanesPath)
	}
}

// measureDownload measures no heap, since nothing is kept.
func measureDownload(download func(ctx context.Context, client *http.Client, url string) error) func(context.Context, *input) (measureFunc, error) {
	return func(_ context.Context, in *input) (measureFunc, error) {
		return func(ctx context.Context, _ func() (int, error)) (values, error) {
			var m meter
			config := in.Server.config()
			config.Dial = m.dial
			cpu, started := cpuTime(), time.Now()
			client, err := bareClient(config)
			if err != nil {
				return nil, err
			}
			if err := download(ctx, client, in.Server.URL+dataPlanesPath); err != nil {
				return nil, err
			}
			return values{"time": time.Since(started).Seconds(), "cpu": cpuTime() - cpu, "received": float64(m.received.Load())}, nil
		}, nil
	}
}

// downloadList is what a reflector asks for.
func downloadList(ctx context.Context, client *http.Client, url string) error {
	body, err := get(ctx, client, url+"?resourceVersion=0&limit=500")
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}

func downloadWatchList(ctx context.Context, client *http.Client, url string) error {
	body, err := get(ctx, client,
		url+"?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan")
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewReaderSize(body, 1<<20)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte(`{"type":"BOOKMARK"`)) && bytes.Contains(line, []byte(`"k8s.io/initial-events-end":"true"`)) {
			return nil
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, errors.New(response.Status)
	}
	return response.Body, nil
}
