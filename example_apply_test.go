// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// Server-side apply changes the fields that it names and no others.
func Example_apply() {
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod"))
	applied, err := client.OpenChoreoV1alpha1().DataPlanes("default").Apply(context.Background(),
		openchoreoapply.DataPlane("prod", "default").WithSpec(openchoreoapply.DataPlaneSpec().
			WithRegistry(openchoreoapply.Registry().WithSecretRef("registry-credentials"))),
		metav1.ApplyOptions{FieldManager: "my-program"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(applied.Spec.Registry.Prefix, applied.Spec.Registry.SecretRef)
	// Output: docker.io/myorg registry-credentials
}
