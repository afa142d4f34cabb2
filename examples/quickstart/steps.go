// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

const (
	// dataPlaneName is the object in the management cluster.
	dataPlaneName = "production-dataplane"
	// workloads is the namespace of the target cluster that the DataPlane's users may change.
	workloads = "workloads"
	// deployers is the group of the DataPlane's users in the target cluster.
	deployers = "deployers"
	// fieldManager owns the fields that the quickstart applies.
	fieldManager = "quickstart"
)

// quickstart holds the results of earlier steps.
type quickstart struct {
	flags demo.Flags

	managementConfig *rest.Config
	targetPlane      *controlplane.ControlPlane

	// Of the management cluster.
	crds       dynamic.ResourceInterface
	client     openchoreoclient.Interface
	namespace  string // of the DataPlane
	dataPlanes openchoreotyped.DataPlaneInterface
	lister     openchoreolisters.DataPlaneNamespaceLister

	// Of the target cluster.
	deployer *controlplane.User   // the first user of the DataPlane
	cluster  *remote.Cluster      // the connection of the DataPlane
	target   kubernetes.Interface // a client on that connection

	undo []func(context.Context) error
}

func (q *quickstart) installCRD(ctx context.Context) error {
	core, err := kubernetes.NewForConfig(q.managementConfig)
	if err != nil {
		return err
	}
	definitions, err := dynamic.NewForConfig(q.managementConfig)
	if err != nil {
		return err
	}
	if q.client, err = openchoreoclient.NewForConfig(q.managementConfig); err != nil {
		return err
	}

	namespaces := core.CoreV1().Namespaces()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "dataplane-quickstart-"}}
	if err := q.create(ctx, func(ctx context.Context) (err error) {
		namespace, err = namespaces.Create(ctx, namespace, metav1.CreateOptions{})
		return err
	}, func(ctx context.Context) error {
		return namespaces.Delete(ctx, namespace.Name, metav1.DeleteOptions{})
	}); err != nil {
		return err
	}
	q.namespace = namespace.Name
	q.dataPlanes = q.client.OpenChoreoV1alpha1().DataPlanes(q.namespace)

	q.crds = definitions.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(crds.DataPlane(), &crd.Object); err != nil {
		return err
	}
	err = q.create(ctx, func(ctx context.Context) (err error) {
		crd, err = q.crds.Create(ctx, crd, metav1.CreateOptions{})
		return err
	}, func(ctx context.Context) error {
		return q.deleteCRD(ctx, crd.GetUID())
	})
	if apierrors.IsAlreadyExists(err) {
		line("%s exists already; the quickstart leaves it as it is", crds.DataPlaneName)
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := q.listDataPlanes(ctx, q.namespace); err != nil {
		return err
	}
	line("%s is installed and served", crds.DataPlaneName)
	return nil
}

