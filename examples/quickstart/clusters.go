// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

func (q *quickstart) getClusters(ctx context.Context) (err error) {
	names := []string{"target", "management"}
	if q.flags.Existing() {
		if q.managementConfig, err = q.flags.Config(); err != nil {
			return err
		}
		// Starting a control plane takes time, and building one takes minutes.
		if err := showVersion(ctx, "management", q.managementConfig); err != nil {
			return err
		}
		names = names[:1]
	}
	started, err := demo.StartPlanes(ctx, os.Stderr, names...)
	for _, cp := range started {
		if cp != nil {
			q.onCleanUp(func(context.Context) error { return cp.Stop() })
		}
	}
	if err != nil {
		return err
	}
	q.targetPlane = started[0]
	if !q.flags.Existing() {
		q.managementConfig = started[1].Config()
		if err := showVersion(ctx, "management", q.managementConfig); err != nil {
			return err
		}
	}
	return showVersion(ctx, "target", q.targetPlane.Config())
}

// showVersion prints the address and version of a cluster when it has answered.
func showVersion(ctx context.Context, role string, config *rest.Config) error {
	config = rest.CopyConfig(config)
	config.Timeout = 10 * time.Second
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return fmt.Errorf("%s cluster at %s: %w", role, config.Host, err)
	}
	line("%-10s  %s  Kubernetes %s", role, config.Host, version.GitVersion)
	return ctx.Err()
}
