// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clienttesting "k8s.io/client-go/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// reconcile is the function under test: it reports whether the cluster of a data plane answers.
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
	_, err = helpers.PatchConditions(ctx, dataPlanes, dp, []metav1.Condition{connected}, helpers.PatchConditionsOptions{})
	return err
}

// A reconciler meets a cluster that is healthy, then overloaded, then refuses its certificate.
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

// The states of OpenChoreo v1 in which programs often fail in production.
func ExampleClusterDataPlane() {
	for _, cdp := range []*v1alpha1.ClusterDataPlane{
		dataplanetest.ClusterDataPlane("connected"),
		dataplanetest.ClusterDataPlane("away", dataplanetest.AgentAway),
		dataplanetest.ClusterDataPlane("hung", dataplanetest.HeartbeatAgo(time.Hour)),
		dataplanetest.ClusterDataPlane("deleted", dataplanetest.Deleted),
	} {
		report := helpers.Evaluate(cdp.AsDataPlane(), helpers.Stock(), helpers.HeartbeatWithin(5*time.Minute, nil))
		fmt.Println(cdp.Name, report.Ready.Status, report.Ready.Code)
	}
	// Output:
	// connected True Current
	// away False Current
	// hung Unknown Stale
	// deleted False Terminating
}

// Two programs change the same object, and the second conflicts.
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

// The server identifies users by their certificates, and records their requests.
func ExampleNewServer() {
	server := dataplanetest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"gitVersion": "v1.33.1"}`)
	}))
	defer server.Close()

	client, err := kubernetes.NewForConfig(server.Config("alice"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(client.Discovery().ServerVersion())
	fmt.Println(server.Requests()[0])
	// Output:
	// v1.33.1 <nil>
	// {alice GET /version}
}

// A program reaches a data plane of OpenChoreo v1, and then its agent disconnects.
func ExampleNewGateway() {
	ctx := context.Background()
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	config := server.Config("agent") // or env.Start()

	gateway := dataplanetest.NewGateway()
	defer gateway.Close()
	gateway.Connect("default", dataplanetest.Agent(config)) // the plane ID, and its API server
	options := remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())}

	cluster, err := remote.NewCluster(dataplanetest.ClusterDataPlane("default").AsDataPlane(), options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	gateway.Disconnect("default")
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	// Output:
	// Reachable
	// NoAgent
}

func ExampleHang() {
	server := dataplanetest.NewServer(dataplanetest.Hang())
	defer server.Close()
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	// Output: Timeout
}

// A Server stands in for the cluster that a DataPlane describes.
func ExampleServer() {
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

// A server moves, and the DataPlane still has the old address.
func ExampleServer_Move() {
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()

	server.Move()
	fmt.Println(remote.Classify(cluster.Probe(context.Background())))
	// Output: Refused
}

// The server has a certificate of another authority than the DataPlane's.
func ExampleServer_RotateServer() {
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()

	server.RotateServer()
	fmt.Println(remote.Classify(cluster.Probe(context.Background())))
	// Output: TLSFailure
}

// A DataPlane for an API server that a test has started, such as envtest's.
func ExampleWithCredentials() {
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	config := server.Config("alice") // or env.Start()
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.WithCredentials(config))
	fmt.Println(prod.Spec.KubernetesCluster.Credentials.APIServerURL == server.URL())
	// Output: true
}

// A reactor fails the next writes of a status.
func ExampleClientset() {
	prod := dataplanetest.DataPlane("default", "prod")
	client := dataplanetest.NewClientset(prod)
	client.PrependReactor("patch", "dataplanes/status", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewTooManyRequests("try later", 0)
	})
	_, err := helpers.PatchConditions(context.Background(), client.OpenChoreoV1alpha1().DataPlanes("default"), prod,
		[]metav1.Condition{{Type: "Connected", Status: metav1.ConditionTrue, Reason: "Probed"}}, helpers.PatchConditionsOptions{})
	fmt.Println(apierrors.IsTooManyRequests(err))
	// Output: true
}

func ExampleCondition() {
	degraded := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready,
		dataplanetest.Condition(v1alpha1.DataPlaneConditionConnected, metav1.ConditionFalse))
	fmt.Println(helpers.IsReady(degraded), helpers.IsConnected(degraded))
	// Output: true false
}

// A DataPlane of OpenChoreo v0.9 or later has no credentials.
func ExampleV1() {
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.V1)
	_, err := helpers.RESTConfigFor(prod)
	fmt.Println(errors.Is(err, helpers.ErrNoCredentials))
	fmt.Println(helpers.IsReady(prod, helpers.ReadyFrom(v1alpha1.DataPlaneConditionCreated)))
	// Output:
	// true
	// true
}