// listDataPlanes returns at least one DataPlane if there are any. It waits until the API
// server serves them, which is a moment after the definition was created.
func (q *quickstart) listDataPlanes(ctx context.Context, namespace string) ([]openchoreov1alpha1.DataPlane, error) {
	var list *openchoreov1alpha1.DataPlaneList
	err := eventually(ctx, "the API server to serve DataPlanes", func(ctx context.Context) (_ bool, err error) {
		list, err = q.client.OpenChoreoV1alpha1().DataPlanes(namespace).List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (q *quickstart) addDeployer(ctx context.Context) error {
	var err error
	if q.deployer, err = q.targetPlane.AddUser("openchoreo-deployer", deployers); err != nil {
		return err
	}
	admin, err := kubernetes.NewForConfig(q.targetPlane.Config())
	if err != nil {
		return err
	}
	_, err = admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: workloads}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	named := metav1.ObjectMeta{Name: "deployer"}
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	_, err = admin.RbacV1().Roles(workloads).Create(ctx, &rbacv1.Role{ObjectMeta: named, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: verbs},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = admin.RbacV1().RoleBindings(workloads).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: named,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "deployer"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: deployers}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	line("user %q of group %q has a client certificate", q.deployer.Name, deployers)
	line("the group may change config maps and deployments in namespace %q", workloads)
	return nil
}

func (q *quickstart) createDataPlane(ctx context.Context) error {
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(q.client, 0, openchoreoinformers.WithNamespace(q.namespace))
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
	q.lister = dataPlanes.Lister().DataPlanes(q.namespace)
	arrived := make(chan string, 10) // the namespace is new and has no others
	if _, err := dataPlanes.Informer().AddEventHandler(informer.Handler(informer.Funcs{
		OnAdd: func(dp *openchoreov1alpha1.DataPlane, _ bool) { arrived <- dp.Name },
	})); err != nil {
		return err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the clean-up
	factory.StartWithContext(watching)
	q.onCleanUp(func(context.Context) error {
		stop()
		factory.Shutdown()
		return nil
	})
	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
		return err
	}
	line("informer: synced, %d DataPlanes", len(dataPlanes.Informer().GetStore().ListKeys()))

	credentials, err := helpers.CredentialsFor(q.deployer.Config())
	if err != nil {
		return err
	}
	dp := &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Name: dataPlaneName},
		Spec: openchoreov1alpha1.DataPlaneSpec{
			KubernetesCluster: openchoreov1alpha1.KubernetesClusterSpec{
				Name:        "production-cluster",
				Credentials: credentials,
			},
			Registry: openchoreov1alpha1.Registry{Prefix: "docker.io/myorg"},
			Gateway: openchoreov1alpha1.GatewaySpec{
				PublicVirtualHost:       "api.example.com",
				OrganizationVirtualHost: "internal.example.com",
			},
		},
	}
	if err := q.create(ctx, func(ctx context.Context) (err error) {
		dp, err = q.dataPlanes.Create(ctx, dp, metav1.CreateOptions{FieldManager: "operator"})
		return err
	}, q.deleteDataPlane); err != nil {
		return fmt.Errorf("does the cluster serve DataPlanes of another OpenChoreo release? %w", err)
	}
	line("created:  %s/%s, generation %d", dp.Namespace, dp.Name, dp.Generation)
	if err := waitFor(ctx, arrived, dataPlaneName); err != nil {
		return err
	}
	line("informer: %s has arrived", dataPlaneName)
	return nil
}

func (q *quickstart) readFromLister(context.Context) error {
	dp, err := q.lister.Get(dataPlaneName)
	if err != nil {
		return err
	}
	creds := dp.Spec.KubernetesCluster.Credentials
	line("cluster   %s at %s", dp.Spec.KubernetesCluster.Name, creds.APIServerURL)
	line("registry  %s", dp.Spec.Registry.Prefix)
	line("gateway   %s, %s", dp.Spec.Gateway.PublicVirtualHost, dp.Spec.Gateway.OrganizationVirtualHost)
	line("key       %d characters, never printed", len(creds.ClientKey))
	return nil
}

func (q *quickstart) apply(ctx context.Context) error {
	secretRef := func(name string) *openchoreoapply.DataPlaneApplyConfiguration {
		return openchoreoapply.DataPlane(dataPlaneName, q.namespace).WithSpec(openchoreoapply.DataPlaneSpec().
			WithRegistry(openchoreoapply.Registry().WithSecretRef(name)))
	}
	applied, err := q.dataPlanes.Apply(ctx, secretRef("registry-credentials"), metav1.ApplyOptions{FieldManager: fieldManager})
	if err != nil {
		return err
	}
	line("%s applied    spec.registry.secretRef=%s; the rest of the spec has not changed", fieldManager, applied.Spec.Registry.SecretRef)

	_, err = q.dataPlanes.Apply(ctx, secretRef("other-credentials"), metav1.ApplyOptions{FieldManager: "somebody-else"})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("want a conflict between field managers, got %w", orNoError(err))
	}
	line("somebody-else failed  %v", err)

	owned, err := openchoreoapply.ExtractDataPlane(applied, fieldManager)
	if err != nil {
		return err
	}
	line("%s owns       spec.registry.secretRef=%s, and nothing else", fieldManager, *owned.Spec.Registry.SecretRef)
	return nil
}

