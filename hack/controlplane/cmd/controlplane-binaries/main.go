// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command controlplane-binaries prints the folder of kube-apiserver, etcd and kubectl, and first
// builds missing ones. Progress goes to stderr, so that a script can write:
//
//	KUBEBUILDER_ASSETS=$(go -C hack/controlplane run ./cmd/controlplane-binaries)
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	dir, err := controlplane.Binaries(ctx, os.Stderr, "kubectl")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane-binaries:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
