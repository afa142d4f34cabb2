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

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

const production = "production"

// Act is what happens to the DataPlane production while a template runs.
type Act func(context.Context, *Clusters) error

// ProvideCluster gives a template a cluster to run on; call it after flag.Parse. With --kubeconfig
// or --context, it returns at once and the program runs on that cluster. Otherwise it starts a
// control plane, runs the program again with --kubeconfig for it, removes it, and exits.
//
// The control plane serves one DataPlane, production, which describes the control plane itself. Without
// an act, it has the condition Created, as OpenChoreo sets it.
func ProvideCluster(act ...Act) {
	provided := false
	flag.Visit(func(f *flag.Flag) { provided = provided || f.Name == "kubeconfig" || f.Name == "context" })
	if provided {
		return
	}
	failed := false
	code := Run(filepath.Base(os.Args[0]), &Flags{}, 0, func(ctx context.Context, clusters *Clusters) error {
		mayCount := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"list"}}
		if _, err := clusters.Create(ctx, clusters.Itself(), production, []rbacv1.PolicyRule{mayCount}); err != nil {
			return err
		}
		if len(act) == 0 {
			if err := setCreated(ctx, clusters); err != nil {
				return err
			}
		}
		for _, do := range act {
			go func() {
				if err := do(ctx, clusters); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}()
		}
		err := runAgain(ctx, clusters)
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) || ctx.Err() != nil {
			failed = ctx.Err() == nil
			return nil // the program has said what is wrong
		}
		return err
	})
	if failed {
		code = 1
	}
	if code == 0 {
		fmt.Fprintln(os.Stderr, "next: run it on a cluster of yours, with --kubeconfig=FILE")
	}
	os.Exit(code)
}

// runAgain runs this program on the clusters. Ctrl-C in a terminal reaches it by itself.
func runAgain(ctx context.Context, clusters *Clusters) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, program, append([]string{"--kubeconfig=" + clusters.Plane.KubeconfigFile()}, os.Args[1:]...)...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
	child.WaitDelay = 20 * time.Second
	return child.Run()
}

// Itself returns the management cluster as a target. It must not be an existing one.
func (c *Clusters) Itself() *Target { return &Target{c.Plane, "management", c.Core} }

// IsCreatedLater sets the condition Created after three seconds.
func IsCreatedLater(ctx context.Context, c *Clusters) error {
	fmt.Fprintln(os.Stderr, "in 3 seconds, DataPlane production gets the condition Created, as from OpenChoreo")
	select {
	case <-time.After(3 * time.Second):
		return setCreated(ctx, c)
	case <-ctx.Done():
		return nil
	}
}

func setCreated(ctx context.Context, c *Clusters) error {
	_, err := c.SetCondition(ctx, production, "openchoreo", metav1.Condition{
		Type: openchoreov1alpha1.DataPlaneConditionCreated, Status: metav1.ConditionTrue, Reason: "DataPlaneCreated", Message: "Dataplane is created",
	})
	return err
}

// RotatesOnEnter gives production other credentials each time that the user presses Enter.
func RotatesOnEnter(ctx context.Context, c *Clusters) error {
	fmt.Fprintf(os.Stderr, "while this runs: export KUBECONFIG=%s\npress Enter to rotate the credentials of DataPlane production\n", c.Plane.KubeconfigFile())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		credentials, err := c.Itself().Credentials(ctx, production)
		if err != nil {
			return err
		}
		if _, err := c.Rotate(ctx, production, credentials); err != nil {
			return err
		}
	}
	return nil
}
