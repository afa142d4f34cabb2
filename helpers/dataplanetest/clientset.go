// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1/fake"
)

// Clientset is the generated fake clientset, with objects that behave as on an API server:
//
//   - An object gets a UID, a creation time, a resource version, and a name from generateName.
//   - The generation counts changes of the spec, and the deletion.
//   - Create, update, patch and apply don't change the status. Writes of the status subresource
//     change nothing else.
//   - A write with an old resource version conflicts. An update without a resource version is
//     invalid. A write that changes nothing keeps the resource version.
//   - An object with finalizers gets a deletion timestamp, and is removed with the last of them.
//   - Apply has field managers and conflicts, separately for the status.
//   - A request is refused with the API server's code if it names another object than its path, or
//     has malformed metadata, patches, selectors or options.
//   - Lists and watches select by labels and by metadata.name. A watch continues from the resource
//     version of a list, however many events that are.
//
// Tests compare a Clientset with a real API server, by a table of behaviours and by random
// requests. The package comment lists the differences.
//
// The embedded Fake records the actions of clients, and takes reactors that return errors:
//
//	client.PrependReactor("update", "dataplanes/status", func(clienttesting.Action) (bool, runtime.Object, error) {
//		return true, nil, apierrors.NewInternalError(errors.New("etcd is gone"))
//	})
//
// The Fake is locked while a reactor runs: a reactor that calls the client waits forever.
type Clientset struct {
	clienttesting.Fake
}

var _ openchoreoclient.Interface = &Clientset{}

// NewClientset returns a Clientset with copies of objects, which are DataPlanes and
// ClusterDataPlanes. It stores each as it is, with its status, generation and deletion timestamp,
// fills in a missing UID, generation or creation time, and sets the resource version. It panics if
// two objects of a kind have the same name, if an object is of another kind or has no name, if a
// DataPlane has no namespace, or if a ClusterDataPlane has one.
func NewClientset(objects ...runtime.Object) *Clientset {
	c, stores := &Clientset{}, map[schema.GroupVersionKind]*store{}
	for _, kind := range kinds {
		store := newStore(kind)
		stores[kind.GroupVersionKind] = store
		c.AddReactor("*", kind.plural, store.react)
		c.AddWatchReactor(kind.plural, store.reactToWatch)
	}
	for _, object := range objects {
		kinds, _, err := scheme.Scheme.ObjectKinds(object)
		if err != nil || stores[kinds[0]] == nil {
			panic(fmt.Sprintf("%T is no DataPlane or ClusterDataPlane", object))
		}
		stores[kinds[0]].seed(object)
	}
	return c
}

// OpenChoreoV1alpha1 returns the clients for DataPlanes and ClusterDataPlanes.
func (c *Clientset) OpenChoreoV1alpha1() openchoreotyped.OpenChoreoV1alpha1Interface {
	return group{&fake.FakeOpenChoreoV1alpha1{Fake: &c.Fake}}
}

type group struct{ *fake.FakeOpenChoreoV1alpha1 }

func (g group) DataPlanes(namespace string) openchoreotyped.DataPlaneInterface {
	return dataPlaneClient{g.FakeOpenChoreoV1alpha1.DataPlanes(namespace), namespace}
}

func (g group) ClusterDataPlanes() openchoreotyped.ClusterDataPlaneInterface {
	return clusterDataPlaneClient{g.FakeOpenChoreoV1alpha1.ClusterDataPlanes()}
}

// dataPlaneClient is the generated fake client with three differences: it refuses malformed
// selectors, for which client-go's fake panics, it returns an empty list as an empty slice, and its
// watches end with their contexts.
type dataPlaneClient struct {
	openchoreotyped.DataPlaneInterface
	namespace string
}

// Namespace returns the client's namespace, as the generated fake does. Waits name it in errors.
func (c dataPlaneClient) Namespace() string { return c.namespace }

func (c dataPlaneClient) List(ctx context.Context, options metav1.ListOptions) (*v1alpha1.DataPlaneList, error) {
	if err := checkSelectors(options); err != nil {
		return &v1alpha1.DataPlaneList{}, err
	}
	list, err := c.DataPlaneInterface.List(ctx, options)
	if err == nil && list.Items == nil {
		list.Items = []v1alpha1.DataPlane{}
	}
	return list, err
}

func (c dataPlaneClient) DeleteCollection(ctx context.Context, options metav1.DeleteOptions, listOptions metav1.ListOptions) error {
	if err := checkSelectors(listOptions); err != nil {
		return err
	}
	return c.DataPlaneInterface.DeleteCollection(ctx, options, listOptions)
}

func (c dataPlaneClient) Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return watchUntilDone(ctx, options, c.DataPlaneInterface.Watch)
}

// clusterDataPlaneClient is the dataPlaneClient of ClusterDataPlanes.
type clusterDataPlaneClient struct {
	openchoreotyped.ClusterDataPlaneInterface
}

func (c clusterDataPlaneClient) List(ctx context.Context, options metav1.ListOptions) (*v1alpha1.ClusterDataPlaneList, error) {
	if err := checkSelectors(options); err != nil {
		return &v1alpha1.ClusterDataPlaneList{}, err
	}
	list, err := c.ClusterDataPlaneInterface.List(ctx, options)
	if err == nil && list.Items == nil {
		list.Items = []v1alpha1.ClusterDataPlane{}
	}
	return list, err
}

func (c clusterDataPlaneClient) DeleteCollection(ctx context.Context, options metav1.DeleteOptions, listOptions metav1.ListOptions) error {
	if err := checkSelectors(listOptions); err != nil {
		return err
	}
	return c.ClusterDataPlaneInterface.DeleteCollection(ctx, options, listOptions)
}

func (c clusterDataPlaneClient) Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return watchUntilDone(ctx, options, c.ClusterDataPlaneInterface.Watch)
}

func checkSelectors(options metav1.ListOptions) error {
	_, _, err := parseSelectors(options)
	return err
}

func watchUntilDone(ctx context.Context, options metav1.ListOptions,
	start func(context.Context, metav1.ListOptions) (watch.Interface, error),
) (watch.Interface, error) {
	if err := checkSelectors(options); err != nil {
		return nil, err
	}
	watcher, err := start(ctx, options)
	if err != nil {
		return nil, err
	}
	return watchOfContext{watcher, context.AfterFunc(ctx, watcher.Stop)}, nil
}

// watchOfContext is a watch that ends with its context.
type watchOfContext struct {
	watch.Interface
	forget func() bool
}

func (w watchOfContext) Stop() {
	w.forget()
	w.Interface.Stop()
}

// Discovery returns client-go's fake of discovery, with the Resources of the embedded Fake.
func (c *Clientset) Discovery() discovery.DiscoveryInterface {
	return &fakediscovery.FakeDiscovery{Fake: &c.Fake}
}

// IsWatchListSemanticsUnSupported makes reflectors of client-go 0.35 and later list and then
// watch.
func (c *Clientset) IsWatchListSemanticsUnSupported() bool { return true }
