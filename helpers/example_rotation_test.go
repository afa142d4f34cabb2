// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// rotate stores a new client certificate and key in a DataPlane of OpenChoreo v0.3.
func rotate(ctx context.Context, client openchoreoclient.Interface, key types.NamespacedName, config *rest.Config) error {
	credentials, err := helpers.CredentialsFor(config) // config from a kubeconfig, or with CertFile and KeyFile
	if err != nil {
		return err // names the fields at fault, never their values
	}
	_, err = client.OpenChoreoV1alpha1().DataPlanes(key.Namespace).Apply(ctx,
		openchoreoapply.DataPlane(key.Name, key.Namespace).WithSpec(openchoreoapply.DataPlaneSpec().
			WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().
				WithCredentials(openchoreoapply.APIServerCredentials().
					WithClientCert(credentials.ClientCert).WithClientKey(credentials.ClientKey)))),
		metav1.ApplyOptions{FieldManager: "my-rotator", Force: true})
	return err
}

// A cluster stops accepting a client certificate. After rotate, the connection works again.
func ExampleCredentialsFor_rotation() {
	ctx := context.Background()
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	dataPlane := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	client := dataplanetest.NewClientset(dataPlane)
	cluster, err := remote.NewCluster(dataPlane, remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	server.RotateClients()
	fmt.Println(remote.Classify(cluster.Probe(ctx)))

	config := server.Config("alice") // or a kubeconfig
	if err := rotate(ctx, client, cluster.Key(), config); err != nil {
		fmt.Println(err)
		return
	}
	rotated, err := client.OpenChoreoV1alpha1().DataPlanes("default").Get(ctx, "prod", metav1.GetOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := cluster.Update(rotated); err != nil { // a Cache or a Fleet does this for you
		fmt.Println(err)
		return
	}
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	// Output:
	// Unauthorized
	// Reachable
}
