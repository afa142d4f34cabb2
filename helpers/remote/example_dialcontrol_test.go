// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// refuseLocal refuses the addresses of this machine and its link. The unspecified addresses,
// such as 0.0.0.0, are among them: they lead to loopback. Unmap makes an IPv4 address of
// ::ffff:127.0.0.1 and the like.
func refuseLocal(_ context.Context, _, address string, _ syscall.RawConn) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := parsed.Addr().Unmap(); ip.IsUnspecified() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		return fmt.Errorf("%s is not the address of a data plane", ip)
	}
	return nil
}

// DialControl sees every address before a connection to it is made.
func ExampleOptions_dialControl() {
	dp := dataplanetest.DataPlane("default", "prod", func(dp *openchoreov1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://127.0.0.1:6443"
	})

	cluster, err := remote.NewCluster(dp, remote.Options{DialControl: refuseLocal})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	fmt.Println(cluster.Probe(context.Background()))
	// Output: data plane default/prod: Get "https://127.0.0.1:6443/readyz": dial tcp 127.0.0.1:6443: 127.0.0.1 is not the address of a data plane
}
