// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package controlplane

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// volume is one file system.
type volume struct {
	id   uint64
	free uint64 // bytes that this user may still write
}

// freeSpace returns the file system that path is on, or will be on once it's created.
func freeSpace(path string) (volume, error) {
	for {
		info, err := os.Stat(path)
		if err == nil {
			var stat syscall.Statfs_t
			if err := syscall.Statfs(path, &stat); err != nil {
				return volume{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
			}
			return volume{
				id:   uint64(info.Sys().(*syscall.Stat_t).Dev), //nolint:unconvert // an int32 on macOS
				free: uint64(stat.Bavail) * uint64(stat.Bsize), //nolint:unconvert // Bsize is an int64 on Linux, a uint32 on macOS
			}, nil
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return volume{}, err
		}
		path = parent
	}
}
