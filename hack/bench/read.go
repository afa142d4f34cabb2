// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
)

func readRows(objects int, runs scope) []row {
	reads := []string{"get", "namespace", "selector"}
	var metrics []metric
	for _, read := range reads {
		metrics = append(metrics, metric{Name: read + " time", Unit: seconds}, metric{Name: read + " allocs", Unit: count})
	}
	of := func(start startCache, o cacheOptions) func(context.Context, *input) (measureFunc, error) {
		return func(ctx context.Context, in *input) (measureFunc, error) {
			r, err := start(ctx, in.Server.config(), o)
			if err != nil {
				return nil, err
			}
			if err := r.waitForSync(ctx); err != nil {
				return nil, err
			}
			i := 0
			next := func() int {
				i = (i + 1) % objects
				return i
			}
			expect := func(n int, err error) error {
				if err == nil && n != objects/100 {
					err = fmt.Errorf("got %d objects, want %d", n, objects/100)
				}
				return err
			}
			names := make([]string, objects) // no part of what is measured
			for i := range names {
				names[i] = objectName(i)
			}
			namespaces := make([]string, tenants)
			for i := range namespaces {
				namespaces[i] = tenant(i)
			}
			all := map[string]func() error{
				"get": func() error {
					i := next()
					return r.get(namespaces[i%tenants], names[i])
				},
				"namespace": func() error { return expect(r.list(namespaces[next()%tenants])) },
				"selector":  func() error { return expect(r.listGold()) },
			}
			return func(context.Context, func() (int, error)) (values, error) {
				v := values{}
				for _, read := range reads {
					one, err := perCallIn(read+" ", all[read])
					if err != nil {
						return nil, err
					}
					maps.Copy(v, one)
				}
				return v, nil
			}, nil
		}
	}
	return []row{{
		name: fmt.Sprintf("read-%d", objects),
		title: fmt.Sprintf("one of %d DataPlanes from a cache, the %d of one namespace, and the %d with a label",
			objects, objects/tenants, objects/100),
		metrics: metrics,
		objects: objects,
		scope:   runs,
		onPlane: true,
		rounds:  [2]int{2, 9},
		subjects: []subject{
			{name: "sdk", how: "lister: objects are shared with the cache", start: of(startSDKCache, cacheOptions{})},
			{name: "controller-runtime", how: "cache.Get and List, which copy (the default)", start: of(startControllerRuntimeCache, cacheOptions{})},
			{
				name: "controller-runtime, shared", how: "the same with UnsafeDisableDeepCopy",
				start: of(startControllerRuntimeCache, cacheOptions{noCopies: true}),
			},
			{name: "dynamic", how: "dynamiclister: objects are shared with the cache", start: of(startDynamicCache, cacheOptions{})},
		},
	}}
}
