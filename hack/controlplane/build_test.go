// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	eventually = 20 * time.Second
	tick       = 10 * time.Millisecond
)

// childEnv makes the test binary do what a program of its own would, see TestMain.
const childEnv = "CONTROLPLANE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "binaries":
		dir, err := Binaries(context.Background(), os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(dir)
	case "start":
		if _, err := Start(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("started")
		select {}
	default:
		os.Exit(m.Run())
	}
}

// fakeGo answers like the go command, in one of several moods. It notes each build in a log, and
// "builds" scripts that answer like the real binaries.
const fakeGo = `#!/bin/sh
case "$1" in
list)
  if [ "$FAKE_MOOD" = offline ]; then echo 'go: k8s.io/api@v0.36.3: no such host' >&2; exit 1; fi
  echo 'go: downloading k8s.io/api v0.36.3' >&2
  printf 'false\ntrue\ntrue\ntrue\n'
  exit ;;
esac
env > "$FAKE_DIR/env"
echo build >> "$FAKE_DIR/log"
for arg; do case "$arg" in -o=*) out="${arg#-o=}" ;; esac; done
binary() { printf '#!/bin/sh\necho %s\n' "$2" > "$out/$1"; chmod +x "$out/$1"; }
echo k8s.io/api/core/v1 >&2
case "$*" in *etcd*) binary server "'etcd Version: $FAKE_ETCD'" ;; esac
case "$FAKE_MOOD" in
broken) echo 'a.go:1:1: syntax error' >&2; exit 1 ;;
hang) sleep 600 & echo $! > "$FAKE_DIR/pid"; mv "$FAKE_DIR/pid" "$FAKE_DIR/hanging"; wait ;;
wait) while [ ! -e "$FAKE_DIR/go-on" ]; do sleep 0.02; done ;;
esac
case "$*" in *kube-apiserver*) binary kube-apiserver "'Kubernetes $FAKE_KUBERNETES'" ;; esac
case "$*" in *kubectl*) binary kubectl "'Client Version: $FAKE_KUBERNETES'" ;; esac
`

// fake is a fresh cache and a go command that only pretends.
type fake struct {
	t    *testing.T
	dir  string // what the go command writes down
	base string
	want string // the folder that Binaries returns
}

func newFake(t *testing.T, mood string) *fake {
	t.Helper()
	pins, err := parsePins(pinnedMod, pinnedSum)
	require.NoError(t, err)
	f := &fake{t: t, dir: t.TempDir(), base: filepath.Join(t.TempDir(), "cache")}
	f.want = filepath.Join(f.base, pins.key())
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "go"), []byte(fakeGo), 0o755))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv(AssetsEnv, "")
	t.Setenv("HOME", t.TempDir()) // whose store of setup-envtest is empty
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv(CacheEnv, f.base)
	t.Setenv("FAKE_DIR", f.dir)
	t.Setenv("FAKE_MOOD", mood)
	t.Setenv("FAKE_KUBERNETES", pins.kubernetes)
	t.Setenv("FAKE_ETCD", strings.TrimPrefix(pins.etcd, "v"))
	return f
}

func (f *fake) builds() int {
	log, err := os.ReadFile(filepath.Join(f.dir, "log"))
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(f.t, err)
	}
	return strings.Count(string(log), "build\n")
}

// requireNothingBuilt checks that the cache has no folder that looks like binaries, whole or not.
func (f *fake) requireNothingBuilt() {
	f.t.Helper()
	entries, err := os.ReadDir(f.base)
	require.NoError(f.t, err)
	for _, entry := range entries {
		require.Equal(f.t, lockFile, entry.Name())
	}
}

// hanging waits until a build hangs, and returns the process that keeps it so.
func (f *fake) hanging() int {
	f.t.Helper()
	var pid int
	require.Eventually(f.t, func() bool {
		data, err := os.ReadFile(filepath.Join(f.dir, "hanging"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	}, eventually, tick)
	return pid
}

// gone says whether a process has ended, also if nobody has waited for it yet.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// child runs Binaries in a process of its own.
func child(what string) (*exec.Cmd, *syncBuffer) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	output := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	return cmd, output
}

// syncBuffer can be read while a process still writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestBinariesBuildsOnce(t *testing.T) {
	f := newFake(t, "")
	var progress syncBuffer
	dir, err := Binaries(t.Context(), &progress)
	require.NoError(t, err)
	assert.Equal(t, f.want, dir)
	for _, name := range serverBinaries {
		assert.FileExists(t, filepath.Join(dir, name))
	}
	assert.NoFileExists(t, filepath.Join(dir, "kubectl"), "nobody has asked for it")
	lines := strings.Split(strings.TrimSpace(progress.String()), "\n")
	require.Len(t, lines, 2)
	assert.Contains(t, lines[0], "building etcd and kube-apiserver of Kubernetes v1.")
	assert.Contains(t, lines[1], "kept in "+dir)

	progress = syncBuffer{}
	again, err := Binaries(t.Context(), &progress)
	require.NoError(t, err)
	assert.Equal(t, dir, again)
	assert.Empty(t, progress.String(), "a full cache has nothing to tell")
	assert.Equal(t, 1, f.builds())

	entries, err := os.ReadDir(f.base)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "the lock and the binaries")
}

