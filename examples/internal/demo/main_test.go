// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
)

// With an argument of its own, the test program is an example, for the tests.
const runAs = "run-as-example"

func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != runAs {
		os.Exit(m.Run())
	}
	os.Exit(demo.Main("example", func(ctx context.Context) error {
		if os.Args[2] == "fails" {
			return errors.New("broken")
		}
		fmt.Println("up")
		<-ctx.Done()
		switch os.Args[2] {
		case "hangs":
			fmt.Println("hangs")
			select {}
		case "can't stop":
			return errors.Join(ctx.Err(), fmt.Errorf("%w: broken", demo.ErrCleanUp))
		}
		return fmt.Errorf("waiting: %w", ctx.Err())
	}))
}

func TestMainFunction(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, how string) *demotest.Process {
		program, err := os.Executable()
		require.NoError(t, err)
		return demotest.Start(t, program, runAs, how)
	}

	t.Run("prints an error", func(t *testing.T) {
		p := start(t, "fails")
		assert.Equal(t, 1, p.Wait())
		assert.Equal(t, "example: broken\n", p.String())
	})
	t.Run("ends in order when interrupted", func(t *testing.T) {
		p := start(t, "ends")
		p.WaitFor("up")
		p.Signal(os.Interrupt)
		assert.Equal(t, 130, p.Wait())
		assert.Equal(t, "up\nexample: interrupted; cleaning up (Ctrl-C again ends it at once)\n", p.String())
	})
	t.Run("tells what can't be stopped", func(t *testing.T) {
		p := start(t, "can't stop")
		p.WaitFor("up")
		p.Signal(os.Interrupt)
		assert.Equal(t, 130, p.Wait())
		assert.Contains(t, p.String(), "cleaning up: broken")
	})
	t.Run("ends at once when interrupted again", func(t *testing.T) {
		p := start(t, "hangs")
		p.WaitFor("up")
		p.Signal(os.Interrupt)
		p.WaitFor("hangs")
		p.SignalUntilEnd(os.Interrupt)
		assert.Equal(t, -1, p.Wait())
	})
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, []byte(`
apiVersion: v1
kind: Config
current-context: with
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
contexts:
- {name: with, context: {cluster: c, namespace: team}}
- {name: without, context: {cluster: c}}
`), 0o600))
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "default"},
		{[]string{"--namespace", "mine"}, "mine"},
		{[]string{"--kubeconfig", file}, "team"},
		{[]string{"--kubeconfig", file, "--context", "without"}, "default"},
		{[]string{"--kubeconfig", file, "--namespace", "mine"}, "mine"},
	} {
		var flags demo.Flags
		fs := flag.NewFlagSet("example", flag.ContinueOnError)
		flags.Register(fs)
		require.NoError(t, fs.Parse(test.args))
		assert.Equal(t, test.want, flags.Namespace(), test.args)
	}
}
