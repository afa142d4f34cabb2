// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package demotest runs an example in its tests as users do: built, as a process.
package demotest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// Patience is how long tests wait for an event. It is far longer than needed, for busy
// machines.
const Patience = 3 * time.Minute

// Main is TestMain of an example: it builds the program in the working directory, sets
// program to its path, and runs the tests. If these use kubectl, binaries names it.
func Main(m *testing.M, name string, program *string, binaries ...string) {
	var dir string
	build := func() error {
		err := build(&dir, []string{"."}, binaries)
		*program = filepath.Join(dir, name)
		return err
	}
	os.Exit(run(m, &dir, build))
}

// MainOf is TestMain of several programs: it builds packages into a folder, sets dir to its
// path, and runs the tests.
func MainOf(m *testing.M, dir *string, packages []string) {
	os.Exit(run(m, dir, func() error { return build(dir, packages, nil) }))
}

func run(m *testing.M, dir *string, build func() error) int {
	defer func() { _ = os.RemoveAll(*dir) }()
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build adds the race detector if the tests have it. It also builds the binaries of control
// planes, if needed, so that no test has to.
func build(dir *string, packages, binaries []string) (err error) {
	if *dir, err = os.MkdirTemp("", "examples-test-*"); err != nil {
		return err
	}
	args := []string{"build", "-ldflags=-s -w", "-o", *dir + "/"} // quicker to link
	if raceEnabled() {
		args = append(args, "-race")
	}
	if output, err := exec.Command("go", append(args, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, output)
	}
	_, err = controlplane.Binaries(context.Background(), os.Stderr, binaries...)
	return err
}

// Cluster starts a control plane that serves DataPlanes and ends with the test.
func Cluster(t testing.TB) *demo.Clusters {
	t.Helper()
	clusters, err := demo.Start(t.Context(), &demo.Flags{}, 0, io.Discard)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, clusters.Stop()) })
	return clusters
}

// InNamespace creates a namespace, and returns clusters with it and a client for its DataPlanes.
func InNamespace(t testing.TB, clusters *demo.Clusters, name string) (*demo.Clusters, openchoreotyped.DataPlaneInterface) {
	t.Helper()
	core, err := kubernetes.NewForConfig(clusters.Management)
	require.NoError(t, err)
	_, err = core.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	client, err := openchoreoclient.NewForConfig(clusters.Management)
	require.NoError(t, err)
	in := *clusters
	in.Namespace = name
	return &in, client.OpenChoreoV1alpha1().DataPlanes(name)
}

// SkipIfShort skips a test that starts a control plane and shows little that others don't.
func SkipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts a control plane of its own")
	}
}

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// Process is a run of a program, with its own folder for temporary files. At the end of the
// test, it is killed if it still runs, and must not have printed any secret.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	temp string
	done chan struct{} // closed when the process has ended

	stdout, both output
}

// Start starts a program.
func Start(t testing.TB, path string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, temp: t.TempDir(), done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.temp)
	p.cmd.Stdout, p.cmd.Stderr = io.MultiWriter(&p.stdout, &p.both), &p.both
	p.cmd.WaitDelay = Patience // for child processes that keep its output open
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // ProcessState has the outcome
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		for _, secret := range []string{"PRIVATE KEY", "LS0tLS1" /* base64 of PEM */} {
			assert.NotContains(t, p.String(), secret)
		}
	})
	return p
}

// WaitFor returns once the program has printed text.
func (p *Process) WaitFor(text string) {
	p.t.Helper()
	p.WaitForN(text, 1)
}

// WaitForN returns once the program has printed text n times. It fails if the program ends
// before that.
func (p *Process) WaitForN(text string, n int) {
	p.t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ended := false; strings.Count(p.String(), text) < n; {
		if ended {
			require.Failf(p.t, "the program has ended", "want %d times %q in:\n%s", n, text, p)
		}
		select {
		case <-tick.C:
		case <-p.done:
			ended = true
		case <-deadline:
			require.Failf(p.t, "the program should go on", "want %d times %q in:\n%s", n, text, p)
		}
	}
}

// Signal sends a signal to the program.
func (p *Process) Signal(signal os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(signal), p)
}

// SignalUntilEnd repeats a signal until the program has ended: the program may restore the
// default effect of the signal a moment later than its output suggests.
func (p *Process) SignalUntilEnd(signal os.Signal) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		select {
		case <-p.done:
			return true
		default:
			_ = p.cmd.Process.Signal(signal) // it may end at this very moment
			return false
		}
	}, Patience, 10*time.Millisecond)
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

// Kill ends the program as SIGKILL does, and waits for that.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	p.Wait()
}

// Pid returns the id of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

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
		// A process may have ended meanwhile.
		if command, err := os.ReadFile(file); err == nil {
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
