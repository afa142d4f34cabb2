// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package demo provides the clusters that an example runs on: control planes that it starts
// and removes, or an existing cluster of the user.
//
//	func main() {
//		var flags demo.Flags
//		flags.Register(flag.CommandLine)
//		flag.Parse()
//		os.Exit(demo.Main("example", func(ctx context.Context) (err error) {
//			clusters, err := demo.Start(ctx, &flags, 1, os.Stderr)
//			if err != nil {
//				return err
//			}
//			defer func() { err = errors.Join(err, clusters.Stop()) }()
//			...
//		}))
//	}
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// Clusters are the clusters of an example. The caller of Start must call Stop.
type Clusters struct {
	// Management is the cluster that stores DataPlanes.
	Management *rest.Config
	// Namespace is where the example's DataPlanes are. It exists.
	Namespace string
	// Targets are the clusters that DataPlanes describe. There are none for an existing
	// management cluster, which has DataPlanes of its own.
	Targets []*Target
	// Kubeconfig is a file for child processes and for kubectl. For an existing cluster it is
	// the value of --kubeconfig, which may be empty; see Args.
	Kubeconfig string

	context string
	started []*controlplane.ControlPlane
	dir     string
}

// Target is a cluster for workloads.
type Target struct {
	*controlplane.ControlPlane
	// Name is unique among the targets, such as "target-1".
	Name string
}

// Start returns the clusters of an example. Unless flags name an existing cluster, it starts
// a control plane that serves DataPlanes and n target control planes, all at once, and
// reports that on progress. It only checks that an existing cluster serves DataPlanes. ctx
// limits the start, not the life of the clusters.
func Start(ctx context.Context, flags *Flags, n int, progress io.Writer) (*Clusters, error) {
	if flags.Existing() {
		return existing(ctx, flags)
	}
	c := &Clusters{Namespace: flags.Namespace()}
	if err := c.start(ctx, n, progress); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Stop stops and removes everything that Start has started, and nothing else.
func (c *Clusters) Stop() error {
	errs := make([]error, len(c.started))
	var wg sync.WaitGroup
	for i, cp := range c.started {
		wg.Go(func() { errs[i] = cp.Stop() })
	}
	wg.Wait()
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrCleanUp, err)
	}
	return nil
}

// Args returns the arguments for the management cluster and the namespace, for kubectl and
// for a child process that takes Flags.
func (c *Clusters) Args() []string {
	args := []string{"--namespace=" + c.Namespace}
	if c.Kubeconfig != "" {
		args = append(args, "--kubeconfig="+c.Kubeconfig)
	}
	if c.context != "" {
		args = append(args, "--context="+c.context)
	}
	return args
}

// StartPlanes builds the binaries of control planes, if needed, and starts one for each name, all at
// once. The caller must stop those that aren't nil, even after an error.
func StartPlanes(ctx context.Context, progress io.Writer, names ...string) ([]*controlplane.ControlPlane, error) {
	planes, errs := make([]*controlplane.ControlPlane, len(names)), make([]error, len(names))
	// The first call builds them, which takes minutes.
	if _, err := controlplane.Binaries(ctx, progress); err != nil {
		return planes, err
	}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			planes[i], errs[i] = controlplane.Start(ctx, controlplane.WithName(name), controlplane.WithProgress(nil))
		})
	}
	wg.Wait()
	return planes, errors.Join(errs...)
}

func (c *Clusters) start(ctx context.Context, n int, progress io.Writer) error {
	names := []string{"management"}
	for i := range n {
		names = append(names, fmt.Sprintf("target-%d", i+1))
	}
	fmt.Fprintf(progress, "starting Kubernetes on this machine: %s\n", strings.Join(names, ", "))
	planes, err := StartPlanes(ctx, progress, names...)
	c.started = slices.DeleteFunc(slices.Clone(planes), func(cp *controlplane.ControlPlane) bool { return cp == nil })
	if err != nil {
		return err
	}
	for i, cp := range planes {
		fmt.Fprintf(progress, "%-10s  %s\n", names[i], cp.URL())
		if i > 0 {
			c.Targets = append(c.Targets, &Target{ControlPlane: cp, Name: names[i]})
		}
	}

	management := planes[0]
	c.Management = management.Config()
	if err := management.InstallCRDs(ctx, crds.DataPlane()); err != nil {
		return err
	}
	if err := c.createNamespace(ctx); err != nil {
		return err
	}
	return c.writeKubeconfig(management)
}

func (c *Clusters) createNamespace(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.Management)
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace}}
	_, err = client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (c *Clusters) writeKubeconfig(management *controlplane.ControlPlane) error {
	data, err := management.Kubeconfig()
	if err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "example-*"); err != nil {
		return err
	}
	c.Kubeconfig = filepath.Join(c.dir, "kubeconfig")
	return os.WriteFile(c.Kubeconfig, data, 0o600)
}

func existing(ctx context.Context, flags *Flags) (*Clusters, error) {
	config, err := flags.Config()
	if err != nil {
		return nil, err
	}
	if err := checkServed(ctx, config); err != nil {
		return nil, err
	}
	return &Clusters{Management: config, Namespace: flags.Namespace(), Kubeconfig: flags.kubeconfig, context: flags.context}, nil
}

// checkServed needs no rights, since every user may read discovery.
func checkServed(ctx context.Context, config *rest.Config) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var list metav1.APIResourceList
	path := "/apis/" + openchoreov1alpha1.SchemeGroupVersion.String()
	err = client.RESTClient().Get().AbsPath(path).Do(ctx).Into(&list)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cluster at %s: %w", config.Host, err)
	}
	if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "dataplanes" }) {
		return fmt.Errorf("cluster at %s does not serve %s; to install it, in a clone of the SDK: "+
			"kubectl apply -f apis/openchoreo/crds/openchoreo.dev_dataplanes.yaml", config.Host, crds.DataPlaneName)
	}
	return nil
}
