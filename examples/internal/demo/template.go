// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// ProvideCluster gives a template a cluster to run on. With --kubeconfig or --context among the
// arguments, it returns at once and the program runs on that cluster. Otherwise it starts a
// control plane, runs the program again with --kubeconfig for it, removes it, and exits.
//
// The control plane serves one DataPlane, production, which describes the control plane
// itself and has the condition Created, as OpenChoreo sets it.
func ProvideCluster() {
	if slices.ContainsFunc(os.Args[1:], func(arg string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return strings.HasPrefix(arg, "-") && slices.Contains([]string{"kubeconfig", "context", "help", "h"}, name)
	}) {
		return
	}
	var child *exec.Cmd
	code := Main(filepath.Base(os.Args[0]), func(ctx context.Context) (err error) {
		clusters, err := Start(ctx, &Flags{}, 0, os.Stderr)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, clusters.Stop()) }()
		if err := clusters.createProduction(ctx); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "while this runs: export KUBECONFIG=%s\n", clusters.Kubeconfig)
		program, err := os.Executable()
		if err != nil {
			return err
		}
		child = exec.CommandContext(ctx, program, append([]string{"--kubeconfig=" + clusters.Kubeconfig}, os.Args[1:]...)...)
		child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
		child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
		child.WaitDelay = 20 * time.Second
		var exit *exec.ExitError
		if err := child.Run(); !errors.As(err, &exit) {
			return err
		}
		return nil // the program has said what is wrong
	})
	if code == 0 {
		code = child.ProcessState.ExitCode()
	}
	os.Exit(code)
}

func (c *Clusters) createProduction(ctx context.Context) error {
	client, err := openchoreoclient.NewForConfig(c.Management)
	if err != nil {
		return err
	}
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes(c.Namespace)
	dp, err := dataPlanes.Create(ctx,
		dataplanetest.DataPlane(c.Namespace, "production", dataplanetest.CredentialsFor(c.Management)), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = helpers.PatchConditions(ctx, dataPlanes, dp, []metav1.Condition{{
		Type:    openchoreov1alpha1.DataPlaneConditionCreated,
		Status:  metav1.ConditionTrue,
		Reason:  "DataPlaneCreated",
		Message: "Dataplane is created",
	}}, helpers.PatchOptions{})
	return err
}
