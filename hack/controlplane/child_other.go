// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package controlplane

import "syscall"

// childAttr puts a child into its own process group, which Ctrl-C in a terminal doesn't reach, so
// that children end when and in the order this package ends them. A child outlives this process
// if that is killed: only Linux can tie the two together.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
