// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
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

// builder fills dir, a folder below base.
type builder struct {
	base, dir string
	progress  *progress
}

// require builds the missing binaries, and returns when dir has all of them. Until it returns, or
// this process ends in any way, a lock keeps other builders out of base.
func (b *builder) require(ctx context.Context, names []string) error {
	if err := os.MkdirAll(b.base, 0o755); err != nil {
		return fmt.Errorf("make the cache folder: %w", err)
	}
	lock := flock.New(filepath.Join(b.base, lockFile))
	defer func() { _ = lock.Close() }()
	locked, err := lock.TryLock()
	if err == nil && !locked {
		// The other process shows the progress.
		b.progress.linef("waiting for another process that builds in %s", b.base)
		_, err = lock.TryLockContext(ctx, lockRetry)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	// Another process may have built them while this one waited.
	missing := missingBinaries(b.dir, names)
	if len(missing) == 0 {
		return nil
	}
	return b.build(ctx, missing)
}

// build compiles into a temporary folder and moves each binary to dir in one step. The caller holds
// the lock.
func (b *builder) build(ctx context.Context, names []string) (err error) {
	began := time.Now()
	// Only a killed builder leaves its folder.
	leftovers, _ := filepath.Glob(filepath.Join(b.base, tempPattern)) // fails for a bad pattern only
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return fmt.Errorf("remove the folder of an earlier build: %w", err)
		}
	}

	b.progress.linef("building %s of Kubernetes %s (once, 5 to 15 minutes on two cores); to download them instead, stop this, "+
		"and run: go run sigs.k8s.io/controller-runtime/tools/setup-envtest@latest use",
		strings.Join(names, " and "), kubernetesVersion)

	// Outside its own caches, the go command writes into this folder only.
	work, err := os.MkdirTemp(b.base, tempPattern)
	if err != nil {
		return fmt.Errorf("make a build folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	err = errors.Join(
		os.WriteFile(filepath.Join(work, "go.mod"), pinnedMod, 0o644),
		os.WriteFile(filepath.Join(work, "go.sum"), pinnedSum, 0o644))
	if err != nil {
		return err
	}
	var packages []string
	for _, name := range names {
		packages = append(packages, mainPackages[name])
	}
	stale, err := b.download(ctx, work, packages)
	if err != nil {
		return err
	}
	bin := filepath.Join(work, "bin") + string(filepath.Separator)
	if err := b.compile(ctx, work, stale, append([]string{"-o=" + bin}, packages...)); err != nil {
		return err
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	for i, name := range names {
		// The go command names a binary after the last element of its import path that isn't a version.
		built := path.Base(strings.TrimSuffix(packages[i], "/v3"))
		if err := os.Rename(filepath.Join(bin, built), filepath.Join(b.dir, name)); err != nil {
			return err
		}
	}
	b.progress.linef("built in %s, kept in %s", time.Since(began).Round(time.Second), b.dir)
	return nil
}

// download makes the go command download the binaries' modules. It returns how many of their packages
// aren't in the go command's build cache.
func (b *builder) download(ctx context.Context, work string, packages []string) (stale int, err error) {
	var modules atomic.Int64
	defer b.progress.phase(func() string {
		return fmt.Sprintf("downloading, %d modules", modules.Load())
	})()
	stdout, err := runGo(ctx, work, func(line string) {
		if strings.HasPrefix(line, "go: downloading ") {
			modules.Add(1)
		}
	}, slices.Concat([]string{"list", "-deps", "-f={{.Stale}}"}, buildFlags(), packages)...)
	return bytes.Count(stdout, []byte("true\n")), err
}

func (b *builder) compile(ctx context.Context, work string, stale int, args []string) error {
	var compiled atomic.Int64
	defer b.progress.phase(func() string {
		if n := int(compiled.Load()); n < stale {
			return fmt.Sprintf("compiling, %d of %d packages", n, stale)
		}
		return "linking"
	})()
	_, err := runGo(ctx, work, func(line string) {
		// With -v, the go command prints the import path of each package that it compiles.
		if !strings.ContainsAny(line, " \t:") {
			compiled.Add(1)
		}
	}, slices.Concat([]string{"build", "-v"}, buildFlags(), args)...)
	return err
}

// runGo runs the go command in a folder, calls onLine with each line of its stderr, and returns
// its stdout. An error ends with the last lines of stderr. When ctx ends, the go command and all its
// child processes are killed.
func runGo(ctx context.Context, dir string, onLine func(string), args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		// The build must not depend on these. An empty value would let the file of "go env -w" decide.
		"GO111MODULE=on", "GOFLAGS=-mod=readonly", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOWORK=off",
		"CGO_ENABLED=0", "GOTMPDIR="+dir,
		// Compilers take up to half of the time longer with garbage collection, and few reach the limit.
		"GOGC=off", "GOMEMLIMIT=2GiB")
	cmd.Stdout = &stdout
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = childAttr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	runtime.LockOSThread() // see childAttr
	defer runtime.UnlockOSThread()
	if err = cmd.Start(); err == nil {
		for scanner := bufio.NewScanner(pipe); scanner.Scan(); {
			onLine(scanner.Text())
			stderr.WriteString(scanner.Text() + "\n")
		}
		err = cmd.Wait()
	}
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("build the control plane: %w", ended(ctx))
	}
	return nil, fmt.Errorf("build the control plane, which %s=FOLDER avoids: go %s: %w\n\t%s",
		AssetsEnv, args[0], err, lastLines(stderr.String()))
}
