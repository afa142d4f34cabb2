// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

const (
	// AssetsEnv names the environment variable with a folder of ready-made binaries. It's the one
	// that envtest, kubebuilder and setup-envtest use.
	AssetsEnv = "KUBEBUILDER_ASSETS"

	// CacheEnv names the environment variable that moves the build cache out of the user's cache
	// folder. A relative value is relative to the working directory.
	CacheEnv = "DATAPLANE_CONTROLPLANE_CACHE"
)

// ErrMissingBinaries says that the folder in AssetsEnv lacks a binary. Nothing is built then: who
// names a folder wants what is in it.
var ErrMissingBinaries = errors.New("missing control plane binaries")

// serverBinaries are what every control plane runs.
var serverBinaries = []string{"etcd", "kube-apiserver"}

// oldestStored is the oldest Kubernetes release that is taken from envtest's store without having
// been asked for.
const oldestStored = "v1.36.0"

// The pins are a go.mod and a go.sum under other names, since go:embed leaves out any folder
// with a go.mod. update.sh writes them.
var (
	//go:embed controlplane.mod
	pinnedMod []byte
	//go:embed controlplane.sum
	pinnedSum []byte
)

// Binaries returns the absolute path of a folder that holds etcd and kube-apiserver, and the other
// binaries that are named, of which there is "kubectl". It is, in this order:
//
//   - the folder that KUBEBUILDER_ASSETS names, if that is set. If a binary is missing there,
//     the error is ErrMissingBinaries.
//   - the newest Kubernetes release that "setup-envtest use" has downloaded, if there is one from
//     1.36 on.
//   - the build cache: a folder per Kubernetes release and platform, below the user's cache folder
//     or DATAPLANE_CONTROLPLANE_CACHE. The go command builds what is missing there from the Go
//     module proxy. That takes some minutes the first time, and shows its progress.
//
// A build that ends early, by ctx, by a signal or by a full disk, leaves nothing that a later call
// takes for a binary. Several callers at once, in this process or others, build once: the others
// wait, and say so on progress.
//
// The caller may run what is in the folder and must not change it: other processes use it too.
// Nothing is written to progress, which may be nil, unless there is something to build. The error of a
// build ends with what the go command wrote.
func Binaries(ctx context.Context, progress io.Writer, more ...string) (string, error) {
	f, err := findFolder(progress)
	if err != nil {
		return "", err
	}
	if err := f.require(ctx, append(slices.Clone(serverBinaries), more...)...); err != nil {
		return "", err
	}
	return f.path, nil
}

// folder is one of the folders that Binaries returns, with or without binaries.
type folder struct {
	path    string
	origin  string   // how a message calls it
	builder *builder // nil if nothing is built there
}

func findFolder(progress io.Writer) (folder, error) {
	if assets := os.Getenv(AssetsEnv); assets != "" {
		path, err := filepath.Abs(assets)
		if err != nil {
			return folder{}, fmt.Errorf("%s: %w", AssetsEnv, err)
		}
		return folder{path: path, origin: AssetsEnv + "=" + path}, nil
	}
	if path := newestStored(); path != "" {
		return folder{path: path, origin: path}, nil
	}
	base, err := cacheBase()
	if err != nil {
		return folder{}, err
	}
	pins, err := parsePins(pinnedMod, pinnedSum)
	if err != nil {
		return folder{}, err
	}
	b := &builder{base: base, pins: pins, progress: newProgress(progress)}
	return folder{path: b.dir(), builder: b}, nil
}

// require returns once the folder has these binaries, or an error.
func (f folder) require(ctx context.Context, names ...string) error {
	if f.builder != nil {
		return f.builder.require(ctx, names)
	}
	missing, err := missingBinaries(f.path, names)
	if err != nil {
		return fmt.Errorf("%s: %w", f.origin, err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s has no executable %s; complete it, or set %s to a complete folder",
			ErrMissingBinaries, f.origin, strings.Join(missing, ", "), AssetsEnv)
	}
	return nil
}

