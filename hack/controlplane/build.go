// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// What a build writes, measured with Kubernetes v1.36.3 and rounded up. Every build needs the
// first; the others are for empty caches, and shrink with what the go command has there already.
const (
	outputBytes      = 450 << 20  // the binaries, and the linker's copies of them
	objectBytes      = 2500 << 20 // in the temporary folder, and again in GOCACHE
	moduleCacheBytes = 700 << 20  // in GOMODCACHE
)

const (
	lockRetry   = 200 * time.Millisecond
	lockFile    = "lock"
	tempPattern = "build-*"
)

// builder fills the folder of one build below base.
type builder struct {
	base      string
	pins      pins
	progress  *progress
	freeSpace func(path string) (volume, error)
}

// dir is the folder of the build.
func (b *builder) dir() string { return filepath.Join(b.base, b.pins.key()) }

// require returns once dir has the binaries, which it builds unless they are there.
func (b *builder) require(ctx context.Context, names []string) error {
	if missing, err := missingBinaries(b.dir(), names); len(missing) == 0 || err != nil {
		return err
	}
	if err := os.MkdirAll(b.base, 0o755); err != nil {
		return b.explain(ctx, "make the cache folder", goEnv{}, nil, err)
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
		b.progress.linef("control plane: waiting for another process that builds in %s", b.base)
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

	b.progress.linef("control plane: building %s of Kubernetes %s, once; "+
		"this takes 5 to 15 minutes on two cores, unless %s is set or setup-envtest has downloaded 1.36 or later",
		strings.Join(names, " and "), b.pins.kubernetes, AssetsEnv)

	work, err := newWorkspace(b.base, b.pins)
	if err != nil {
		return b.explain(ctx, "make a build folder", goEnv{}, nil, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work.dir)) }()
	env, err := b.goEnv(ctx, work)
	if err != nil {
		return err
	}
	var packages []string
	for _, name := range names {
		packages = append(packages, b.pins.packages[name])
	}
	stale, total, err := b.download(ctx, work, env, packages)
	if err != nil {
		return err
	}
	if err := b.compile(ctx, work, env, packages, stale, total); err != nil {
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
	b.progress.linef("control plane: built in %s, kept in %s", time.Since(began).Round(time.Second), b.dir())
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

// goEnv holds the settings of the go command that a build depends on.
type goEnv struct {
	BuildCache  string `json:"GOCACHE"`
	ModuleCache string `json:"GOMODCACHE"`
	Proxy       string `json:"GOPROXY"`
}

func (b *builder) goEnv(ctx context.Context, work workspace) (goEnv, error) {
	var env goEnv
	stdout, lines, err := runGo(ctx, work, nil, "env", "-json", "GOCACHE", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return env, b.explain(ctx, "go env", env, lines, err)
	}
	if err := json.Unmarshal(stdout, &env); err != nil {
		return env, fmt.Errorf("go env: %w", err)
	}
	return env, nil
}

// download makes the go command fetch the modules that the binaries are made of. It returns how
// many packages they have, and how many of those aren't in the go command's build cache.
func (b *builder) download(ctx context.Context, work workspace, env goEnv, packages []string) (stale, total int, err error) {
	needs := []need{{b.base, outputBytes}}
	source := filepath.Join(env.ModuleCache, filepath.FromSlash(kubernetesModule)+"@"+b.pins.kubernetes)
	if _, err := os.Stat(source); err != nil {
		needs = append(needs, need{env.ModuleCache, moduleCacheBytes})
	}
	if err := b.checkSpace(needs); err != nil {
		return 0, 0, err
	}

	var modules atomic.Int64
	end := b.progress.phase(func(elapsed time.Duration) string {
		return fmt.Sprintf("control plane: downloading, %d modules, %s", modules.Load(), elapsed)
	})
	args := slices.Concat([]string{"list", "-deps", "-f={{.Stale}}"}, b.pins.buildFlags(), packages)
	stdout, lines, err := runGo(ctx, work, func(line string) {
		if strings.HasPrefix(line, "go: downloading ") {
			modules.Add(1)
		}
	}, args...)
	end()
	if err != nil {
		return 0, 0, b.explain(ctx, "go list", env, lines, err)
	}
	return bytes.Count(stdout, []byte("true\n")), bytes.Count(stdout, []byte("\n")), nil
}

func (b *builder) compile(ctx context.Context, work workspace, env goEnv, packages []string, stale, total int) error {
	objects := uint64(objectBytes * float64(stale) / float64(max(total, 1)))
	if err := b.checkSpace([]need{{b.base, outputBytes + objects}, {env.BuildCache, objects}}); err != nil {
		return err
	}

	var compiled atomic.Int64
	end := b.progress.phase(func(elapsed time.Duration) string {
		if n := int(compiled.Load()); n < stale {
			return fmt.Sprintf("control plane: compiling, %d of %d packages, %s", n, stale, elapsed)
		}
		return fmt.Sprintf("control plane: linking, %s", elapsed)
	})
	args := slices.Concat([]string{"build", "-v", "-o=" + work.bin + string(filepath.Separator)}, b.pins.buildFlags(), packages)
	_, lines, err := runGo(ctx, work, func(line string) {
		// With -v, the go command prints the import path of each package that it compiles.
		if !strings.ContainsAny(line, " \t:") {
			compiled.Add(1)
		}
	}, args...)
	end()
	if err != nil {
		return b.explain(ctx, "go build", env, lines, err)
	}
	if !slices.Contains(packages, etcdModule) {
		return nil
	}
	// The go command names a binary after the last folder of its import path that isn't a version.
	return os.Rename(filepath.Join(work.bin, path.Base(path.Dir(etcdModule))), filepath.Join(work.bin, "etcd"))
}

// check runs each binary, so that one that doesn't work here never gets into the cache.
func (b *builder) check(ctx context.Context, work workspace, names []string) error {
	end := b.progress.phase(func(elapsed time.Duration) string {
		return fmt.Sprintf("control plane: checking the binaries, %s", elapsed)
	})
	defer end()
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
			return b.explain(ctx, "check "+name, goEnv{}, strings.Split(strings.TrimSpace(string(out)), "\n"), err)
		}
	}
	return nil
}

