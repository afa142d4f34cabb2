// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

const (
	// dataPlaneName is the object in the management cluster.
	dataPlaneName = "production-dataplane"
	// workloads is the namespace for workloads in the target cluster.
	workloads = "default"
	// fieldManager owns the fields that the quickstart applies.
	fieldManager = "quickstart"
)

// quickstart holds the results of earlier steps.
type quickstart struct {
	*demo.Clusters
	stopWatching func()
	lister       openchoreolisters.DataPlaneNamespaceLister
	credentials  openchoreov1alpha1.APIServerCredentials // of the first user of the DataPlane
	clusterWide  bool                                    // whether the ClusterDataPlane exists, which is named like the namespace
	cluster      *remote.Cluster                         // the connection of the DataPlane
	target       kubernetes.Interface                    // a client on that connection
}

// mayDeploy are the rights of the DataPlane's users in the target cluster.
func mayDeploy() []rbacv1.PolicyRule {
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: verbs},
	}
}

func (q *quickstart) addDeployer(ctx context.Context) (err error) {
	q.credentials, err = q.Targets[0].Credentials(ctx, "openchoreo-deployer", mayDeploy()...)
	if err != nil {
		return err
	}
	line("user openchoreo-deployer has a client certificate, and may change config maps and deployments")
	return nil
}

func (q *quickstart) createDataPlane(ctx context.Context) error {
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(q.Client, 0, openchoreoinformers.WithNamespace(q.Namespace))
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
	q.lister = dataPlanes.Lister().DataPlanes(q.Namespace)
	arrived := make(chan string, 10) // more than enough: the namespace is new
	if _, err := dataPlanes.Informer().AddEventHandler(informer.Handler(informer.Funcs{
		OnAdd: func(dp *openchoreov1alpha1.DataPlane, _ bool) { arrived <- dp.Name },
	})); err != nil {
		return err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the clean-up
	factory.StartWithContext(watching)
	q.stopWatching = func() {
		stop()
		factory.Shutdown()
	}
	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
		return err
	}
	line("informer: synced, %d DataPlanes", len(dataPlanes.Informer().GetStore().ListKeys()))

	dp := demo.NewDataPlane(q.Namespace, dataPlaneName, "production-cluster", q.credentials)
	dp, err := q.DataPlanes.Create(ctx, dp, metav1.CreateOptions{FieldManager: "operator"})
	if err != nil {
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
	applied, err := q.applySecretRef(ctx, "registry-credentials", fieldManager)
	if err != nil {
		return err
	}
	line("%s applied    spec.registry.secretRef=%s; the rest of the spec has not changed", fieldManager, applied.Spec.Registry.SecretRef)

	_, err = q.applySecretRef(ctx, "other-credentials", "somebody-else")
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("want a conflict between field managers, got %w", cmp.Or(err, errors.New("no error")))
	}
	line("somebody-else failed  %v", err)

	owned, err := openchoreoapply.ExtractDataPlane(applied, fieldManager)
	if err != nil {
		return err
	}
	line("%s owns       spec.registry.secretRef=%s, and nothing else", fieldManager, *owned.Spec.Registry.SecretRef)
	return nil
}

// applySecretRef applies one field. Server-side apply leaves all others alone.
func (q *quickstart) applySecretRef(ctx context.Context, name, manager string) (*openchoreov1alpha1.DataPlane, error) {
	return q.DataPlanes.Apply(ctx, openchoreoapply.DataPlane(dataPlaneName, q.Namespace).
		WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithSecretRef(name))),
		metav1.ApplyOptions{FieldManager: manager})
}

func (q *quickstart) deploy(ctx context.Context) error {
	dp, err := q.lister.Get(dataPlaneName)
	if err != nil {
		return err
	}
	if q.cluster, err = remote.NewCluster(dp, remote.Options{}); err != nil {
		return err
	}
	config := q.cluster.Config()
	if q.target, err = kubernetes.NewForConfigAndClient(config, q.cluster.HTTPClient()); err != nil {
		return err
	}
	user, err := userOf(ctx, q.target)
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
	line("deployed Deployment %s/%s, image %s", deployment.Namespace, deployment.Name, deployment.Spec.Template.Spec.Containers[0].Image)
	return nil
}

// userOf asks the target cluster which user it sees.
func userOf(ctx context.Context, target kubernetes.Interface) (string, error) {
	review, err := target.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
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

func (q *quickstart) tryForbidden(ctx context.Context) error {
	_, err := q.target.CoreV1().Secrets(workloads).Apply(ctx, applycorev1.Secret("greeting", workloads), metav1.ApplyOptions{FieldManager: fieldManager})
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("want the target cluster to forbid it, got %w", cmp.Or(err, errors.New("no error")))
	}
	line("refused: %v", err)
	return nil
}

func (q *quickstart) reportConditions(ctx context.Context) error {
	dp, err := q.lister.Get(dataPlaneName)
	if err != nil {
		return err
	}
	// The patch keeps the conditions of other controllers, and all fields that this program's
	// types lack. An update of the status would erase these fields.
	updated, err := helpers.PatchConditions(ctx, q.DataPlanes, dp, []metav1.Condition{
		{
			Type: openchoreov1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue,
			Reason: "Deployed", Message: "the target cluster accepted a deployment",
		},
		{
			Type: openchoreov1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue,
			Reason: "Connected", Message: "may accept workloads",
		},
	}, helpers.PatchConditionsOptions{FieldManager: fieldManager, ObserveGeneration: true})
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
	if _, err := q.applySecretRef(ctx, secretRef, fieldManager); err != nil {
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

// waitForCache waits until the informer's cache has the change, and returns the DataPlane.
func (q *quickstart) waitForCache(ctx context.Context, changed func(*openchoreov1alpha1.DataPlane) bool) (dp *openchoreov1alpha1.DataPlane, err error) {
	err = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(context.Context) (_ bool, err error) {
		dp, err = q.lister.Get(dataPlaneName)
		return err == nil && changed(dp), err
	})
	return dp, err
}

func line(format string, args ...any) { fmt.Printf("      "+format+"\n", args...) }

// table prints a line for each condition type.
func table(report helpers.Report) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "      CONDITION\tVERDICT\tCODE\tREPORTED\tOBSERVED\tREASON\tMESSAGE")
	for _, v := range report.Verdicts() {
		observed := "-"
		if v.ObservedGeneration > 0 {
			observed = fmt.Sprintf("%d of %d", v.ObservedGeneration, report.Generation)
		}
		fmt.Fprintf(w, "      %s\t%s\t%s\t%s\t%s\t%s\t%q\n", v.Type, v.Status, v.Code,
			cmp.Or(string(v.Reported), "-"), observed, cmp.Or(v.Reason, "-"), v.Message)
	}
	_ = w.Flush()
}
