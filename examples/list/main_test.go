// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
)

var program string

func TestMain(m *testing.M) { demotest.Main(m, "list", &program) }

func TestList(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program)
	require.Zero(t, p.Wait(), p)
	assert.Regexp(t, `^NAMESPACE +NAME +READY +CODE +REASON +CREDENTIALS EXPIRE\n`+
		`default +production +true +Current +DataPlaneCreated +20\d\d-\S+Z\n$`, p.Stdout())
	p.LeavesNothing()
}

func TestReportsErrors(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program, "--kubeconfig=missing")
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), "missing: no such file or directory")
}

func TestReadsTheKubeconfigOfKubectl(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	require.NoError(t, os.WriteFile(broken, []byte("broken"), 0o600))
	t.Setenv("KUBECONFIG", broken)
	p := demotest.Start(t, program, "--kubeconfig=")
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), broken)
}
