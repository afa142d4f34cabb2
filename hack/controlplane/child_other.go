// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package controlplane

import "syscall"

// childAttr puts a child into its own process group, which Ctrl-C in a terminal doesn't reach, so
// that only this package ends children, in its order. If this process is killed, the child
// continues: only on Linux can the kernel end it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
