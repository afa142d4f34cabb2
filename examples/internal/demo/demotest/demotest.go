// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package demotest runs an example in its tests as users do: as a compiled program.
package demotest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// Patience is how long tests wait for an event. It is far longer than needed, for busy
// machines.
const Patience = 3 * time.Minute

// programs is the folder of the programs that Main has built.
var programs string

// Main is TestMain of examples: it builds their programs, which Start starts by the names of their
// folders, and the binaries of control planes if they are missing. Then it runs the tests.
func Main(m *testing.M, packages ...string) {
	os.Exit(func() int {
		defer func() { _ = os.RemoveAll(programs) }()
		if err := build(packages); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func build(packages []string) (err error) {
	if programs, err = os.MkdirTemp("", "examples-test-*"); err != nil {
		return err
	}
	args := []string{"build", "-ldflags=-s -w", "-o", programs + "/"} // quicker to link
	if output, err := exec.Command("go", append(args, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, output)
	}
	_, err = controlplane.Binaries(context.Background(), os.Stderr)
	return err
}

// Clusters starts a control plane that serves DataPlanes, and targets. They end with the test.
func Clusters(t testing.TB, targets int) *demo.Clusters {
	t.Helper()
	clusters, err := demo.Start(t.Context(), &demo.Flags{}, targets)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, clusters.Stop()) })
	return clusters
}

// Kubeconfig writes a kubeconfig file for a user of the management cluster, with this default
// namespace, and returns its path.
func Kubeconfig(t testing.TB, clusters *demo.Clusters, namespace, user string, groups ...string) string {
	t.Helper()
	u, err := clusters.Plane.AddUser(user, groups...)
	require.NoError(t, err)
	data, err := u.Kubeconfig()
	require.NoError(t, err)
	config, err := clientcmd.Load(data)
	require.NoError(t, err)
	config.Contexts[config.CurrentContext].Namespace = namespace
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, path))
	return path
}

// RefusesBadFlags asserts that a demo refuses each of these command lines with one line, before it
// starts anything.
func RefusesBadFlags(t *testing.T, program string, each ...string) {
	t.Helper()
	refuses := func(args string, code int) {
		t.Helper()
		p := Start(t, program, strings.Fields(args)...)
		assert.Equal(t, code, p.Wait(), args)
		assert.Regexp(t, "^"+program+": .+\n$", p.String())
	}
	for _, args := range append(each, "surplus --kubeconfig=other", "--no-such-flag") {
		refuses(args, 2)
	}
	refuses("--kubeconfig=no-such-file", 1)
}

// Process is a run of a program, with its own folder for temporary files. At the end of the
// test, it is killed if it still runs, and must not have printed any secret.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.Writer
	temp string
	done chan struct{} // closed when the process has ended

	stdout, both output
}

// Start starts a program that Main has built.
func Start(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	return StartWith(t, nil, program, args...)
}

// StartWith is Start with more environment variables, such as "POD_NAME=pod".
func StartWith(t testing.TB, env []string, program string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(filepath.Join(programs, program), args...), temp: t.TempDir(), done: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), "TMPDIR="+p.temp), env...)
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	p.cmd.Stdout, p.cmd.Stderr = io.MultiWriter(&p.stdout, &p.both), &p.both
	p.cmd.WaitDelay = Patience // for child processes that keep its output open
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // ProcessState has the outcome
	}()
	t.Cleanup(func() {
		p.Kill()
		for _, secret := range []string{"PRIVATE KEY", "LS0tLS1" /* base64 of PEM */} {
			assert.NotContains(t, p.String(), secret)
		}
	})
	return p
}

// WaitFor returns once the program has printed text. It fails if the program ends before that.
func (p *Process) WaitFor(text string) {
	p.t.Helper()
	deadline := time.After(Patience)
	for ended := false; !strings.Contains(p.String(), text); {
		require.Falsef(p.t, ended, "the program has ended, without %q:\n%s", text, p)
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.done:
			ended = true
		case <-deadline:
			require.Failf(p.t, "nothing happens", "want %q in:\n%s", text, p)
		}
	}
}

// Type writes to the standard input of the program.
func (p *Process) Type(text string) {
	p.t.Helper()
	_, err := io.WriteString(p.in, text)
	require.NoError(p.t, err, p)
}

// Signal sends a signal to the program.
func (p *Process) Signal(signal os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(signal), p)
}

// Wait returns the exit code, or -1 when a signal ended the program.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		require.Fail(p.t, "the program should end", p)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Kill ends the program, if it still runs, as SIGKILL does, and waits for that.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// String returns the output of the program so far. The order of lines that come at about the
// same time from standard output and standard error is undefined.
func (p *Process) String() string { return p.both.String() }

// Stdout returns the standard output of the program so far.
func (p *Process) Stdout() string { return p.stdout.String() }

// LeavesNothing asserts that a program that has ended has removed its temporary files and, on
// Linux, that no process has one of them in its command line.
func (p *Process) LeavesNothing() {
	p.t.Helper()
	entries, err := os.ReadDir(p.temp)
	require.NoError(p.t, err)
	assert.Empty(p.t, entries)

	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(p.t, err)
	for _, file := range files {
		if command, err := os.ReadFile(file); err == nil { // a process may have ended
			assert.NotContains(p.t, string(command), p.temp)
		}
	}
}

// output stores the output of a process, for concurrent readers.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(data)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
