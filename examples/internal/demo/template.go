// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// The data planes of a Provided.
const (
	production  = "production" // a DataPlane
	clusterWide = "default"    // a ClusterDataPlane
)

// Provided is the cluster on which a template runs without --kubeconfig.
type Provided struct {
	*Clusters
	// gateway is nil if the program has no flag --gateway, or its user has set it.
	gateway *gateway
}

// Act changes the cluster while a template runs. It starts with the program.
type Act func(context.Context, *Provided) error

// ProvideCluster gives a template a cluster to run on; call it after args.Parse. With --kubeconfig
// or --context, it returns at once and the program runs on that cluster. Otherwise it starts a
// control plane, runs the program again with --kubeconfig for it, removes it, and exits with the
// program's exit code.
//
// The control plane serves the DataPlane production, with credentials as in OpenChoreo v0.3, and the
// ClusterDataPlane default, without credentials as in v1. Both describe the control plane itself.
// They are ready if there is no act; an act can make them ready. A program with the flag --gateway
// gets a cluster gateway.
func ProvideCluster(act ...Act) {
	set := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if set["kubeconfig"] || set["context"] {
		return
	}
	program, code := filepath.Base(os.Args[0]), 0
	failed := Run(program, &Flags{}, 0, func(ctx context.Context, clusters *Clusters) (err error) {
		p := &Provided{Clusters: clusters}
		if flag.Lookup("gateway") != nil && !set["gateway"] {
			if p.gateway, err = startGateway(clusterWide, clusters.Management); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, p.gateway.stop()) }()
		}
		if err := p.createDataPlanes(ctx); err != nil {
			return err
		}
		if len(act) == 0 {
			if err := p.becomeReady(ctx); err != nil {
				return err
			}
		}
		code, err = p.runAgain(ctx, act)
		return err
	})
	if code = max(code, failed); code == 0 {
		fmt.Fprintln(os.Stderr, "next: "+before[program]+"run it on your cluster, with --kubeconfig=FILE"+after[program])
	}
	os.Exit(code)
}

// Suggestions by program, printed before and after the suggestion to run it on the user's cluster.
var (
	before = map[string]string{"wait": "see the error of --timeout=1s, wait for --name=clusterdataplane/" + clusterWide + ", or "}
	after  = map[string]string{"connect": throughGateway, "watch-workloads": throughGateway}
)

const throughGateway = " and, for OpenChoreo v1, --gateway=URL (docs/connecting.md)"

func (p *Provided) createDataPlanes(ctx context.Context) error {
	if err := p.Plane.InstallCRDs(ctx, crds.ClusterDataPlane()); err != nil {
		return err
	}
	mayCount := rbacv1.PolicyRule{APIGroups: []string{corev1.GroupName}, Resources: []string{"namespaces"}, Verbs: []string{"list"}}
	if _, err := p.Create(ctx, p.Itself(), production, []rbacv1.PolicyRule{mayCount}); err != nil {
		return err
	}
	_, err := p.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Create(ctx, dataplanetest.ClusterDataPlane(clusterWide), metav1.CreateOptions{})
	return err
}

// becomeReady writes the status of both data planes as OpenChoreo does.
func (p *Provided) becomeReady(ctx context.Context) error {
	if _, err := p.SetCondition(ctx, production, "openchoreo", metav1.Condition{
		Type: openchoreov1alpha1.DataPlaneConditionCreated, Status: metav1.ConditionTrue, Reason: "DataPlaneCreated", Message: "Dataplane is created",
	}); err != nil {
		return err
	}
	clusterDataPlanes := p.Client.OpenChoreoV1alpha1().ClusterDataPlanes()
	stored, err := clusterDataPlanes.Get(ctx, clusterWide, metav1.GetOptions{})
	if err != nil {
		return err
	}
	stored.Status = dataplanetest.ClusterDataPlane(clusterWide).Status
	_, err = clusterDataPlanes.UpdateStatus(ctx, stored, metav1.UpdateOptions{FieldManager: "openchoreo"})
	return err
}

// runAgain runs this program on the clusters, and returns its exit code. Ctrl-C in a terminal reaches
// that process directly.
func (p *Provided) runAgain(ctx context.Context, act []Act) (int, error) {
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	args := []string{"--kubeconfig=" + p.Plane.KubeconfigFile()}
	if p.gateway != nil {
		args = append(args, p.gateway.flags...)
	}
	child := exec.CommandContext(ctx, program, append(args, os.Args[1:]...)...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
	child.WaitDelay = 20 * time.Second
	if err := child.Start(); err != nil {
		return 0, err
	}
	acting, end := context.WithCancel(ctx)
	for _, do := range act {
		go func() {
			if err := do(acting, p); err != nil && acting.Err() == nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
	err = child.Wait()
	end()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil // the program has printed its error
	}
	if ctx.Err() != nil {
		return 0, nil // the signal ended the program
	}
	return 0, err
}

// Itself returns the management cluster as a target. c must not use an existing management cluster.
func (c *Clusters) Itself() *Target { return &Target{c.Plane, "management", c.Core} }

// IsReadyLater makes the data planes ready after three seconds.
func IsReadyLater(ctx context.Context, p *Provided) error {
	fmt.Fprintf(os.Stderr, "in 3 seconds, DataPlane %s gets the condition Created, and ClusterDataPlane %s an agent, as OpenChoreo reports them\n", production, clusterWide)
	select {
	case <-time.After(3 * time.Second):
		return p.becomeReady(context.WithoutCancel(ctx)) // the program may end before the answers arrive
	case <-ctx.Done():
		return nil
	}
}

// RotatesOnEnter makes the data planes ready. It replaces the credentials of production, and the client
// certificate of the gateway, each time that the user presses Enter.
func RotatesOnEnter(ctx context.Context, p *Provided) error {
	if err := p.becomeReady(ctx); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "to use this cluster while the program runs: export KUBECONFIG=%s\n"+
		"press Enter to replace the credentials in DataPlane %s and the certificate for the gateway; the program continues with the new ones\n",
		p.Plane.KubeconfigFile(), production)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		credentials, err := p.Itself().Credentials(ctx, production)
		if err != nil {
			return err
		}
		if _, err := p.Rotate(ctx, production, credentials); err != nil {
			return err
		}
		if p.gateway != nil {
			if err := p.gateway.rotate(); err != nil {
				return err
			}
		}
	}
	return nil
}
