// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"fmt"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/registry"
)

func ExampleImageFor() {
	dp := dataplanetest.DataPlane("default", "prod")
	dp.Spec.Registry.Prefix = "docker.io/myorg"
	image, err := registry.ImageFor(dp, "team/app:1.2")
	fmt.Println(image, err)
	_, err = registry.ImageFor(dp, "ghcr.io/team/app")
	fmt.Println(err)
	// Output:
	// docker.io/myorg/team/app:1.2 <nil>
	// image "ghcr.io/team/app": must not name a registry; spec.registry.prefix does
}

func ExamplePullSecretsFor() {
	dp := dataplanetest.DataPlane("default", "prod")
	fmt.Println(len(registry.PullSecretsFor(dp)))
	dp.Spec.Registry.SecretRef = "registry-credentials"
	fmt.Println(registry.PullSecretsFor(dp)[0].Name)
	// Output:
	// 0
	// registry-credentials
}
