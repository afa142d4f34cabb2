// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

const (
	// AssetsEnv is the environment variable for a folder of ready-made binaries, the same as for
	// envtest, kubebuilder and setup-envtest.
	AssetsEnv = "KUBEBUILDER_ASSETS"

	// CacheEnv is the environment variable for the folder of the build cache. A relative path is
	// relative to the working directory. The default is below the user's cache folder.
	CacheEnv = "DATAPLANE_CONTROLPLANE_CACHE"
)

// ErrMissingBinaries reports that the folder in AssetsEnv lacks a binary. Binaries never builds
// into that folder.
var ErrMissingBinaries = errors.New("missing control plane binaries")

// serverBinaries are the binaries of every control plane.
var serverBinaries = []string{"etcd", "kube-apiserver"}

// oldestStored is the oldest Kubernetes release that Binaries takes from envtest's store.
const oldestStored = "v1.36.0"

// The pins are a go.mod and a go.sum under other names, because go:embed leaves out any folder
// with a go.mod. update.sh writes them.
var (
	//go:embed controlplane.mod
	pinnedMod []byte
	//go:embed controlplane.sum
	pinnedSum []byte
)

// Binaries returns the absolute path of a folder with etcd and kube-apiserver, and with more, which
// may be "kubectl". It is the first of:
//
//   - the folder in KUBEBUILDER_ASSETS. If a binary is missing there, the error is
//     ErrMissingBinaries.
//   - the newest Kubernetes release that "setup-envtest use" has downloaded, from 1.36 on.
//   - the build cache: a folder for each Kubernetes release and platform, below the user's cache
//     folder or DATAPLANE_CONTROLPLANE_CACHE. The go command builds missing binaries there from
//     modules of the Go module proxy. The first build takes some minutes.
//
// A build that ends early, by ctx, by a signal or by a full disk, leaves no files that a later call
// takes for binaries. Of several callers at once, in this process or others, one builds, and the
// others wait.
//
// The caller must not change the folder: other processes use it too. progress, which may be nil,
// receives lines only while Binaries builds or waits. The error of a build ends with the go
// command's output.
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
	builder *builder // nil if nothing is built there
}

func findFolder(w io.Writer) (folder, error) {
	if assets := os.Getenv(AssetsEnv); assets != "" {
		path, err := filepath.Abs(assets)
		return folder{path: path}, err
	}
	if path := newestStored(); path != "" {
		return folder{path: path}, nil
	}
	base := os.Getenv(CacheEnv)
	if base == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return folder{}, fmt.Errorf("no folder to keep the control plane's binaries in, set %s: %w", CacheEnv, err)
		}
		base = filepath.Join(cache, "dataplane-sdk-go", "controlplane")
	}
	base, err := filepath.Abs(base)
	b := &builder{base: base, dir: filepath.Join(base, buildKey(pinnedMod, pinnedSum)), progress: &progress{w, 15 * time.Second}}
	return folder{path: b.dir, builder: b}, err
}

// require returns when the folder has these binaries, or with an error.
func (f folder) require(ctx context.Context, names ...string) error {
	missing := missingBinaries(f.path, names)
	switch {
	case len(missing) == 0:
		return nil
	case f.builder != nil:
		return f.builder.require(ctx, names)
	}
	return fmt.Errorf("%w: %s has no executable %s; complete it, or set %s to a complete folder",
		ErrMissingBinaries, f.path, strings.Join(missing, ", "), AssetsEnv)
}

// newestStored returns the folder of the newest release for this platform in the store of
// setup-envtest, or "". It ignores errors, because the user hasn't asked for the store.
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
		if len(missingBinaries(dir, serverBinaries)) == 0 {
			newest, path = version, dir
		}
	}
	return path
}

// missingBinaries returns the names that aren't executable files in dir.
func missingBinaries(dir string, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, err := exec.LookPath(filepath.Join(dir, name))
		return err == nil
	})
}

// mainPackages has the package of each binary. All are tools of controlplane.mod.
var mainPackages = map[string]string{
	"etcd":           "go.etcd.io/etcd/server/v3",
	"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
	"kubectl":        "k8s.io/kubernetes/cmd/kubectl",
}

// kubernetesVersion is the release that controlplane.mod pins, such as "v1.36.3".
var kubernetesVersion = string(regexp.MustCompile(`\sk8s\.io/kubernetes (v\S+)`).FindSubmatch(pinnedMod)[1])

// buildFlags returns the flags that go build and go list share. Without the versions, the server and
// kubectl would report v0.0.0-master. The compilers write no DWARF, which -s -w would drop; this saves
// a seventh of their time.
func buildFlags() []string {
	return []string{
		"-mod=readonly", "-buildvcs=false", "-gcflags=all=-dwarf=false",
		"-ldflags=-s -w" +
			" -X k8s.io/component-base/version.gitVersion=" + kubernetesVersion +
			" -X k8s.io/client-go/pkg/version.gitVersion=" + kubernetesVersion,
	}
}

// buildKey returns the name of a build's folder: whatever changes a binary changes the name.
func buildKey(mod, sum []byte) string {
	hash := sha256.New()
	for _, part := range [][]byte{mod, sum, []byte(strings.Join(buildFlags(), "\x00"))} {
		fmt.Fprintf(hash, "%d\x00%s", len(part), part)
	}
	return fmt.Sprintf("%s-%s-%s-%x", kubernetesVersion, runtime.GOOS, runtime.GOARCH, hash.Sum(nil)[:6])
}
