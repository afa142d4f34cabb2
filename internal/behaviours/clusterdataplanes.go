// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"context"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
)

// AsDataPlane returns a DataPlane unchanged, and a ClusterDataPlane as a DataPlane. If that has a
// kind, it becomes DataPlane.
func AsDataPlane(object any) *v1alpha1.DataPlane {
	cluster, ok := object.(*v1alpha1.ClusterDataPlane)
	if !ok {
		return object.(*v1alpha1.DataPlane)
	}
	if cluster == nil {
		return nil
	}
	dp := cluster.AsDataPlane()
	dp.TypeMeta = metav1.TypeMeta{APIVersion: cluster.APIVersion, Kind: strings.TrimPrefix(cluster.Kind, "Cluster")}
	dp.Namespace = cluster.Namespace // tests check that it is empty
	return dp
}

// asClusterDataPlane returns a ClusterDataPlane without the kind, which clients add.
func asClusterDataPlane(dp *v1alpha1.DataPlane) *v1alpha1.ClusterDataPlane {
	return &v1alpha1.ClusterDataPlane{ObjectMeta: dp.ObjectMeta, Spec: convert[v1alpha1.ClusterDataPlaneSpec](dp.Spec), Status: dp.Status}
}

// clusterDataPlanes is a client for ClusterDataPlanes that takes and returns DataPlanes. Its watches
// send ClusterDataPlanes.
type clusterDataPlanes struct {
	openchoreotyped.ClusterDataPlaneInterface
}

func (c clusterDataPlanes) Create(ctx context.Context, dp *v1alpha1.DataPlane, options metav1.CreateOptions) (*v1alpha1.DataPlane, error) {
	created, err := c.ClusterDataPlaneInterface.Create(ctx, asClusterDataPlane(dp), options)
	return AsDataPlane(created), err
}

func (c clusterDataPlanes) Update(ctx context.Context, dp *v1alpha1.DataPlane, options metav1.UpdateOptions) (*v1alpha1.DataPlane, error) {
	updated, err := c.ClusterDataPlaneInterface.Update(ctx, asClusterDataPlane(dp), options)
	return AsDataPlane(updated), err
}

func (c clusterDataPlanes) UpdateStatus(ctx context.Context, dp *v1alpha1.DataPlane, options metav1.UpdateOptions) (*v1alpha1.DataPlane, error) {
	updated, err := c.ClusterDataPlaneInterface.UpdateStatus(ctx, asClusterDataPlane(dp), options)
	return AsDataPlane(updated), err
}

func (c clusterDataPlanes) Get(ctx context.Context, name string, options metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	cluster, err := c.ClusterDataPlaneInterface.Get(ctx, name, options)
	return AsDataPlane(cluster), err
}

func (c clusterDataPlanes) List(ctx context.Context, options metav1.ListOptions) (*v1alpha1.DataPlaneList, error) {
	clusters, err := c.ClusterDataPlaneInterface.List(ctx, options)
	if err != nil {
		return nil, err
	}
	list := &v1alpha1.DataPlaneList{ListMeta: clusters.ListMeta}
	if clusters.Items != nil {
		list.Items = make([]v1alpha1.DataPlane, len(clusters.Items))
	}
	for i := range clusters.Items {
		list.Items[i] = *AsDataPlane(&clusters.Items[i])
	}
	return list, nil
}

func (c clusterDataPlanes) Patch(ctx context.Context, name string, kind types.PatchType, patch []byte, options metav1.PatchOptions, subresources ...string) (*v1alpha1.DataPlane, error) {
	patched, err := c.ClusterDataPlaneInterface.Patch(ctx, name, kind, patch, options, subresources...)
	return AsDataPlane(patched), err
}

func (c clusterDataPlanes) Apply(ctx context.Context, configuration *openchoreoapply.DataPlaneApplyConfiguration, options metav1.ApplyOptions) (*v1alpha1.DataPlane, error) {
	applied, err := c.ClusterDataPlaneInterface.Apply(ctx, convert[*openchoreoapply.ClusterDataPlaneApplyConfiguration](configuration), options)
	return AsDataPlane(applied), err
}

func (c clusterDataPlanes) ApplyStatus(ctx context.Context, configuration *openchoreoapply.DataPlaneApplyConfiguration, options metav1.ApplyOptions) (*v1alpha1.DataPlane, error) {
	applied, err := c.ClusterDataPlaneInterface.ApplyStatus(ctx, convert[*openchoreoapply.ClusterDataPlaneApplyConfiguration](configuration), options)
	return AsDataPlane(applied), err
}

// Extract is ExtractDataPlane or, for a ClusterDataPlane, ExtractClusterDataPlane.
func (k Kind) Extract(dp *v1alpha1.DataPlane, manager string) (*openchoreoapply.DataPlaneApplyConfiguration, error) {
	if k.Namespaced {
		return openchoreoapply.ExtractDataPlane(dp, manager)
	}
	extracted, err := openchoreoapply.ExtractClusterDataPlane(asClusterDataPlane(dp), manager)
	return convert[*openchoreoapply.DataPlaneApplyConfiguration](extracted), err
}

// ExtractStatus is Extract for the status.
func (k Kind) ExtractStatus(dp *v1alpha1.DataPlane, manager string) (*openchoreoapply.DataPlaneApplyConfiguration, error) {
	if k.Namespaced {
		return openchoreoapply.ExtractDataPlaneStatus(dp, manager)
	}
	extracted, err := openchoreoapply.ExtractClusterDataPlaneStatus(asClusterDataPlane(dp), manager)
	return convert[*openchoreoapply.DataPlaneApplyConfiguration](extracted), err
}
