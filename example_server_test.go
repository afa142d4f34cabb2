// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// A Server stands in for the cluster that a DataPlane describes.
func Example_server() {
	ctx := context.Background()
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()

	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	server.SetHandler(dataplanetest.Status(http.StatusServiceUnavailable))
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	server.RotateClients() // alice's certificate is refused from now on
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	// Output:
	// Reachable
	// NotReady
	// Unauthorized
}
