// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command apply sets the pull secret of a DataPlane of OpenChoreo v0.3 by server-side apply, which
// leaves all other fields alone:
//
//	go -C examples run ./apply --secret-ref registry-credentials
//
// If another manager has set a different value, the API server answers with a conflict.
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
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file` of the cluster that stores DataPlanes (default: kubectl's)")
	namespace := flag.String("namespace", "default", "`name` of the namespace of the DataPlane")
	name := flag.String("name", "production", "`name` of the DataPlane")
	secretRef := flag.String("secret-ref", "", "`name` of the pull secret (default: remove the name that an earlier run set)")
	force := flag.Bool("force", false, "on a conflict, take the field over from its manager")
	args.Parse(flag.CommandLine)
	demo.ProvideCluster() // delete this line in your program

	spec := openchoreoapply.DataPlaneSpec()
	if *secretRef != "" {
		spec.WithRegistry(openchoreoapply.Registry().WithSecretRef(*secretRef))
	}
	// The configuration has all fields that this program manages: a field that the last apply had
	// and this one lacks is removed. It can't create a DataPlane, which requires more fields.
	config := openchoreoapply.DataPlane(*name, *namespace).WithSpec(spec)
	if err := apply(context.Background(), *kubeconfig, config, *force); err != nil {
		log.Fatal(err)
	}
}

func apply(ctx context.Context, kubeconfig string, dataPlane *openchoreoapply.DataPlaneApplyConfiguration, force bool) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // as kubectl
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