func (q *quickstart) deploy(ctx context.Context) error {
	dp, err := q.lister.Get(dataPlaneName)
	if err != nil {
		return err
	}
	if q.cluster, err = remote.NewCluster(dp, remote.Options{}); err != nil {
		return err
	}
	q.onCleanUp(func(context.Context) error {
		q.cluster.Close()
		return nil
	})
	config := q.cluster.Config()
	if q.target, err = kubernetes.NewForConfigAndClient(config, q.cluster.HTTPClient()); err != nil {
		return err
	}
	user, err := q.currentUser(ctx)
	if err != nil {
		return err
	}
	line("connected to %s as %q", config.Host, user)

	options := metav1.ApplyOptions{FieldManager: fieldManager}
	configMap, err := q.target.CoreV1().ConfigMaps(workloads).Apply(ctx,
		applycorev1.ConfigMap("greeting", workloads).WithData(map[string]string{"text": "hello"}), options)
	if err != nil {
		return err
	}
	line("deployed ConfigMap %s/%s", configMap.Namespace, configMap.Name)
	deployment, err := q.target.AppsV1().Deployments(workloads).Apply(ctx, greeter(dp.Spec.Registry.Prefix), options)
	if err != nil {
		return err
	}
	line("deployed Deployment %s/%s, image %s", deployment.Namespace, deployment.Name, image(deployment))
	return nil
}

// currentUser asks the target cluster which user it sees.
func (q *quickstart) currentUser(ctx context.Context) (string, error) {
	review, err := q.target.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return review.Status.UserInfo.Username, nil
}

// greeter returns a workload. The target cluster stores it, but has no node to run it.
func greeter(registry string) *applyappsv1.DeploymentApplyConfiguration {
	labels := map[string]string{"app": "greeter"}
	return applyappsv1.Deployment("greeter", workloads).WithSpec(applyappsv1.DeploymentSpec().
		WithReplicas(1).
		WithSelector(applymetav1.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(applycorev1.PodTemplateSpec().WithLabels(labels).WithSpec(applycorev1.PodSpec().
			WithContainers(applycorev1.Container().WithName("greeter").WithImage(registry + "/greeter:1.0")))))
}

func image(deployment *appsv1.Deployment) string {
	return deployment.Spec.Template.Spec.Containers[0].Image
}

func (q *quickstart) tryForbidden(ctx context.Context) error {
	_, err := q.target.CoreV1().ConfigMaps("kube-system").Apply(ctx,
		applycorev1.ConfigMap("greeting", "kube-system"), metav1.ApplyOptions{FieldManager: fieldManager})
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("want the target cluster to forbid it, got %w", orNoError(err))
	}
	line("%v", err)
	return nil
}

