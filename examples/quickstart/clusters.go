// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// errCleanup marks what went wrong while things were removed.
var errCleanup = errors.New("cleaning up")

// existingCluster says which cluster of the user's to manage data planes from.
type existingCluster struct{ kubeconfig, context string }

func (e existingCluster) given() bool { return e != existingCluster{} }

// config does what kubectl does with the same two flags.
func (e existingCluster) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = e.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: e.context}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
}

// clusters are the two that the quickstart works with.
type clusters struct {
	management *rest.Config
	target     *controlplane.ControlPlane

	started []*controlplane.ControlPlane
}

// startClusters returns what is to be stopped even when it fails.
func startClusters(ctx context.Context, existing existingCluster, p *printer) (*clusters, error) {
	c := &clusters{}
	if existing.given() {
		config, err := existing.config()
		if err != nil {
			return c, err
		}
		c.management = config
		target, err := controlplane.Start(ctx, controlplane.WithName("the target cluster"))
		if err != nil {
			return c, err
		}
		c.target, c.started = target, []*controlplane.ControlPlane{target}
	} else {
		// Both at once: each waits for its processes most of the time.
		names := []string{"the management cluster", "the target cluster"}
		started, errs := make([]*controlplane.ControlPlane, 2), make([]error, 2)
		var wg sync.WaitGroup
		for i, name := range names {
			wg.Go(func() { started[i], errs[i] = controlplane.Start(ctx, controlplane.WithName(name)) })
		}
		wg.Wait()
		for _, cp := range started {
			if cp != nil {
				c.started = append(c.started, cp)
			}
		}
		if err := errors.Join(errs...); err != nil {
			return c, err
		}
		c.management, c.target = started[0].Config(), started[1]
	}
	if err := p.cluster(ctx, "management", c.management); err != nil {
		return c, err
	}
	return c, p.cluster(ctx, "target", c.target.Config())
}

func (c *clusters) stop() error {
	var errs []error
	for _, cp := range c.started {
		if err := cp.Stop(); err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", errCleanup, err))
		}
	}
	return errors.Join(errs...)
}

// cluster prints where a cluster is, once it has answered.
func (p *printer) cluster(ctx context.Context, role string, config *rest.Config) error {
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
