// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

const (
	lockRetry   = 200 * time.Millisecond
	lockFile    = "lock"
	tempPattern = "build-*"
)

// builder fills the folder of one build below base.
type builder struct {
	base     string
	pins     pins
	progress *progress
}

// dir is the folder of the build.
func (b *builder) dir() string { return filepath.Join(b.base, b.pins.key()) }

// require returns once dir has the binaries, which it builds unless they are there.
func (b *builder) require(ctx context.Context, names []string) error {
	if missing, err := missingBinaries(b.dir(), names); len(missing) == 0 || err != nil {
		return err
	}
	if err := os.MkdirAll(b.base, 0o755); err != nil {
		return fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Another process may have built them while this one waited.
	missing, err := missingBinaries(b.dir(), names)
	if len(missing) == 0 || err != nil {
		return err
	}
	return b.build(ctx, missing)
}

// lock keeps other builders out of base, until unlock is called or this process ends in any way.
func (b *builder) lock(ctx context.Context) (unlock func(), err error) {
	lock := flock.New(filepath.Join(b.base, lockFile))
	locked, err := lock.TryLock()
	if err == nil && !locked {
		// The other process tells how far it is.
		b.progress.linef("waiting for another process that builds in %s", b.base)
		_, err = lock.TryLockContext(ctx, lockRetry)
	}
	if ctx.Err() != nil {
		err = ended(ctx)
	}
	unlock = func() { _ = lock.Close() }
	if err != nil {
		unlock() // ctx may have ended when the lock was there
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	return unlock, nil
}

// build compiles into a temporary folder and moves each binary to dir in one step. The caller has
// the lock.
func (b *builder) build(ctx context.Context, names []string) (err error) {
	began := time.Now()
	// Only a builder that was killed leaves its folder behind.
	leftovers, err := filepath.Glob(filepath.Join(b.base, tempPattern))
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return fmt.Errorf("remove what an earlier build left: %w", err)
		}
	}

	b.progress.linef("building %s of Kubernetes %s, once; "+
		"this takes 5 to 15 minutes on two cores, unless %s is set or setup-envtest has downloaded 1.36 or later",
		strings.Join(names, " and "), b.pins.kubernetes, AssetsEnv)

	work, err := newWorkspace(b.base, b.pins)
	if err != nil {
		return fmt.Errorf("make a build folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work.dir)) }()
	var packages []string
	for _, name := range names {
		packages = append(packages, b.pins.packages[name])
	}
	stale, err := b.download(ctx, work, packages)
	if err != nil {
		return err
	}
	if err := b.compile(ctx, work, packages, stale); err != nil {
		return err
	}
	if err := b.check(ctx, work, names); err != nil {
		return err
	}
	if err := os.MkdirAll(b.dir(), 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(work.bin, name), filepath.Join(b.dir(), name)); err != nil {
			return err
		}
	}
	b.progress.linef("built in %s, kept in %s", time.Since(began).Round(time.Second), b.dir())
	return nil
}

// workspace is the temporary folder of one build. All that the go command writes outside its own
// caches is in it.
type workspace struct {
	dir, src, tmp, bin string
}

func newWorkspace(base string, p pins) (workspace, error) {
	dir, err := os.MkdirTemp(base, tempPattern)
	if err != nil {
		return workspace{}, err
	}
	w := workspace{
		dir: dir,
		src: filepath.Join(dir, "src"),
		tmp: filepath.Join(dir, "tmp"),
		bin: filepath.Join(dir, "bin"),
	}
	for _, sub := range []string{w.src, w.tmp, w.bin} {
		err = errors.Join(err, os.Mkdir(sub, 0o755))
	}
	err = errors.Join(err,
		os.WriteFile(filepath.Join(w.src, "go.mod"), p.mod, 0o644),
		os.WriteFile(filepath.Join(w.src, "go.sum"), p.sum, 0o644))
	if err != nil {
		return workspace{}, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

// download makes the go command fetch the modules that the binaries are made of. It returns how
// many of their packages aren't in the go command's build cache.
func (b *builder) download(ctx context.Context, work workspace, packages []string) (stale int, err error) {
	var modules atomic.Int64
	end := b.progress.phase(func() string {
		return fmt.Sprintf("downloading, %d modules", modules.Load())
	})
	defer end()
	args := slices.Concat([]string{"list", "-deps", "-f={{.Stale}}"}, b.pins.buildFlags(), packages)
	stdout, err := runGo(ctx, work, func(line string) {
		if strings.HasPrefix(line, "go: downloading ") {
			modules.Add(1)
		}
	}, args...)
	return bytes.Count(stdout, []byte("true\n")), err
}

func (b *builder) compile(ctx context.Context, work workspace, packages []string, stale int) error {
	var compiled atomic.Int64
	end := b.progress.phase(func() string {
		if n := int(compiled.Load()); n < stale {
			return fmt.Sprintf("compiling, %d of %d packages", n, stale)
		}
		return "linking"
	})
	args := slices.Concat([]string{"build", "-v", "-o=" + work.bin + string(filepath.Separator)}, b.pins.buildFlags(), packages)
	_, err := runGo(ctx, work, func(line string) {
		// With -v, the go command prints the import path of each package that it compiles.
		if !strings.ContainsAny(line, " \t:") {
			compiled.Add(1)
		}
	}, args...)
	end()
	if err != nil {
		return err
	}
	if !slices.Contains(packages, etcdModule) {
		return nil
	}
	// The go command names a binary after the last folder of its import path that isn't a version.
	return os.Rename(filepath.Join(work.bin, path.Base(path.Dir(etcdModule))), filepath.Join(work.bin, "etcd"))
}

// check runs each binary, so that one that doesn't work here never gets into the cache.
func (b *builder) check(ctx context.Context, work workspace, names []string) error {
	for _, name := range names {
		version := b.pins.versions()[name]
		cmd := exec.CommandContext(ctx, filepath.Join(work.bin, name), version.args...)
		cmd.Dir = work.tmp
		cmd.Env = append(os.Environ(), "HOME="+work.tmp)
		out, err := cmd.CombinedOutput()
		if err == nil && !bytes.Contains(out, []byte(version.want)) {
			err = errors.New("unexpected version")
		}
		if err != nil {
			return fmt.Errorf("check %s: %w: %s", name, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// runGo runs the go command in the workspace, gives each line of its stderr to onLine, and returns
// its stdout. An error ends with the last lines of stderr. When ctx ends, every process that the go
// command has started ends too.
func runGo(ctx context.Context, work workspace, onLine func(string), args ...string) ([]byte, error) {
	var out bytes.Buffer
	var last tail
	stderr, stderrWriter := io.Pipe()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = work.src
	cmd.Env = append(os.Environ(),
		// What a build must not depend on. An empty value would let the file that "go env -w" writes decide.
		"GO111MODULE=on", "GOFLAGS=-mod=readonly", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOWORK=off",
		"CGO_ENABLED=0", "GOTMPDIR="+work.tmp)
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(&last, stderrWriter)
	cmd.SysProcAttr = childAttr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second

	read := make(chan struct{})
	go func() {
		defer close(read)
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			onLine(scanner.Text())
		}
		_, _ = io.Copy(io.Discard, stderr)
	}()
	// See childAttr.
	runtime.LockOSThread()
	err := cmd.Run()
	runtime.UnlockOSThread()
	_ = stderrWriter.Close()
	<-read
	switch {
	case err == nil:
		return out.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("build the control plane: %w", ended(ctx))
	}
	return nil, fmt.Errorf("build the control plane, which %s=FOLDER avoids: go %s: %w\n\t%s",
		AssetsEnv, args[0], err, strings.Join(last.lines(maxLines), "\n\t"))
}

// maxLines is how much of a command's output an error holds.
const maxLines = 20
