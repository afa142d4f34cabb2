// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func ExampleNewCluster() {
	server := dataplanetest.NewServer(dataplanetest.NewObjects())
	defer server.Close()

	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(client.Discovery().ServerVersion())
	// Output: v1.33.1 <nil>
}

// When the API server stops accepting a certificate, the connection continues with the next one.
func ExampleCluster_Update() {
	ctx := context.Background()
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	dataPlane := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	cluster, err := remote.NewCluster(dataPlane, remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()

	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	server.RotateClients()
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	dataPlane = dataPlane.DeepCopy() // the Cluster keeps the former object
	server.As("alice")(dataPlane)    // a new certificate
	if err := cluster.Update(dataPlane); err != nil {
		fmt.Println(err)
	}
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	// Output:
	// Reachable
	// Unauthorized
	// Reachable
}

func ExampleCluster_Probe() {
	server := dataplanetest.NewServer(dataplanetest.Status(http.StatusServiceUnavailable))
	defer server.Close()
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()

	err = cluster.Probe(context.Background())
	fmt.Println(remote.Classify(err))
	server.SetHandler(nil) // healthy again
	fmt.Println(cluster.Probe(context.Background()))
	// Output:
	// NotReady
	// <nil>
}

func ExampleCluster_Close() {
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	cluster.Close()
	fmt.Println(errors.Is(cluster.Probe(context.Background()), remote.ErrClosed))
	// Output: true
}

// Classify understands the errors of any client, here of one that isn't made from a Cluster.
func ExampleClassify() {
	server := dataplanetest.NewServer(dataplanetest.Status(http.StatusForbidden))
	client, err := kubernetes.NewForConfig(server.Config("alice"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = client.CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{})
	fmt.Println(remote.Classify(err))
	server.Close()
	_, err = client.CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{})
	fmt.Println(remote.Classify(err))
	// Output:
	// Forbidden
	// Refused
}

// A program keeps one client for each data plane.
func ExampleNewCache() {
	server := dataplanetest.NewServer(dataplanetest.NewObjects())
	defer server.Close()
	factory := openchoreoinformers.NewSharedInformerFactory(
		dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", server.As("alice"))), 0)
	defer factory.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
	clients := remote.NewCache(remote.FromListers(dataPlanes.Lister(), nil),
		func(cluster *remote.Cluster) (kubernetes.Interface, error) {
			return kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
		}, remote.Options{})
	defer clients.Close()
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)

	client, err := clients.Get(types.NamespacedName{Namespace: "default", Name: "prod"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(client.Discovery().ServerVersion())
	_, err = clients.Get(types.NamespacedName{Namespace: "default", Name: "missing"})
	fmt.Println(err)
	// Output:
	// v1.33.1 <nil>
	// data plane default/missing: dataplane.openchoreo.dev "missing" not found
}

// Each data plane has an informer, which runs through rotations and stops with its Cluster.
func ExampleNewCache_informers() {
	server := dataplanetest.NewServer(dataplanetest.NewObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps"}}))
	defer server.Close()
	dataPlane := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	get := func(types.NamespacedName) (*openchoreov1alpha1.DataPlane, error) { return dataPlane, nil }
	var gateway *rest.Config // of OpenChoreo v1
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	factories := remote.NewCache(get, func(cluster *remote.Cluster) (informers.SharedInformerFactory, error) {
		client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
		if err != nil {
			return nil, err
		}
		factory := informers.NewSharedInformerFactory(client, 0)
		factory.Core().V1().Namespaces().Informer() // and its event handlers
		factory.Start(cluster.Done())
		return factory, nil
	}, remote.Options{ConfigFor: helpers.ConfigFor(gateway)})
	defer factories.Close()

	factory, err := factories.Get(types.NamespacedName{Namespace: "default", Name: "prod"})
	if err != nil {
		fmt.Println(err)
		return
	}
	factory.WaitForCacheSync(ctx.Done())
	namespaces, err := factory.Core().V1().Namespaces().Lister().List(labels.Everything())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(namespaces[0].Name)
	// Output: apps
}

// This page shows operators which data planes are connected, and why the others aren't.
func ExampleCache_Status() {
	server := dataplanetest.NewServer(dataplanetest.Status(http.StatusServiceUnavailable))
	defer server.Close()
	dataPlane := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	get := func(types.NamespacedName) (*openchoreov1alpha1.DataPlane, error) { return dataPlane, nil }
	clusters := remote.NewCache(get, func(cluster *remote.Cluster) (*remote.Cluster, error) { return cluster, nil }, remote.Options{})
	defer clusters.Close()

	cluster, err := clusters.Get(types.NamespacedName{Namespace: "default", Name: "prod"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if resp, err := cluster.HTTPClient().Get(cluster.Config().Host + "/version"); err == nil {
		_ = resp.Body.Close()
	}
	for _, plane := range clusters.Status().Planes {
		fmt.Println(plane.Name, plane.Reachability)
		fmt.Println(plane.LastError)
	}
	// Output:
	// prod NotReady
	// data plane default/prod: the API server answers 503 Service Unavailable
}

// With its handler, a cache closes the client of a DataPlane as soon as the DataPlane is deleted.
func ExampleCache_Handler() {
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod"))
	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	defer factory.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
	clusters := remote.NewCache(remote.FromListers(dataPlanes.Lister(), nil),
		func(cluster *remote.Cluster) (*remote.Cluster, error) { return cluster, nil }, remote.Options{})
	defer clusters.Close()
	if _, err := dataPlanes.Informer().AddEventHandler(clusters.Handler()); err != nil {
		fmt.Println(err)
		return
	}
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)

	cluster, err := clusters.Get(types.NamespacedName{Namespace: "default", Name: "prod"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := client.OpenChoreoV1alpha1().DataPlanes("default").Delete(ctx, "prod", metav1.DeleteOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	<-cluster.Done()
	fmt.Println("closed", cluster.Key())
	// Output: closed default/prod
}

// The program acts as a user with fewer rights than the certificate gives.
func ExampleOptions() {
	server := dataplanetest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("as", r.Header.Get("Impersonate-User"))
		fmt.Fprint(w, "ok")
	}))
	defer server.Close()

	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{
		ConfigFor: func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
			config, err := helpers.RESTConfigFor(dp)
			if err != nil {
				return nil, err
			}
			config.Impersonate.UserName = "auditor"
			return config, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	fmt.Println(cluster.Probe(context.Background()))
	// Output:
	// as auditor
	// <nil>
}

// The data planes of OpenChoreo v1 are reached through its cluster gateway, those of v0.3 with
// the credentials in the DataPlane.
func ExampleOptions_gateway() {
	ca, certificate, key := gatewayFiles()

	gateway := &rest.Config{
		Host:            "https://cluster-gateway.openchoreo-control-plane.svc.cluster.local:8444",
		TLSClientConfig: rest.TLSClientConfig{CAFile: ca, CertFile: certificate, KeyFile: key},
	}
	options := remote.Options{ConfigFor: helpers.ConfigFor(gateway)}

	cluster, err := remote.NewCluster(dataplanetest.ClusterDataPlane("default").AsDataPlane(), options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	fmt.Println(cluster.Config().Host)
	// Output: https://cluster-gateway.openchoreo-control-plane.svc.cluster.local:8444/api/proxy/dataplane/default/_cluster/default/k8s
}

// gatewayFiles stands in for the files of a mounted Secret.
func gatewayFiles() (ca, certificate, key string) {
	gateway := dataplanetest.NewGateway()
	defer gateway.Close()
	config := gateway.Config()
	write := func(data []byte) string {
		file, err := os.CreateTemp("", "gateway")
		if err != nil {
			log.Fatal(err)
		}
		defer file.Close()
		if _, err := file.Write(data); err != nil {
			log.Fatal(err)
		}
		return file.Name()
	}
	return write(config.CAData), write(config.CertData), write(config.KeyData)
}