// need is what a build writes below a folder.
type need struct {
	path  string
	bytes uint64
}

// checkSpace fails with ErrNoSpace if a file system has less room than the needs on it ask for.
func (b *builder) checkSpace(needs []need) error {
	type demand struct {
		volume volume
		bytes  uint64
		paths  []string
	}
	demands := map[uint64]*demand{}
	for _, need := range needs {
		on, err := b.freeSpace(need.path)
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("free space: %w", err)
		}
		d := demands[on.id]
		if d == nil {
			d = &demand{volume: on}
			demands[on.id] = d
		}
		d.bytes += need.bytes
		d.paths = append(d.paths, need.path)
	}
	for _, d := range demands {
		if d.volume.free < d.bytes {
			return fmt.Errorf("%w: the file system of %s has %d MiB free and the build needs %d MiB",
				ErrNoSpace, strings.Join(d.paths, " and "), d.volume.free>>20, d.bytes>>20)
		}
	}
	return nil
}

// runGo runs the go command in the workspace and gives each line of its stderr to onLine, which
// may be nil. It returns stdout and the last lines of stderr. When ctx ends, every process that
// the go command has started ends too.
func runGo(ctx context.Context, work workspace, onLine func(string), args ...string) (stdout []byte, lines []string, err error) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: install Go from https://go.dev/dl, or set %s to a folder with %s: %w",
			ErrNoGo, AssetsEnv, strings.Join(serverBinaries, " and "), err)
	}
	var out bytes.Buffer
	stderr, stderrWriter := io.Pipe()
	cmd := exec.CommandContext(ctx, goCommand, args...)
	cmd.Dir = work.src
	cmd.Env = goCommandEnv(os.Environ(), work.tmp)
	cmd.Stdout, cmd.Stderr = &out, stderrWriter
	cmd.SysProcAttr = childAttr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second

	read := make(chan struct{})
	go func() {
		defer close(read)
		scanner := bufio.NewScanner(stderr)
		for scanner.Scan() {
			line := scanner.Text()
			if onLine != nil {
				onLine(line)
			}
			if len(lines) == maxLines {
				lines = slices.Delete(lines, 0, 1)
			}
			lines = append(lines, line)
		}
		_, _ = io.Copy(io.Discard, stderr)
	}()
	// See childAttr.
	runtime.LockOSThread()
	err = cmd.Run()
	runtime.UnlockOSThread()
	_ = stderrWriter.Close()
	<-read
	return out.Bytes(), lines, err
}

