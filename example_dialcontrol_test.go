// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// DialControl sees every address before a connection to it is made.
func Example_dialControl() {
	dp := dataplanetest.DataPlane("default", "prod", func(dp *openchoreov1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://127.0.0.1:6443"
	})

	options := remote.Options{
		DialControl: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ip, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if ip.Addr().Unmap().IsLoopback() || ip.Addr().Unmap().IsLinkLocalUnicast() {
				return fmt.Errorf("%s is not the address of a data plane", ip.Addr())
			}
			return nil
		},
	}

	cluster, err := remote.NewCluster(dp, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	fmt.Println(cluster.Probe(context.Background()))
	// Output: data plane default/prod: Get "https://127.0.0.1:6443/readyz": dial tcp 127.0.0.1:6443: 127.0.0.1 is not the address of a data plane
}
