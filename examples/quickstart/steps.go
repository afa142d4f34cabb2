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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

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
	// patience bounds every wait, so that a cluster that doesn't answer is an error.
	patience = 30 * time.Second
)

// quickstart holds what one step leaves for the next.
type quickstart struct {
	*printer
	clusters *clusters

	management kubernetes.Interface
	namespace  string // of the DataPlane
	dataPlanes openchoreotyped.DataPlaneInterface
	deployer   *controlplane.User
	lister     openchoreolisters.DataPlaneNamespaceLister
	target     kubernetes.Interface // as the user of the DataPlane

	undo []func(context.Context) error
}

func (q *quickstart) installCRD(ctx context.Context) error {
	var err error
	if q.management, err = kubernetes.NewForConfig(q.clusters.management); err != nil {
		return err
	}
	client, err := openchoreoclient.NewForConfig(q.clusters.management)
	if err != nil {
		return err
	}
	namespace, err := q.management.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "dataplane-quickstart-"},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	q.namespace = namespace.Name
	q.dataPlanes = client.OpenChoreoV1alpha1().DataPlanes(q.namespace)
	q.onCleanUp(func(ctx context.Context) error {
		return q.management.CoreV1().Namespaces().Delete(ctx, q.namespace, metav1.DeleteOptions{})
	})

	definitions, err := dynamic.NewForConfig(q.clusters.management)
	if err != nil {
		return err
	}
	resource := definitions.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	var crd unstructured.Unstructured
	if err := yaml.Unmarshal(crds.DataPlane(), &crd.Object); err != nil {
		return err
	}
	switch _, err = resource.Create(ctx, &crd, metav1.CreateOptions{}); {
	case apierrors.IsAlreadyExists(err):
		q.line("%s is there already; it stays as it is", crds.DataPlaneName)
		return nil
	case err != nil:
		return err
	}
	q.onCleanUp(func(ctx context.Context) error {
		// Everybody's DataPlanes go with the definition.
		others, err := client.OpenChoreoV1alpha1().DataPlanes(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil && len(others.Items) > 0 {
			return fmt.Errorf("%s stays: there are DataPlanes of somebody else", crds.DataPlaneName)
		}
		return resource.Delete(ctx, crds.DataPlaneName, metav1.DeleteOptions{})
	})
	// It takes a moment until the API server serves a new resource.
	if err := eventually(ctx, "the API server to serve DataPlanes", func(ctx context.Context) (bool, error) {
		_, err := q.dataPlanes.List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	q.line("%s is installed and served", crds.DataPlaneName)
	return nil
}

func (q *quickstart) addDeployer(ctx context.Context) error {
	var err error
	if q.deployer, err = q.clusters.target.AddUser("openchoreo-deployer"); err != nil {
		return err
	}
	admin, err := kubernetes.NewForConfig(q.clusters.target.Config())
	if err != nil {
		return err
	}
	_, err = admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: workloads}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	meta := metav1.ObjectMeta{Name: "deployer"}
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	_, err = admin.RbacV1().Roles(workloads).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: verbs},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = admin.RbacV1().RoleBindings(workloads).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: meta,
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
	client, err := openchoreoclient.NewForConfig(q.clusters.management)
	if err != nil {
		return err
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0, openchoreoinformers.WithNamespace(q.namespace))
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
	watching, stop := context.WithCancel(ctx)
	factory.Start(watching.Done())
	q.onCleanUp(func(context.Context) error {
		stop()
		factory.Shutdown()
		return nil
	})
	syncing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if !cache.WaitForCacheSync(syncing.Done(), dataPlanes.Informer().HasSynced) {
		return fmt.Errorf("waiting for the informer: %w", context.Cause(syncing))
	}
	q.line("informer: synced, %d DataPlanes", len(dataPlanes.Informer().GetStore().ListKeys()))

	encode := base64.StdEncoding.EncodeToString
	created, err := q.dataPlanes.Create(ctx, &openchoreov1alpha1.DataPlane{
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
	}, metav1.CreateOptions{FieldManager: "operator"})
	if err != nil {
		return fmt.Errorf("does the cluster serve the DataPlane of another OpenChoreo release? %w", err)
	}
	q.onCleanUp(func(ctx context.Context) error {
		return q.dataPlanes.Delete(ctx, dataPlaneName, metav1.DeleteOptions{})
	})
	q.line("created:  %s/%s, generation %d", created.Namespace, created.Name, created.Generation)
	select {
	case name := <-arrived:
		q.line("informer: %s has arrived", name)
		return nil
	case <-syncing.Done():
		return fmt.Errorf("waiting for the informer to see the DataPlane: %w", context.Cause(syncing))
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
	config, err := helpers.RESTConfigFor(dp, helpers.WithUserAgent("dataplane-sdk-quickstart"))
	if err != nil {
		return err
	}
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
		coreapply.ConfigMap("greeting", workloads).WithData(map[string]string{"text": "hello"}), options)
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
func greeter(registry string) *appsapply.DeploymentApplyConfiguration {
	labels := map[string]string{"app": "greeter"}
	return appsapply.Deployment("greeter", workloads).WithSpec(appsapply.DeploymentSpec().
		WithReplicas(1).
		WithSelector(metaapply.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(coreapply.PodTemplateSpec().WithLabels(labels).WithSpec(coreapply.PodSpec().
			WithContainers(coreapply.Container().WithName("greeter").WithImage(registry + "/greeter:1.0")))))
}

func image(deployment *appsv1.Deployment) string {
	return deployment.Spec.Template.Spec.Containers[0].Image
}

func (q *quickstart) tryForbidden(ctx context.Context) error {
	_, err := q.target.CoreV1().ConfigMaps("kube-system").Apply(ctx,
		coreapply.ConfigMap("greeting", "kube-system"), metav1.ApplyOptions{FieldManager: fieldManager})
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("want the target cluster to forbid it, got %w", orNoError(err))
	}
	q.line("%v", err)
	return nil
}

func (q *quickstart) reportConditions(ctx context.Context) error {
	dp, err := q.dataPlanes.Get(ctx, dataPlaneName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	now := metav1.Now()
	condition := func(conditionType, reason, message string) *metaapply.ConditionApplyConfiguration {
		return metaapply.Condition().WithType(conditionType).WithStatus(metav1.ConditionTrue).WithReason(reason).
			WithMessage(message).WithObservedGeneration(dp.Generation).WithLastTransitionTime(now)
	}
	updated, err := q.dataPlanes.ApplyStatus(ctx, openchoreoapply.DataPlane(dataPlaneName, q.namespace).
		WithStatus(openchoreoapply.DataPlaneStatus().WithObservedGeneration(dp.Generation).WithConditions(
			condition(openchoreov1alpha1.DataPlaneConditionConnected, "Deployed", "the target cluster took a deployment"),
			condition(openchoreov1alpha1.DataPlaneConditionReady, "Connected", "may accept workloads"),
		)), metav1.ApplyOptions{FieldManager: fieldManager})
	if err != nil {
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

// eventually asks ten times a second until done says so or fails.
func eventually(ctx context.Context, what string, done wait.ConditionWithContextFunc) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, done); err != nil {
		return fmt.Errorf("waiting for %s: %w", what, err)
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

func (q *quickstart) onCleanUp(undo func(context.Context) error) { q.undo = append(q.undo, undo) }

// cleanUp removes what the steps created, the last first, also after an interrupt.
// The clusters that the quickstart has started itself go anyway.
func (q *quickstart) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	for i := len(q.undo) - 1; i >= 0; i-- {
		if err := q.undo[i](ctx); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("%w: %w", errCleanup, err))
		}
	}
	return errors.Join(errs...)
}