// rotate replaces the credentials of the DataPlane while an informer watches the target cluster.
func (q *quickstart) rotate(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(q.target, 0, informers.WithNamespace(workloads))
	configMaps := factory.Core().V1().ConfigMaps()
	arrived := make(chan string, 10) // more than there are
	if _, err := configMaps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { arrived <- obj.(*corev1.ConfigMap).Name },
	}); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	factory.Start(watching.Done())
	defer factory.Shutdown()
	defer stop()
	if err := waitFor(ctx, arrived, "greeting"); err != nil {
		return err
	}

	successor, err := q.targetPlane.AddUser("openchoreo-successor", deployers)
	if err != nil {
		return err
	}
	credentials, err := helpers.CredentialsFor(successor.Config())
	if err != nil {
		return err
	}
	if _, err := q.dataPlanes.Apply(ctx, openchoreoapply.DataPlane(dataPlaneName, q.namespace).
		WithSpec(openchoreoapply.DataPlaneSpec().WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().
			WithCredentials(openchoreoapply.APIServerCredentials().
				WithClientCert(credentials.ClientCert).WithClientKey(credentials.ClientKey)))),
		metav1.ApplyOptions{FieldManager: "rotator", Force: true}); err != nil {
		return err
	}
	dp, err := q.waitForCache(ctx, func(dp *openchoreov1alpha1.DataPlane) bool {
		return dp.Spec.KubernetesCluster.Credentials == credentials
	})
	if err != nil {
		return err
	}
	// A remote.Cache calls this by itself when the informer sees new credentials.
	if err := q.cluster.Update(dp); err != nil {
		return err
	}

	user, err := q.currentUser(ctx)
	if err != nil {
		return err
	}
	if user != successor.Name {
		return fmt.Errorf("the target cluster sees user %q after the rotation, not %q", user, successor.Name)
	}
	line("the same client is user %q now", user)
	if _, err := q.target.CoreV1().ConfigMaps(workloads).Apply(ctx,
		applycorev1.ConfigMap("farewell", workloads), metav1.ApplyOptions{FieldManager: fieldManager}); err != nil {
		return err
	}
	if err := waitFor(ctx, arrived, "farewell"); err != nil {
		return err
	}
	line("the informer goes on, and has seen ConfigMap %s/farewell", workloads)
	return nil
}

// waitFor waits until a name arrives.
func waitFor(ctx context.Context, arrived <-chan string, name string) error {
	for {
		select {
		case got := <-arrived:
			if got == name {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("waiting for the informer to see %s: %w", name, ctx.Err())
		}
	}
}

func (q *quickstart) reportConditions(ctx context.Context) error {
	dp, err := q.lister.Get(dataPlaneName)
	if err != nil {
		return err
	}
	// The patch keeps conditions of other controllers, and all fields that this program's
	// types lack. An update of the status would erase those.
	updated, err := helpers.PatchConditions(ctx, q.dataPlanes, dp, []metav1.Condition{
		{
			Type: openchoreov1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue,
			Reason: "Deployed", Message: "the target cluster accepted a deployment",
		},
		{
			Type: openchoreov1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue,
			Reason: "Connected", Message: "may accept workloads",
		},
	}, helpers.PatchOptions{FieldManager: fieldManager, ObserveGeneration: true})
	if err != nil {
		return err
	}
	table(helpers.Evaluate(updated))
	if !helpers.IsReady(updated) || !helpers.IsConnected(updated) || helpers.IsGatewayProvisioned(updated) {
		return errors.New("want Ready and Connected, and no report on the gateway")
	}
	return nil
}

func (q *quickstart) outdateConditions(ctx context.Context) error {
	const secretRef = "other-registry-credentials"
	if _, err := q.dataPlanes.Apply(ctx, openchoreoapply.DataPlane(dataPlaneName, q.namespace).
		WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithSecretRef(secretRef))),
		metav1.ApplyOptions{FieldManager: fieldManager}); err != nil {
		return err
	}
	dp, err := q.waitForCache(ctx, func(dp *openchoreov1alpha1.DataPlane) bool { return dp.Spec.Registry.SecretRef == secretRef })
	if err != nil {
		return err
	}
	report := helpers.Evaluate(dp)
	table(report)
	if code := report.Verdict(openchoreov1alpha1.DataPlaneConditionReady).Code; code != helpers.CodeStale {
		return fmt.Errorf("want Ready to be %s, got %s", helpers.CodeStale, code)
	}
	return nil
}

// waitForCache waits until the informer's cache has a change, and returns the DataPlane.
func (q *quickstart) waitForCache(ctx context.Context, changed func(*openchoreov1alpha1.DataPlane) bool) (dp *openchoreov1alpha1.DataPlane, err error) {
	err = eventually(ctx, "the informer to see the change", func(context.Context) (_ bool, err error) {
		dp, err = q.lister.Get(dataPlaneName)
		return err == nil && changed(dp), err
	})
	return dp, err
}

// orNoError returns an error even if err is nil, for errors that were expected.
func orNoError(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
