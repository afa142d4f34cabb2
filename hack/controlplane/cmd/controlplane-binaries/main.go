// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command controlplane-binaries prints the folder that holds kube-apiserver, etcd and kubectl,
// after building them if need be. Progress goes to stderr, so that a script can write:
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
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := controlplane.Binaries(ctx, os.Stderr, "kubectl")
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane-binaries:", err)
		return 1
	}
	fmt.Println(dir)
	return 0
}
