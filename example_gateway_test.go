// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"fmt"

	"k8s.io/client-go/rest"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// The data planes of OpenChoreo v0.9 and later are reached through its cluster gateway.
func Example_gateway() {
	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.Later)
	caOfGateway := []byte(nil)

	gateway := &rest.Config{
		Host:            "https://cluster-gateway.openchoreo-control-plane:8443",
		TLSClientConfig: rest.TLSClientConfig{CAData: caOfGateway},
	}
	options := remote.Options{
		ConfigFor: func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
			return helpers.GatewayConfigFor(dp, gateway, "") // "": the plane ID is the name, OpenChoreo's default
		},
	}

	cluster, err := remote.NewCluster(dp, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	fmt.Println(cluster.Config().Host)
	// Output: https://cluster-gateway.openchoreo-control-plane:8443/api/proxy/dataplane/prod/default/prod/k8s
}
