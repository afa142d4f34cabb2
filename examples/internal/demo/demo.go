// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package demo has the code that the examples share: flags, signals, clusters, and a runner of steps.
// An example starts and removes its clusters, or uses a management cluster of the user.
//
//	func main() {
//		var flags demo.Flags
//		flags.Register(flag.CommandLine)
//		args.Parse(flag.CommandLine)
//		os.Exit(demo.Run("example", &flags, 1, func(ctx context.Context, clusters *demo.Clusters) error {
//			...
//		}))
//	}
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// Clusters are the clusters of an example. The caller of Start must call Stop.
type Clusters struct {
	// Management is the cluster that stores DataPlanes, and Client and Core are its clients.
	Management *rest.Config
	Client     openchoreoclient.Interface
	Core       kubernetes.Interface
	// Plane is the control plane of the management cluster; nil for an existing cluster.
	Plane *controlplane.ControlPlane
	// Namespace is the namespace of the example's DataPlanes; DataPlanes reads and writes them.
	Namespace  string
	DataPlanes openchoreotyped.DataPlaneInterface
	// Watched is Namespace, or with -A metav1.NamespaceAll.
	Watched string
	// Targets are the clusters that DataPlanes describe.
	Targets []*Target
}

// Target is a cluster for workloads.
type Target struct {
	*controlplane.ControlPlane
	// Name is unique among the targets, such as "target-1".
	Name string
	// Core is a client with all rights.
	Core kubernetes.Interface
}

// Start starts a management cluster, which serves DataPlanes of v0.3, and targets. Flags can name
// an existing management cluster instead. ctx limits the start, not the life of the clusters.
func Start(ctx context.Context, flags *Flags, targets int) (*Clusters, error) {
	c := &Clusters{}
	if err := c.start(ctx, flags, targets); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Clusters) start(ctx context.Context, flags *Flags, targets int) error {
	if flags.Existing() {
		if err := c.useExisting(ctx, flags); err != nil || targets == 0 {
			return err
		}
		return c.startPlanes(ctx, false, targets)
	}
	if err := c.startPlanes(ctx, true, targets); err != nil {
		return err
	}
	if err := c.Plane.InstallCRDs(ctx, crds.DataPlane()); err != nil {
		return err
	}
	return c.use(c.Plane.Config(), metav1.NamespaceDefault)
}

// useExisting returns an error if the cluster can't be reached, serves no DataPlanes, or forbids the
// user to list them: an informer would retry for ever.
func (c *Clusters) useExisting(ctx context.Context, flags *Flags) error {
	config, namespace, err := flags.load()
	if err != nil {
		return err
	}
	if err := c.use(config, namespace); err != nil {
		return err
	}
	if flags.All {
		c.Watched = metav1.NamespaceAll
	}
	_, err = c.Client.OpenChoreoV1alpha1().DataPlanes(c.Watched).List(ctx, metav1.ListOptions{Limit: 1})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("cluster at %s does not serve %s; to install it, in a clone of the SDK: "+
			"kubectl apply -f apis/openchoreo/crds/openchoreo.dev_dataplanes.yaml", config.Host, crds.DataPlaneName)
	}
	if err != nil {
		return fmt.Errorf("listing DataPlanes of the cluster at %s: %w", config.Host, err)
	}
	return nil
}

// use sets the management cluster and its clients.
func (c *Clusters) use(config *rest.Config, namespace string) (err error) {
	c.Management = config
	if c.Client, err = openchoreoclient.NewForConfig(config); err != nil {
		return err
	}
	if c.Core, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	c.useNamespace(namespace)
	return nil
}

func (c *Clusters) useNamespace(name string) {
	c.Namespace, c.Watched, c.DataPlanes = name, name, c.Client.OpenChoreoV1alpha1().DataPlanes(name)
}

// InNamespace creates a namespace and returns a copy of c with it. Stop c, not the copy.
func (c *Clusters) InNamespace(ctx context.Context, name string) (*Clusters, error) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := c.Core.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	in := *c
	in.useNamespace(name)
	return &in, nil
}

// startPlanes builds the binaries of control planes if they are missing, and starts all control planes
// at once. After an error, Stop stops the control planes that have started.
func (c *Clusters) startPlanes(ctx context.Context, management bool, targets int) error {
	// If the reader of the output ends, the example continues, so that it stops its control planes.
	signal.Ignore(syscall.SIGPIPE)
	var names []string
	for i := range targets {
		names = append(names, fmt.Sprintf("target-%d", i+1))
	}
	if management {
		names = append(names, "management")
	}
	fmt.Fprintf(os.Stderr, "starting Kubernetes on this machine: %s\n", strings.Join(names, ", "))
	// If they are missing, this builds them, which takes minutes.
	if _, err := controlplane.Binaries(ctx, os.Stderr); err != nil {
		return err
	}
	planes, errs := make([]*controlplane.ControlPlane, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			planes[i], errs[i] = controlplane.Start(ctx, controlplane.WithName(name), controlplane.WithProgress(nil))
		})
	}
	wg.Wait()
	for i, cp := range planes {
		switch {
		case cp == nil:
			continue
		case i == targets:
			c.Plane = cp
		default:
			t := &Target{ControlPlane: cp, Name: names[i]}
			t.Core, errs[i] = kubernetes.NewForConfig(cp.Config())
			c.Targets = append(c.Targets, t)
		}
		fmt.Fprintf(os.Stderr, "%-10s  %s\n", names[i], cp.URL())
	}
	return errors.Join(errs...)
}

// Stop stops and removes everything that was started, and nothing else.
func (c *Clusters) Stop() error {
	var started []*controlplane.ControlPlane
	for _, target := range c.Targets {
		started = append(started, target.ControlPlane)
	}
	if c.Plane != nil {
		started = append(started, c.Plane)
	}
	errs := make([]error, len(started))
	var wg sync.WaitGroup
	for i, cp := range started {
		wg.Go(func() { errs[i] = cp.Stop() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrCleanUp, err)
	}
	return nil
}

// Args returns the flags that make a child process use the management cluster and the namespace. c
// must not use an existing management cluster.
func (c *Clusters) Args() []string {
	return []string{"--namespace=" + c.Namespace, "--kubeconfig=" + c.Plane.KubeconfigFile()}
}
