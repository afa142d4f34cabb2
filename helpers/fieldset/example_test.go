// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fieldset_test

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fieldset"
)

// Log a rotation of credentials and a move of the registry in one line.
func ExampleChanged() {
	before := dataplanetest.DataPlane("default", "prod")
	after := before.DeepCopy()
	after.Spec.Registry.Prefix = "ghcr.io/myorg"
	after.Spec.KubernetesCluster.Credentials.ClientKey = "bmV3"
	changes, err := fieldset.Changed(before, after)
	fmt.Println(changes.Modified, err)
	// Output: [.spec.kubernetesCluster.credentials.clientKey .spec.registry.prefix] <nil>
}

// Find the manager of a field that an apply conflicts with.
func ExampleManagers() {
	ctx := context.Background()
	dataPlanes := dataplanetest.NewClientset().OpenChoreoV1alpha1().DataPlanes("default")
	registry := func(prefix string) *openchoreoapply.DataPlaneApplyConfiguration {
		return openchoreoapply.DataPlane("prod", "default").WithSpec(openchoreoapply.DataPlaneSpec().
			WithRegistry(openchoreoapply.Registry().WithPrefix(prefix)))
	}

	prod, err := dataPlanes.Apply(ctx, registry("ghcr.io/myorg"), metav1.ApplyOptions{FieldManager: "operator"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = dataPlanes.Apply(ctx, registry("docker.io/myorg"), metav1.ApplyOptions{FieldManager: "my-program"})
	if apierrors.IsConflict(err) {
		fmt.Println(fieldset.Managers(prod, ".spec.registry.prefix"))
	}
	// Output: [operator] <nil>
}
