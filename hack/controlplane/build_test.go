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

// childEnv makes the test binary act as another program; see TestMain.
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

// fakeGo is a fake go command with several moods. It records each build in a log, and its binaries
// are empty scripts.
const fakeGo = `#!/bin/sh
if [ "$1" = list ]; then
  if [ "$FAKE_MOOD" = offline ]; then echo 'go: k8s.io/api@v0.36.3: no such host' >&2; exit 1; fi
  echo 'go: downloading k8s.io/api v0.36.3' >&2
  printf 'false\ntrue\ntrue\ntrue\n'
  exit
fi
env > "$FAKE_DIR/env"
echo build >> "$FAKE_DIR/log"
for arg; do case "$arg" in -o=*) out="${arg#-o=}"; mkdir -p "$out" ;; esac; done
echo k8s.io/api/core/v1 >&2
case "$FAKE_MOOD" in
broken) echo 'a.go:1:1: syntax error' >&2; exit 1 ;;
hang) sleep 600 & echo $! > "$FAKE_DIR/pid"; mv "$FAKE_DIR/pid" "$FAKE_DIR/hanging"; wait ;;
wait) while [ ! -e "$FAKE_DIR/go-on" ]; do sleep 0.02; done ;;
esac
binary() { printf '#!/bin/sh\n' > "$out/$1"; chmod +x "$out/$1"; }
case "$*" in *etcd*) binary server ;; esac
case "$*" in *kube-apiserver*) binary kube-apiserver ;; esac
case "$*" in *kubectl*) binary kubectl ;; esac
`

// fake is an empty cache and a fake go command.
type fake struct {
	t    *testing.T
	dir  string // the files of the go command, such as its log
	base string
	want string // the folder that Binaries returns
}

func newFake(t *testing.T, mood string) *fake {
	t.Helper()
	f := &fake{t: t, dir: t.TempDir(), base: filepath.Join(t.TempDir(), "cache")}
	f.want = filepath.Join(f.base, buildKey(pinnedMod, pinnedSum))
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "go"), []byte(fakeGo), 0o755))
	for name, value := range map[string]string{
		"PATH":   bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME":   t.TempDir(), // without a store of setup-envtest
		CacheEnv: f.base, AssetsEnv: "", "XDG_DATA_HOME": "", "FAKE_DIR": f.dir, "FAKE_MOOD": mood,
	} {
		t.Setenv(name, value)
	}
	return f
}

func (f *fake) builds() int {
	log, _ := os.ReadFile(filepath.Join(f.dir, "log"))
	return strings.Count(string(log), "build\n")
}

// requireNothingBuilt requires that the cache has no folder of binaries, complete or not.
func (f *fake) requireNothingBuilt() {
	f.t.Helper()
	entries, err := os.ReadDir(f.base)
	require.NoError(f.t, err)
	require.Len(f.t, entries, 1)
	require.Equal(f.t, lockFile, entries[0].Name())
}

// hanging waits until a build hangs, and returns the ID of the child process for which it waits.
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

// gone returns whether a process has ended, even if its parent hasn't waited for it yet.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// child returns a command that runs a case of TestMain in another process.
func child(what string, output *syncBuffer) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	cmd.Stdout, cmd.Stderr = output, output
	return cmd
}

// syncBuffer is a buffer that can be read while a process writes to it.
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
	assert.Empty(t, missingBinaries(dir, serverBinaries))
	assert.NoFileExists(t, filepath.Join(dir, "kubectl"), "kubectl wasn't requested")
	lines := strings.Split(strings.TrimSpace(progress.String()), "\n")
	require.Len(t, lines, 2)
	assert.Contains(t, lines[0], "building etcd and kube-apiserver of Kubernetes v1.")
	assert.Contains(t, lines[1], "kept in "+dir)
	before, err := os.Stat(filepath.Join(dir, "etcd"))
	require.NoError(t, err)

	progress = syncBuffer{}
	_, err = Binaries(t.Context(), &progress)
	require.NoError(t, err)
	assert.Empty(t, progress.String(), "with a full cache, there is no progress")
	assert.Equal(t, 1, f.builds())

	for range 2 {
		_, err = Binaries(t.Context(), nil, "kubectl")
		require.NoError(t, err)
	}
	assert.FileExists(t, filepath.Join(dir, "kubectl"))
	after, err := os.Stat(filepath.Join(dir, "etcd"))
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after), "existing binaries stay: somebody may run them")
	assert.Equal(t, 2, f.builds())
	entries, err := os.ReadDir(f.base)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "the lock and the binaries")
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
	assert.Contains(t, string(env), "GOTMPDIR="+f.base, "otherwise, an interrupted build would leave files elsewhere")
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
	require.Eventually(t, func() bool { return gone(pid) }, eventually, tick, "a child of the go command is still running")
	f.requireNothingBuilt()
}

func TestProcessesBuildOnce(t *testing.T) {
	f := newFake(t, "wait")
	var output syncBuffer
	var runs [3]*exec.Cmd
	for i := range runs {
		runs[i] = child("binaries", &output)
		require.NoError(t, runs[i].Start())
	}
	require.Eventually(t, func() bool {
		return strings.Count(output.String(), "waiting for another process") == len(runs)-1 && f.builds() == 1
	}, eventually, tick)
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, "go-on"), nil, 0o600))
	for _, run := range runs {
		require.NoError(t, run.Wait(), output.String())
	}
	assert.Equal(t, len(runs), strings.Count(output.String(), f.want+"\n")-1, "each process prints the folder, and one prints it in the progress")
	assert.Equal(t, 1, f.builds())
}

func TestProgressWritesLinesUntilAPhaseEnds(t *testing.T) {
	var out syncBuffer
	p := &progress{w: &out, interval: tick}
	end := p.phase(func() string { return "at work" })
	require.Eventually(t, func() bool { return strings.Count(out.String(), "control plane: at work, 0s\n") > 1 }, eventually, tick)
	end()
	p.linef("done in %s", time.Second)
	assert.True(t, strings.HasSuffix(out.String(), "\ncontrol plane: done in 1s\n"), out.String())
}
