// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command register creates a DataPlane of OpenChoreo v0.3 for the cluster of a kubeconfig context,
// after it has checked the credentials and reached the cluster with them:
//
//	go -C examples run ./register --name staging --registry registry.example.com \
//	    --public-host api.example.com --organization-host internal.example.com
//
// With --context, it registers the cluster of that context of your kubeconfig. The user of the
// context needs a client certificate, since a DataPlane holds no token. Everybody who may read
// the DataPlane can act as this user: give the user few rights.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func main() {
	var dp openchoreov1alpha1.DataPlane
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file` with both clusters (default: kubectl's); the cluster of its current context stores the DataPlane")
	contextName := flag.String("context", "", "`name` of the context of the cluster to register (default: the current context)")
	flag.StringVar(&dp.Namespace, "namespace", "default", "`name` of the namespace of the DataPlane")
	flag.StringVar(&dp.Name, "name", "", "`name` of the DataPlane")
	flag.StringVar(&dp.Spec.Registry.Prefix, "registry", "", "registry and path of images, such as `registry.example.com/images`")
	flag.StringVar(&dp.Spec.Gateway.PublicVirtualHost, "public-host", "", "virtual `host` of public endpoints")
	flag.StringVar(&dp.Spec.Gateway.OrganizationVirtualHost, "organization-host", "", "virtual `host` of endpoints for the organization")
	args.Parse(flag.CommandLine, func() error {
		for _, required := range []string{"name", "registry", "public-host", "organization-host"} {
			if flag.Lookup(required).Value.String() == "" {
				return fmt.Errorf("--%s is required", required)
			}
		}
		return nil
	})
	demo.ProvideCluster() // delete this line in your program
	if err := register(context.Background(), &dp, *kubeconfig, *contextName); err != nil {
		log.Fatal(err)
	}
}

func register(ctx context.Context, dp *openchoreov1alpha1.DataPlane, kubeconfig, contextName string) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	management, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return err
	}
	cluster, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: contextName}).ClientConfig()
	if err != nil {
		return err
	}
	dp.Spec.KubernetesCluster.Name = dp.Name
	if dp.Spec.KubernetesCluster.Credentials, err = helpers.CredentialsFor(cluster); err != nil {
		return err
	}

	warnings, errs := helpers.Validate(dp)
	for _, warning := range warnings {
		log.Print("warning: ", warning)
	}
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	if err := probe(ctx, dp); err != nil {
		return fmt.Errorf("probe of the cluster: %s: %w", remote.Classify(err), err)
	}

	client, err := openchoreoclient.NewForConfig(management)
	if err != nil {
		return err
	}
	created, err := client.OpenChoreoV1alpha1().DataPlanes(dp.Namespace).Create(ctx, dp, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("created DataPlane %s/%s for %s\n", created.Namespace, created.Name, cluster.Host)
	return nil
}

// probe connects as the programs will that read the DataPlane.
func probe(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	cluster, err := remote.NewCluster(dp, remote.Options{})
	if err != nil {
		return err
	}
	defer cluster.Close()
	return cluster.Probe(ctx)
}
