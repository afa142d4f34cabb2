// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplanesdk documents the DataPlane SDK: Go clients for the DataPlane
// resource of OpenChoreo (openchoreo.dev/v1alpha1), and helpers that connect to the
// clusters that DataPlanes describe. The package itself holds nothing; import what
// you need of these:
//
//   - apis/openchoreo/v1alpha1: the types, on k8s.io/apimachinery alone.
//   - apis/openchoreo/crds: the CustomResourceDefinition, as bytes.
//   - clientset/versioned: the typed client, and a fake of it for tests.
//   - informers/externalversions and listers: a cache of DataPlanes that a watch
//     keeps up to date.
//   - applyconfigurations: what server-side apply takes.
//   - helpers: connections to data planes, what their conditions say, waiting for that,
//     and running something in every data plane.
//
// # Reading
//
//	client, err := openchoreoclient.NewForConfig(config)
//	dataPlane, err := client.OpenChoreoV1alpha1().DataPlanes("default").Get(ctx, "prod", metav1.GetOptions{})
//
// A program that reads more than once or that waits for changes should read from a
// cache:
//
//	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
//	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
//	dataPlanes.Informer().AddEventHandler(handler)
//	factory.Start(ctx.Done())
//	factory.WaitForCacheSync(ctx.Done())
//	dataPlane, err := dataPlanes.Lister().DataPlanes("default").Get("prod")
//
// What a lister returns belongs to the cache: copy it with DeepCopy before changing
// it.
//
// # Writing
//
// Server-side apply changes the fields that you name and leaves all others alone, also
// those that this module doesn't know:
//
//	prod := openchoreoapply.DataPlane("prod", "default").
//		WithSpec(openchoreoapply.DataPlaneSpec().
//			WithRegistry(openchoreoapply.Registry().WithPrefix("docker.io/myorg")))
//	_, err = client.OpenChoreoV1alpha1().DataPlanes("default").Apply(ctx, prod,
//		metav1.ApplyOptions{FieldManager: "my-controller"})
//
// It fails with a conflict when another manager owns a field and wants another value.
// Update, by contrast, replaces the whole object by what the Go type can hold. Later
// releases of OpenChoreo add fields under the same API version, which an Update
// through this module would erase: don't Update objects of a release that you
// don't know.
//
// # Connecting to a data plane
//
//	config, err := helpers.RESTConfigFor(dataPlane)
//	target, err := kubernetes.NewForConfig(config)
//
// That is for a program that ends. One that stays, while credentials are rotated and
// data planes come and go, keeps its clients in a cache:
//
//	clients := helpers.NewClientCache(func(r *helpers.Remote) (kubernetes.Interface, error) {
//		return kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
//	})
//	defer clients.Close()
//	target, err := clients.Get(dataPlane)
//
// One that does something in every data plane all the time, such as to watch it, leaves
// to helpers.Fleet when to start, end and repeat that:
//
//	fleet := helpers.NewFleet(dataPlanes.Informer(), func(ctx context.Context, r *helpers.Remote) error {
//		return watchWorkloads(ctx, r) // until ctx ends
//	})
//	err := fleet.Run(ctx)
//
// # Testing
//
// Use fake.NewClientset, which tracks field managers and so supports Apply. It is
// not an API server: it neither validates, nor sets generations, nor keeps spec and
// status apart. NewSimpleClientset supports less and is there for compatibility.
//
// # Versions
//
// One release works with every client-go from 0.33 to 0.37: the module requires
// 0.33, and Go's minimal version selection takes the version that your own go.mod
// asks for.
//
// # Security
//
// A DataPlane holds a client key and a password in plain sight. Whoever may get,
// list or watch DataPlanes may act in the clusters they describe. Formatting and
// logging one hides both; JSON and YAML are the wire format and show them.
package dataplanesdk
