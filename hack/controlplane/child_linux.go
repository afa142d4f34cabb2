// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import "syscall"

// childAttr puts a child into its own process group, which Ctrl-C in a terminal doesn't reach, so
// that only this package ends children, in its order. If this process is killed, the kernel kills
// the child too.
//
// For the kernel, the parent is the thread that starts the child: a caller must keep that thread
// alive with runtime.LockOSThread until the child has ended.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