// newestStored returns the folder of the newest release in the store of setup-envtest that can
// run here, or "". What can't be read isn't there: nobody has asked for it.
func newestStored() string {
	store := os.Getenv("XDG_DATA_HOME")
	home := os.Getenv("HOME")
	switch {
	case runtime.GOOS == "darwin":
		store = filepath.Join(home, "Library", "Application Support", "io.kubebuilder.envtest")
	case store != "":
		store = filepath.Join(store, "kubebuilder-envtest")
	default:
		store = filepath.Join(home, ".local", "share", "kubebuilder-envtest")
	}
	newest, path := "", ""
	platform := "-" + runtime.GOOS + "-" + runtime.GOARCH
	entries, _ := os.ReadDir(filepath.Join(store, "k8s"))
	for _, entry := range entries {
		version, found := strings.CutSuffix("v"+entry.Name(), platform) // "1.36.2-linux-amd64"
		dir := filepath.Join(store, "k8s", entry.Name())
		if !found || semver.Compare(version, oldestStored) < 0 || semver.Compare(version, newest) <= 0 {
			continue
		}
		if missing, err := missingBinaries(dir, serverBinaries); err == nil && len(missing) == 0 {
			newest, path = version, dir
		}
	}
	return path
}

// missingBinaries returns the names of those that dir doesn't hold as executable files.
func missingBinaries(dir string, names []string) ([]string, error) {
	var missing []string
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, name)
		case err != nil:
			return nil, err
		case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// cacheBase returns the absolute path of the folder that holds one folder per release.
func cacheBase() (string, error) {
	if base := os.Getenv(CacheEnv); base != "" {
		abs, err := filepath.Abs(base)
		if err != nil {
			return "", fmt.Errorf("%s: %w", CacheEnv, err)
		}
		return abs, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep the control plane's binaries in, set %s: %w", CacheEnv, err)
	}
	return filepath.Join(cache, "dataplane-sdk-go", "controlplane"), nil
}

// pins says what to build.
type pins struct {
	mod, sum   []byte
	goVersion  string            // "1.26.0"
	kubernetes string            // "v1.36.3"
	etcd       string            // "v3.6.8"
	packages   map[string]string // the main package of each binary
}

const (
	kubernetesModule = "k8s.io/kubernetes"
	etcdModule       = "go.etcd.io/etcd/server/v3"
)

// parsePins reads the releases from the mod file, which is the only place that names them.
func parsePins(mod, sum []byte) (pins, error) {
	file, err := modfile.Parse("controlplane.mod", mod, nil)
	if err != nil {
		return pins{}, err
	}
	p := pins{mod: mod, sum: sum, packages: map[string]string{}}
	if file.Go != nil {
		p.goVersion = file.Go.Version
	}
	for _, require := range file.Require {
		switch require.Mod.Path {
		case kubernetesModule:
			p.kubernetes = require.Mod.Version
		case etcdModule:
			p.etcd = require.Mod.Version
		}
	}
	for _, tool := range file.Tool {
		if tool.Path == etcdModule {
			p.packages["etcd"] = tool.Path
		} else {
			p.packages[path.Base(tool.Path)] = tool.Path
		}
	}
	if p.goVersion == "" || p.kubernetes == "" || p.etcd == "" || len(p.packages) != len(p.versions()) {
		return pins{}, fmt.Errorf("controlplane.mod must name a Go version, %s, %s and %d tools",
			kubernetesModule, etcdModule, len(p.versions()))
	}
	return p, nil
}

// buildFlags are the flags that go build and go list share. Without the versions, the server and
// kubectl would say that they are v0.0.0-master.
func (p pins) buildFlags() []string {
	return []string{
		"-mod=readonly", "-buildvcs=false",
		"-ldflags=-s -w" +
			" -X k8s.io/component-base/version.gitVersion=" + p.kubernetes +
			" -X k8s.io/client-go/pkg/version.gitVersion=" + p.kubernetes,
	}
}

// key names the folder of one build: whatever changes a binary changes the name.
func (p pins) key() string {
	hash := sha256.New()
	for _, part := range [][]byte{p.mod, p.sum, []byte(strings.Join(p.buildFlags(), "\x00"))} {
		hash.Write(fmt.Appendf(nil, "%d\x00", len(part)))
		hash.Write(part)
	}
	return fmt.Sprintf("%s-%s-%s-%s", p.kubernetes, runtime.GOOS, runtime.GOARCH, hex.EncodeToString(hash.Sum(nil))[:12])
}

// versions maps each binary to what it must answer when asked for its version.
func (p pins) versions() map[string]versionCheck {
	return map[string]versionCheck{
		"etcd":           {args: []string{"--version"}, want: "etcd Version: " + strings.TrimPrefix(p.etcd, "v")},
		"kube-apiserver": {args: []string{"--version"}, want: "Kubernetes " + p.kubernetes},
		"kubectl":        {args: []string{"version", "--client"}, want: "Client Version: " + p.kubernetes},
	}
}

type versionCheck struct {
	args []string
	want string
}