// maxLines is how much of a command's output an error holds.
const maxLines = 20

// goCommandEnv returns env with what a build must not depend on replaced. What says how to reach
// modules (GOPROXY, GOPRIVATE, GOMODCACHE, GOTOOLCHAIN, HTTPS_PROXY and so on) stays.
func goCommandEnv(env []string, tmp string) []string {
	set := []string{
		// An empty value would let the file that "go env -w" writes decide.
		"GO111MODULE=on",
		"GOFLAGS=-mod=readonly",
		"GOOS=" + runtime.GOOS,
		"GOARCH=" + runtime.GOARCH,
		"GOWORK=off",
		"CGO_ENABLED=0",
		"GOTMPDIR=" + tmp,
	}
	drop := []string{"GOBIN", "GOEXPERIMENT", "PWD"}
	for _, kv := range set {
		name, _, _ := strings.Cut(kv, "=")
		drop = append(drop, name)
	}
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(drop, name)
	})
	return append(env, set...)
}

// The go command has no exit codes or machine-readable errors for these.
var (
	diskFull       = regexp.MustCompile(`no space left on device|disk quota exceeded`)
	goTooOld       = regexp.MustCompile(`requires go >= |invalid go version|unknown (block type|directive): (tool|godebug)`)
	downloadFailed = regexp.MustCompile(`dial tcp|proxyconnect|no such host|i/o timeout|network is unreachable|` +
		`connection (refused|reset)|TLS handshake|tls: |x509: |unexpected EOF|Client\.Timeout|` +
		`disabled by GOPROXY=off|toolchain not available|: [45]\d\d [A-Z]`)
	userInfo = regexp.MustCompile(`://[^/@\s"]*@`)
)

// explain turns the failure of one step into an error that says what to do about it, and that
// holds the last lines the step wrote, without the credentials a proxy URL may have.
func (b *builder) explain(ctx context.Context, step string, env goEnv, lines []string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("build the control plane: %w", ended(ctx))
	}
	output := strings.Join(lines, "\n\t")
	var kind error
	hint := ""
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || diskFull.MatchString(output):
		kind, hint = ErrNoSpace, fmt.Sprintf("; make room, or set %s or GOCACHE to another file system", CacheEnv)
	case goTooOld.MatchString(output):
		kind, hint = ErrGoTooOld, fmt.Sprintf("; install Go %s or newer, or allow the go command to fetch it with GOTOOLCHAIN=auto", b.pins.goVersion)
	case downloadFailed.MatchString(output):
		kind, hint = ErrDownload, fmt.Sprintf("; %s; set GOPROXY to a module proxy that can be reached, or %s to a folder with %s",
			proxySettings(env), AssetsEnv, strings.Join(serverBinaries, " and "))
	}
	err = fmt.Errorf("%s: %w%s", step, err, hint)
	if output != "" {
		err = fmt.Errorf("%w, last lines of output:\n\t%s", err, userInfo.ReplaceAllString(output, "://"))
	}
	if kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return fmt.Errorf("build the control plane: %w", err)
}

// proxySettings says which proxies are in force, without credentials.
func proxySettings(env goEnv) string {
	settings := []string{"GOPROXY=" + withoutCredentials(env.Proxy)}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"} {
		if value := os.Getenv(name); value != "" {
			settings = append(settings, name+"="+withoutCredentials(value))
		}
	}
	return strings.Join(settings, " ")
}

// withoutCredentials removes the user and password of each URL in a list such as GOPROXY has.
func withoutCredentials(list string) string {
	var clean strings.Builder
	for list != "" {
		end := strings.IndexAny(list, ",|")
		if end < 0 {
			end = len(list)
		}
		element := list[:end]
		if at := strings.LastIndex(element, "@"); at >= 0 {
			scheme, _, found := strings.Cut(element, "://")
			if !found {
				scheme = "http"
			}
			element = scheme + "://" + element[at+1:]
		}
		clean.WriteString(element)
		clean.WriteString(list[end:min(end+1, len(list))])
		list = list[min(end+1, len(list)):]
	}
	return clean.String()
}
