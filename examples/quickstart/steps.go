// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

const (
	// dataPlaneName is the object in the management cluster.
	dataPlaneName = "production-dataplane"
	// workloads is the namespace of the target cluster in which the DataPlane's user
	// may work.
	workloads = "workloads"
	// fieldManager is who owns the fields that the quickstart applies.
	fieldManager = "quickstart"
)

// quickstart holds what one step leaves for the next.
type quickstart struct {
	*printer
	existing existingCluster
	patience time.Duration // for each step, and for each thing to remove

	managementConfig *rest.Config
	targetCluster    *controlplane.ControlPlane

	// Of the management cluster.
	crds       dynamic.ResourceInterface
	client     openchoreoclient.Interface
	namespace  string // of the DataPlane
	dataPlanes openchoreotyped.DataPlaneInterface
	lister     openchoreolisters.DataPlaneNamespaceLister

	// Of the target cluster.
	deployer *controlplane.User   // who the DataPlane is for
	target   kubernetes.Interface // as that user

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
		q.line("%s is there already; it stays as it is", crds.DataPlaneName)
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := q.listDataPlanes(ctx, q.namespace); err != nil {
		return err
	}
	q.line("%s is installed and served", crds.DataPlaneName)
	return nil
}

// listDataPlanes returns at least one DataPlane if there are any. It waits until the
// API server serves them, which takes a moment after the definition was created.
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
	if q.deployer, err = q.targetCluster.AddUser("openchoreo-deployer"); err != nil {
		return err
	}
	admin, err := kubernetes.NewForConfig(q.targetCluster.Config())
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
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: q.deployer.Name}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	q.line("user %q, by client certificate; may change config maps and deployments in namespace %q", q.deployer.Name, workloads)
	return nil
}

func (q *quickstart) createDataPlane(ctx context.Context) error {
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(q.client, 0, openchoreoinformers.WithNamespace(q.namespace))
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
	q.lister = dataPlanes.Lister().DataPlanes(q.namespace)
	arrived := make(chan string, 1)
	if _, err := dataPlanes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if dp, ok := obj.(*openchoreov1alpha1.DataPlane); ok && dp.Name == dataPlaneName {
				arrived <- dp.Name
			}
		},
	}); err != nil {
		return err
	}
	stop := make(chan struct{})
	factory.Start(stop)
	q.onCleanUp(func(context.Context) error {
		close(stop)
		factory.Shutdown()
		return nil
	})
	if !cache.WaitForCacheSync(ctx.Done(), dataPlanes.Informer().HasSynced) {
		return fmt.Errorf("waiting for the informer: %w", ctx.Err())
	}
	q.line("informer: synced, %d DataPlanes", len(dataPlanes.Informer().GetStore().ListKeys()))

	encode := base64.StdEncoding.EncodeToString
	dp := &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Name: dataPlaneName},
		Spec: openchoreov1alpha1.DataPlaneSpec{
			KubernetesCluster: openchoreov1alpha1.KubernetesClusterSpec{
				Name: "production-cluster",
				Credentials: openchoreov1alpha1.APIServerCredentials{
					APIServerURL: q.deployer.Server,
					CACert:       encode(q.deployer.CA),
					ClientCert:   encode(q.deployer.Certificate),
					ClientKey:    encode(q.deployer.Key),
				},
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
		return fmt.Errorf("does the cluster serve the DataPlane of another OpenChoreo release? %w", err)
	}
	q.line("created:  %s/%s, generation %d", dp.Namespace, dp.Name, dp.Generation)
	select {
	case name := <-arrived:
		q.line("informer: %s has arrived", name)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the informer to see the DataPlane: %w", ctx.Err())
	}
}

