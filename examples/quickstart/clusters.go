// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// existingCluster names an existing management cluster.
type existingCluster struct{ kubeconfig, context string }

func (e existingCluster) given() bool { return e != existingCluster{} }

// config loads the configuration that kubectl would use with the same flags.
func (e existingCluster) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = e.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: e.context}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
}

func (q *quickstart) getClusters(ctx context.Context) error {
	names := []string{"the target cluster", "the management cluster"}
	if q.existing.given() {
		config, err := q.existing.config()
		if err != nil {
			return err
		}
		// Starting a control plane takes time, and building one takes minutes.
		if err := q.version(ctx, "management", config); err != nil {
			return err
		}
		q.managementConfig, names = config, names[:1]
	}

	// Built once, before both start. They start at once: each waits for its processes most of the time.
	if _, err := controlplane.Binaries(ctx, os.Stderr); err != nil {
		return err
	}
	started, errs := make([]*controlplane.ControlPlane, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { started[i], errs[i] = controlplane.Start(ctx, controlplane.WithName(name)) })
	}
	wg.Wait()
	for _, cp := range started {
		if cp != nil {
			q.onCleanUp(func(context.Context) error { return cp.Stop() })
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}

	q.targetPlane = started[0]
	if !q.existing.given() {
		q.managementConfig = started[1].Config()
		if err := q.version(ctx, "management", q.managementConfig); err != nil {
			return err
		}
	}
	return q.version(ctx, "target", q.targetPlane.Config())
}

// version prints the address and version of a cluster when it has answered.
func (p *printer) version(ctx context.Context, role string, config *rest.Config) error {
	config = rest.CopyConfig(config)
	config.Timeout = 10 * time.Second
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	body, err := client.RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return fmt.Errorf("%s cluster at %s: %w", role, config.Host, err)
	}
	version, err := gitVersion(body)
	if err != nil {
		return fmt.Errorf("%s cluster at %s: %w", role, config.Host, err)
	}
	p.line("%-10s  %s  Kubernetes %s", role, config.Host, version)
	return nil
}
