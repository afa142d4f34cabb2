// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// keyFor returns the key of an Environment's data plane. namespace is the Environment's; kind and
// name come from its spec.dataPlaneRef, and are empty without a reference. dataPlanes must be synced
// and see the namespace.
func keyFor(namespace, kind, name string, dataPlanes listers.DataPlaneLister) (types.NamespacedName, error) {
	if name == "" {
		_, err := dataPlanes.DataPlanes(namespace).Get("default")
		if apierrors.IsNotFound(err) {
			return types.NamespacedName{Name: "default"}, nil // a ClusterDataPlane
		}
		return types.NamespacedName{Namespace: namespace, Name: "default"}, err
	}
	if kind == "ClusterDataPlane" {
		return types.NamespacedName{Name: name}, nil
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}

// Find the data plane of an Environment of OpenChoreo v1, which names it or uses a default.
func Example_environment() {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}) // or an informer's
	if err := indexer.Add(dataplanetest.DataPlane("tenant", "default", dataplanetest.V1)); err != nil {
		fmt.Println(err)
		return
	}
	dataPlanes := listers.NewDataPlaneLister(indexer)

	fmt.Println(keyFor("tenant", "DataPlane", "prod", dataPlanes))
	fmt.Println(keyFor("tenant", "ClusterDataPlane", "prod", dataPlanes))
	fmt.Println(keyFor("tenant", "", "", dataPlanes))
	fmt.Println(keyFor("other", "", "", dataPlanes))
	// Output:
	// tenant/prod <nil>
	// /prod <nil>
	// tenant/default <nil>
	// /default <nil>
}
