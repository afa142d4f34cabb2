// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package repository_test holds the tests of the repository itself: its documents, its imports,
// and its CI.
package repository_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// inRoot runs a test in the root of the repository. By t.Chdir, unlike by a TestMain that changes
// the directory, go test learns on which files the result depends.
func inRoot(t *testing.T) {
	t.Helper()
	t.Chdir("../..")
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(data)
}

// walk calls visit for each file of this repository outside of testdata.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "testdata"):
			return filepath.SkipDir
		case !entry.IsDir():
			visit(path)
		}
		return nil
	}))
}

func runGo(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), &stderr)
	return out
}
