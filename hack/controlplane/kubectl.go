// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Kubectl runs the real kubectl as a user who may do anything, and returns its output. An exit
// status other than 0 is an *exec.ExitError, wrapped with kubectl's stderr.
func (cp *ControlPlane) Kubectl(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	cmd, err := cp.KubectlCommand(ctx, args...)
	if err != nil {
		return "", "", err
	}
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err = cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ended(ctx)
		}
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errOut.Bytes()))
	}
	return out.String(), errOut.String(), err
}

// KubectlCommand returns a kubectl command that isn't started, for callers that set its stdin, a
// terminal or other credentials (--kubeconfig). It has the caller's environment, except that it
// knows only this cluster, and keeps its files in the control plane's folder instead of ~/.kube.
// The end of ctx kills the command; Stop doesn't. The first call builds kubectl if it is missing,
// and returns the errors of Binaries.
func (cp *ControlPlane) KubectlCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	if err := cp.binaries.require(ctx, "kubectl"); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(cp.binaries.path, "kubectl"), args...)
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "KUBE") || strings.HasPrefix(kv, "HOME=")
	})
	cmd.Env = slices.Concat(env, []string{"HOME=" + cp.dir, "KUBECONFIG=" + cp.KubeconfigFile()})
	return cmd, nil
}

// KubeconfigFile returns the path of a kubeconfig file of a user who may do anything. Stop removes it.
func (cp *ControlPlane) KubeconfigFile() string { return filepath.Join(cp.dir, "kubeconfig") }