func TestBinariesBuildsKubectlOnceItIsAskedFor(t *testing.T) {
	f := newFake(t, "")
	dir, err := Binaries(t.Context(), nil)
	require.NoError(t, err)
	before, err := os.Stat(filepath.Join(dir, "etcd"))
	require.NoError(t, err)
	for range 2 {
		_, err = Binaries(t.Context(), nil, "kubectl")
		require.NoError(t, err)
	}
	assert.FileExists(t, filepath.Join(dir, "kubectl"))
	after, err := os.Stat(filepath.Join(dir, "etcd"))
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after), "what is there stays: somebody may run it")
	assert.Equal(t, 2, f.builds())
}

func TestBinariesScrubsTheEnvironment(t *testing.T) {
	f := newFake(t, "")
	t.Setenv("GOFLAGS", "-mod=vendor")
	t.Setenv("GOOS", "plan9")
	t.Setenv("GO111MODULE", "off")
	t.Setenv("GOPRIVATE", "stays.example")
	_, err := Binaries(t.Context(), nil)
	require.NoError(t, err)
	env, err := os.ReadFile(filepath.Join(f.dir, "env"))
	require.NoError(t, err)
	assert.NotContains(t, string(env), "vendor")
	assert.NotContains(t, string(env), "plan9")
	assert.NotContains(t, string(env), "GO111MODULE=off")
	assert.Contains(t, string(env), "GOWORK=off\n")
	assert.Contains(t, string(env), "GOPRIVATE=stays.example\n")
	assert.Contains(t, string(env), "GOTMPDIR="+f.base, "or an interrupted build would leave files elsewhere")
}

func TestAFailedBuildShowsTheOutputAndLeavesNothing(t *testing.T) {
	for mood, text := range map[string]string{"offline": "no such host", "broken": "syntax error"} {
		t.Run(mood, func(t *testing.T) {
			f := newFake(t, mood)
			_, err := Binaries(t.Context(), nil)
			require.ErrorContains(t, err, text)
			require.ErrorContains(t, err, AssetsEnv)
			f.requireNothingBuilt()
		})
	}
}

func TestBinariesRefusesBinariesOfAnotherVersion(t *testing.T) {
	f := newFake(t, "")
	t.Setenv("FAKE_KUBERNETES", "v0.0.0-master")
	_, err := Binaries(t.Context(), nil)
	require.ErrorContains(t, err, "unexpected version")
	f.requireNothingBuilt()
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	f := newFake(t, "hang")
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := Binaries(ctx, nil)
		result <- err
	}()
	pid := f.hanging()
	cancel(errors.New("interrupt signal received"))
	err := <-result
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "interrupt signal received")
	require.Eventually(t, func() bool { return gone(pid) }, eventually, tick, "a child of the go command goes on")
	f.requireNothingBuilt()
}

func TestProcessesBuildOnce(t *testing.T) {
	f := newFake(t, "wait")
	type run struct {
		cmd    *exec.Cmd
		output *syncBuffer
	}
	var runs []run
	for range 3 {
		cmd, output := child("binaries")
		require.NoError(t, cmd.Start())
		runs = append(runs, run{cmd, output})
	}
	require.Eventually(t, func() bool {
		waiting := 0
		for _, run := range runs {
			waiting += strings.Count(run.output.String(), "waiting for another process")
		}
		return waiting == len(runs)-1 && f.builds() == 1
	}, eventually, tick)
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, "go-on"), nil, 0o600))
	for _, run := range runs {
		require.NoError(t, run.cmd.Wait(), run.output)
		assert.Contains(t, run.output.String(), f.want+"\n")
	}
	assert.Equal(t, 1, f.builds())
}
