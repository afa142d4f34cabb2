// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import "syscall"

// childAttr puts a child into its own process group, which Ctrl-C in a terminal doesn't reach, so
// that children end when and in the order this package ends them. Should this process be killed,
// the kernel kills the child with it.
//
// The kernel takes the thread that starts the child for its parent: a caller must keep that thread
// alive with runtime.LockOSThread until the child has ended.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
