// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBinariesTakesTheNamedFolderAndNeverFillsIt(t *testing.T) {
	f := newFake(t, "")
	dir := t.TempDir()
	t.Chdir(filepath.Dir(dir))
	t.Setenv(AssetsEnv, filepath.Base(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etcd"), nil, 0o644), "not executable")
	_, err := Binaries(t.Context(), nil)
	require.ErrorIs(t, err, ErrMissingBinaries)
	require.ErrorContains(t, err, "etcd, kube-apiserver;")

	require.NoError(t, os.Remove(filepath.Join(dir, "etcd")))
	writeBinaries(t, dir)
	got, err := Binaries(t.Context(), nil)
	require.NoError(t, err)
	assert.True(t, filepath.IsAbs(got))
	assert.Empty(t, missingBinaries(got, serverBinaries))
	assert.Zero(t, f.builds())
}

func TestBinariesTakesTheNewestOfEnvtestsStore(t *testing.T) {
	f := newFake(t, "")
	data := t.TempDir()
	t.Setenv("HOME", data) // for macOS
	t.Setenv("XDG_DATA_HOME", data)
	store := filepath.Join(data, "kubebuilder-envtest", "k8s")
	if runtime.GOOS == "darwin" {
		store = filepath.Join(data, "Library", "Application Support", "io.kubebuilder.envtest", "k8s")
	}
	add := func(name string) string {
		dir := filepath.Join(store, name)
		require.NoError(t, os.MkdirAll(dir, 0o755))
		return dir
	}
	platform := "-" + runtime.GOOS + "-" + runtime.GOARCH
	writeBinaries(t, add("1.35.9"+platform)) // too old
	writeBinaries(t, add("1.40.0-plan9-arm"))
	writeBinaries(t, add("unpacked"))
	add("1.39.0" + platform) // incomplete
	dir, err := Binaries(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, f.want, dir, "the store has no release that can be used")

	writeBinaries(t, add("1.36.9"+platform))
	newest := add("1.36.10" + platform)
	writeBinaries(t, newest)
	dir, err = Binaries(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, newest, dir)
	_, err = Binaries(t.Context(), nil, "kubectl")
	require.ErrorIs(t, err, ErrMissingBinaries, "nothing is built into a folder that the user names")

	t.Setenv(AssetsEnv, add("1.36.9"+platform))
	dir, err = Binaries(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, os.Getenv(AssetsEnv), dir)
	assert.Equal(t, 1, f.builds())
}

func writeBinaries(t *testing.T, dir string) {
	t.Helper()
	for _, name := range serverBinaries {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o755))
	}
}

func TestWhatChangesABinaryChangesItsFolder(t *testing.T) {
	key := buildKey(pinnedMod, pinnedSum)
	assert.Regexp(t, `^v1\.\d+\.\d+-`+runtime.GOOS+"-"+runtime.GOARCH+`-[0-9a-f]{12}$`, key)
	assert.NotEqual(t, key, buildKey([]byte("other"), pinnedSum))
	assert.NotEqual(t, key, buildKey(pinnedMod, []byte("other")))
	for _, mainPackage := range mainPackages {
		assert.Contains(t, string(pinnedMod), mainPackage+"\n")
	}
}
