// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command apply sets the pull secret of a DataPlane of OpenChoreo v0.3 by server-side apply, which
// leaves all other fields alone:
//
//	go -C examples run ./apply --secret-ref registry-credentials
//
// If another manager has set it to another value, the API server answers with a conflict.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fieldset"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "`file` for the cluster that stores DataPlanes (default: that of kubectl)")
	namespace := flag.String("namespace", "default", "`name` of the namespace of the DataPlane")
	name := flag.String("name", "production", "`name` of the DataPlane")
	secretRef := flag.String("secret-ref", "", "`name` of the pull secret (default: remove the one that this program has set)")
	force := flag.Bool("force", false, "take the field over from its manager instead of a conflict")
	args.Parse(flag.CommandLine)
	demo.ProvideCluster() // delete this line in a program of your own

	spec := openchoreoapply.DataPlaneSpec()
	if *secretRef != "" {
		spec.WithRegistry(openchoreoapply.Registry().WithSecretRef(*secretRef))
	}
	// It holds exactly the fields that this program manages: one that it applied before, and
	// leaves out now, is removed. It can't create a DataPlane, which needs more fields.
	config := openchoreoapply.DataPlane(*name, *namespace).WithSpec(spec)
	if err := apply(context.Background(), *kubeconfig, config, *force); err != nil {
		log.Fatal(err)
	}
}

func apply(ctx context.Context, kubeconfig string, dataPlane *openchoreoapply.DataPlaneApplyConfiguration, force bool) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // those of kubectl
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return err
	}
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}
	applied, err := client.OpenChoreoV1alpha1().DataPlanes(*dataPlane.Namespace).Apply(ctx, dataPlane,
		metav1.ApplyOptions{FieldManager: "apply-example", Force: force})
	if err != nil {
		return err
	}
	managers, err := fieldset.Managers(applied, ".spec.registry.secretRef")
	if err != nil {
		return err
	}
	fmt.Printf("DataPlane %s: secretRef is %q, managed by %v\n", applied.Name, applied.Spec.Registry.SecretRef, managers)
	return nil
}
