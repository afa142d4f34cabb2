// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// A connection goes on with new credentials, here tokens that annotations hold.
func ExampleCluster_Update() {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Authorization"))
	}))
	defer server.Close()
	options := remote.Options{
		ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			return &rest.Config{
				Host:            server.URL,
				TLSClientConfig: rest.TLSClientConfig{CAData: ca},
				BearerToken:     dp.Annotations["example.com/token"],
			}, nil
		},
		OnRotate: func(key types.NamespacedName) { fmt.Println("rotated", key) },
	}
	dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "production", Annotations: map[string]string{"example.com/token": "first"},
	}}
	cluster, err := remote.NewCluster(dp, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	request := func() {
		resp, err := cluster.HTTPClient().Get(server.URL)
		if err != nil {
			fmt.Println("closed:", errors.Is(err, remote.ErrClosed))
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		fmt.Println(string(body))
	}

	request()
	dp = dp.DeepCopy()
	dp.Annotations["example.com/token"] = "second"
	if err := cluster.Update(dp); err != nil {
		fmt.Println(err)
	}
	request()
	cluster.Close()
	request()
	// Output:
	// Bearer first
	// rotated default/production
	// Bearer second
	// closed: true
}

// A cache reads DataPlanes from the memory of an informer.
func ExampleNewCache() {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}) // of an informer
	clients := remote.NewCache(
		remote.FromLister(listers.NewDataPlaneLister(indexer)),
		func(c *remote.Cluster) (*http.Client, error) { return c.HTTPClient(), nil },
		remote.Options{},
	)
	defer clients.Close()

	_ = indexer.Add(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "empty"}})
	for _, name := range []string{"empty", "missing"} {
		_, err := clients.Get(types.NamespacedName{Namespace: "default", Name: name})
		fmt.Println(err)
	}
	// Output:
	// data plane default/empty: data plane has no credentials in spec.kubernetesCluster.credentials
	// dataplane.openchoreo.dev "missing" not found
}

func ExampleClassify() {
	server := httptest.NewServer(nil)
	server.Close()
	cluster, err := remote.NewCluster(&v1alpha1.DataPlane{}, remote.Options{
		ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) { return &rest.Config{Host: server.URL}, nil },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(remote.Classify(cluster.Probe(context.Background())))
	cluster.Close()
	fmt.Println(remote.Classify(cluster.Probe(context.Background())))
	// Output:
	// Refused
	// Closed
}