func (q *quickstart) readFromLister(context.Context) error {
	dp, err := q.lister.Get(dataPlaneName)
	if err != nil {
		return err
	}
	creds := dp.Spec.KubernetesCluster.Credentials
	q.line("cluster   %s at %s", dp.Spec.KubernetesCluster.Name, creds.APIServerURL)
	q.line("registry  %s", dp.Spec.Registry.Prefix)
	q.line("gateway   %s, %s", dp.Spec.Gateway.PublicVirtualHost, dp.Spec.Gateway.OrganizationVirtualHost)
	q.line("key       %d characters, which nobody should print", len(creds.ClientKey))
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
	q.line("%s applied    spec.registry.secretRef=%s; the rest of the spec is as it was", fieldManager, applied.Spec.Registry.SecretRef)

	_, err = q.dataPlanes.Apply(ctx, secretRef("other-credentials"), metav1.ApplyOptions{FieldManager: "somebody-else"})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("want a conflict between field managers, got %w", orNoError(err))
	}
	q.line("somebody-else failed  %v", err)

	owned, err := openchoreoapply.ExtractDataPlane(applied, fieldManager)
	if err != nil {
		return err
	}
	q.line("%s owns       spec.registry.secretRef=%s, and nothing else", fieldManager, *owned.Spec.Registry.SecretRef)
	return nil
}

func (q *quickstart) deploy(ctx context.Context) error {
	dp, err := q.lister.Get(dataPlaneName)
	if err != nil {
		return err
	}
	config, err := helpers.RESTConfigFor(dp)
	if err != nil {
		return err
	}
	config.UserAgent = "dataplane-sdk-quickstart"
	if q.target, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	self, err := q.target.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	q.line("connected to %s as %q", config.Host, self.Status.UserInfo.Username)

	options := metav1.ApplyOptions{FieldManager: fieldManager}
	configMap, err := q.target.CoreV1().ConfigMaps(workloads).Apply(ctx,
		applycorev1.ConfigMap("greeting", workloads).WithData(map[string]string{"text": "hello"}), options)
	if err != nil {
		return err
	}
	q.line("deployed ConfigMap %s/%s", configMap.Namespace, configMap.Name)
	deployment, err := q.target.AppsV1().Deployments(workloads).Apply(ctx, greeter(dp.Spec.Registry.Prefix), options)
	if err != nil {
		return err
	}
	q.line("deployed Deployment %s/%s, image %s", deployment.Namespace, deployment.Name, image(deployment))
	return nil
}

// greeter is a workload; no node runs it, but the API server takes it as it would
// anywhere.
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
	q.line("%v", err)
	return nil
}

func (q *quickstart) reportConditions(ctx context.Context) error {
	var updated *openchoreov1alpha1.DataPlane
	// Others may write conditions at the same time. Theirs stay, because an update of
	// what somebody has changed meanwhile is a conflict.
	if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		dp, err := q.dataPlanes.Get(ctx, dataPlaneName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		meta.SetStatusCondition(&dp.Status.Conditions, metav1.Condition{
			Type: openchoreov1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, ObservedGeneration: dp.Generation,
			Reason: "Deployed", Message: "the target cluster took a deployment",
		})
		meta.SetStatusCondition(&dp.Status.Conditions, metav1.Condition{
			Type: openchoreov1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: dp.Generation,
			Reason: "Connected", Message: "may accept workloads",
		})
		dp.Status.ObservedGeneration = dp.Generation
		updated, err = q.dataPlanes.UpdateStatus(ctx, dp, metav1.UpdateOptions{FieldManager: fieldManager})
		return err
	}); err != nil {
		return err
	}
	q.table(helpers.Evaluate(updated))
	if !helpers.IsReady(updated) || !helpers.IsConnected(updated) || helpers.IsGatewayProvisioned(updated) {
		return errors.New("want Ready and Connected, and nothing reported of the gateway")
	}
	return nil
}

func (q *quickstart) outdateConditions(ctx context.Context) error {
	if _, err := q.dataPlanes.Apply(ctx, openchoreoapply.DataPlane(dataPlaneName, q.namespace).
		WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithSecretRef("rotated-credentials"))),
		metav1.ApplyOptions{FieldManager: fieldManager}); err != nil {
		return err
	}
	// The informer's cache follows by itself.
	var seen *openchoreov1alpha1.DataPlane
	if err := eventually(ctx, "the informer to see the change", func(context.Context) (_ bool, err error) {
		seen, err = q.lister.Get(dataPlaneName)
		return err == nil && seen.Spec.Registry.SecretRef == "rotated-credentials", err
	}); err != nil {
		return err
	}
	report := helpers.Evaluate(seen)
	q.table(report)
	if code := report.Verdict(openchoreov1alpha1.DataPlaneConditionReady).Code; code != helpers.CodeStale {
		return fmt.Errorf("want Ready to be %s, got %s", helpers.CodeStale, code)
	}
	return nil
}

// orNoError makes an error of the lack of one.
func orNoError(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
