// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplanesdk documents the DataPlane SDK: Go clients for the DataPlane
// resource of OpenChoreo (openchoreo.dev/v1alpha1), and helpers that connect to the
// clusters that DataPlanes describe. The package itself is empty. Import these:
//
//   - apis/openchoreo/v1alpha1: the types; depends on k8s.io/apimachinery only.
//   - apis/openchoreo/crds: the CustomResourceDefinition as bytes.
//   - clientset/versioned: the typed client, and a fake for tests.
//   - informers/externalversions and listers: a cache of DataPlanes that a watch keeps
//     up to date.
//   - applyconfigurations: the input of server-side apply.
//   - helpers: from a DataPlane to a rest.Config and back, conditions, patches.
//   - helpers/await: waiting for conditions or deletion.
//   - helpers/remote: connections to data planes that outlive their credentials.
//   - helpers/fleet: a function for every data plane, in one process or many.
//   - helpers/informer: a typed event handler and transforms.
//   - helpers/fieldset: changed fields and their managers.
//   - helpers/registry: image names and pull secrets.
//   - helpers/observer: an HTTP client for the observer.
//   - helpers/dataplanetest: objects, a fake clientset and servers for tests.
//
// # Reading
//
//	client, err := openchoreoclient.NewForConfig(config)
//	dataPlane, err := client.OpenChoreoV1alpha1().DataPlanes("default").Get(ctx, "prod", metav1.GetOptions{})
//
// Programs that read often or wait for changes read from a cache:
//
//	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
//	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
//	dataPlanes.Informer().AddEventHandler(informer.Handler(informer.Funcs{OnReady: onReady}))
//	factory.Start(ctx.Done())
//	factory.WaitForCacheSync(ctx.Done())
//	dataPlane, err := dataPlanes.Lister().DataPlanes("default").Get("prod")
//
// The objects of a lister belong to the cache: copy one with DeepCopy before you modify
// it.
//
// # Writing
//
// Server-side apply changes only the fields that you name. It keeps fields that this
// module doesn't know:
//
//	prod := openchoreoapply.DataPlane("prod", "default").
//		WithSpec(openchoreoapply.DataPlaneSpec().
//			WithRegistry(openchoreoapply.Registry().WithPrefix("docker.io/myorg")))
//	_, err = client.OpenChoreoV1alpha1().DataPlanes("default").Apply(ctx, prod,
//		metav1.ApplyOptions{FieldManager: "my-controller"})
//
// It fails with a conflict if another manager owns a field and its value differs.
//
// Update replaces the whole object by the fields that the Go types have, which are those of
// OpenChoreo v0.3 and v1. An Update of objects of other releases erases fields. Controllers
// write conditions with helpers.PatchConditions.
//
// # Readiness
//
//	if helpers.IsReady(dataPlane) {
//
// IsReady reads the condition Ready and is false if it describes an earlier generation of
// the object. No release of OpenChoreo up to v1.2.3 writes Ready, Connected or
// GatewayProvisioned; its only lasting condition is Created. If no controller of yours
// writes Ready, pass helpers.Stock().
//
// # Connecting to a data plane
//
//	config, err := helpers.RESTConfigFor(dataPlane)
//	target, err := kubernetes.NewForConfig(config)
//
// Use this in short-lived programs. Long-running programs keep clients in a
// remote.Cache, which follows rotations of credentials:
//
//	clients := remote.NewCache(remote.FromLister(dataPlanes.Lister()),
//		func(cluster *remote.Cluster) (kubernetes.Interface, error) {
//			return kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
//		}, remote.Options{})
//	defer clients.Close()
//	target, err := clients.Get(types.NamespacedName{Namespace: "default", Name: "prod"})
//
// A fleet.Fleet calls a function for each data plane while it exists:
//
//	err := fleet.New(func(ctx context.Context, cluster *remote.Cluster) error {
//		return watchWorkloads(ctx, cluster) // until ctx ends
//	}, fleet.Options{}, dataPlanes.Informer()).Run(ctx)
//
// The call goes on while credentials are rotated. fleet.Options.Sharding divides the data
// planes among the replicas of a program.
//
// RESTConfigFor needs the credentials that OpenChoreo v0.3 stores in a DataPlane. The data
// planes of v1 are reached through OpenChoreo's cluster gateway: pass helpers.ConfigFor in the
// options of a Cache or a Fleet.
//
// # Testing
//
// Package helpers/dataplanetest has a fake clientset that behaves as an API server does,
// DataPlanes with real certificates, and servers that stand in for data planes. The generated
// fake.NewClientset is simpler: it supports Apply, but has no generations, no conflicts and
// no separate status.
//
// # Versions
//
// One release works with client-go 0.33 to 0.37: the module requires 0.33, and Go uses
// the version in your own go.mod if that is higher.
//
// # Security
//
// A DataPlane contains a client key and a password in plain text. Everyone who may get,
// list or watch DataPlanes can act in the clusters that they describe. Formatting or
// logging a DataPlane hides both; JSON and YAML are the wire format and show them.
package dataplanesdk
