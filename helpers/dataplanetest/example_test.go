// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"context"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// reconcile is what is tested: it reports whether the cluster of a data plane answers.
func reconcile(ctx context.Context, dataPlanes openchoreotyped.DataPlaneInterface, name string) error {
	dp, err := dataPlanes.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	cluster, err := remote.NewCluster(dp, remote.Options{})
	if err != nil {
		return err
	}
	defer cluster.Close()

	connected := metav1.Condition{Type: v1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, Reason: "Probed"}
	if err := cluster.Probe(ctx); err != nil {
		connected.Status, connected.Reason = metav1.ConditionFalse, string(remote.Classify(err))
	}
	_, err = helpers.PatchConditions(ctx, dataPlanes, dp, []metav1.Condition{connected}, helpers.PatchOptions{})
	return err
}

// A reconciler meets a cluster that is healthy, overloaded, and no longer knows it.
func Example() {
	ctx := context.Background()
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", server.As("alice")))
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")

	reconcileAndPrint := func() {
		if err := reconcile(ctx, dataPlanes, "prod"); err != nil {
			fmt.Println(err)
		}
		dp, _ := dataPlanes.Get(ctx, "prod", metav1.GetOptions{})
		connected := dp.Status.Conditions[0]
		fmt.Println(connected.Type, connected.Status, connected.Reason)
	}
	reconcileAndPrint()
	server.SetHandler(dataplanetest.Status(http.StatusServiceUnavailable))
	reconcileAndPrint()
	server.RotateClients()
	reconcileAndPrint()
	// Output:
	// Connected True Probed
	// Connected False NotReady
	// Connected False Unauthorized
}

func ExampleDataPlane() {
	for _, dp := range []*v1alpha1.DataPlane{
		dataplanetest.DataPlane("default", "new"),
		dataplanetest.DataPlane("default", "ready", dataplanetest.Ready),
		dataplanetest.DataPlane("default", "stale", dataplanetest.Ready, dataplanetest.Stale),
		dataplanetest.DataPlane("default", "deleted", dataplanetest.Ready, dataplanetest.Deleted),
		dataplanetest.DataPlane("default", "own", dataplanetest.Ready, func(dp *v1alpha1.DataPlane) {
			dp.Labels = map[string]string{"region": "eu"}
		}),
	} {
		fmt.Println(dp.Name, helpers.IsReady(dp))
	}
	// Output:
	// new false
	// ready true
	// stale false
	// deleted false
	// own true
}

// Two programs change one object, as on an API server.
func ExampleNewClientset() {
	ctx := context.Background()
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", dataplanetest.Ready))
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")

	first, _ := dataPlanes.Get(ctx, "prod", metav1.GetOptions{})
	second := first.DeepCopy()
	first.Spec.Registry.Prefix = "registry.example.com"
	first, _ = dataPlanes.Update(ctx, first, metav1.UpdateOptions{})
	fmt.Println("generation", first.Generation, "ready", helpers.IsReady(first))

	second.Spec.Gateway.PublicVirtualHost = "www.example.com"
	_, err := dataPlanes.Update(ctx, second, metav1.UpdateOptions{})
	fmt.Println("conflict", apierrors.IsConflict(err))
	// Output:
	// generation 2 ready false
	// conflict true
}
