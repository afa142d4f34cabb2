// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

const gatewayProvisioned = openchoreov1alpha1.DataPlaneConditionGatewayProvisioned

// mayWrite are the rights that the user of a DataPlane needs in the target cluster.
var mayWrite = rbacv1.PolicyRule{
	APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create", "patch", "delete"},
}

// story changes a DataPlane, as administrators do, and shows how the controller reacts.
type story struct {
	*demo.Clusters
	dataPlane *openchoreov1alpha1.DataPlane
}

func (s *story) play(ctx context.Context) error {
	if err := demo.Play(ctx, os.Stdout, []demo.Step{
		{Title: "A DataPlane is created: the controller configures the gateway in its cluster", Do: s.create},
		{Title: "The public virtual host changes: the config map follows", Do: s.changeHost},
		{Title: "The credentials are replaced by those of a user without rights", Do: s.rotateTo("nobody", metav1.ConditionFalse)},
		{Title: "The credentials are replaced by those of a user who may write config maps", Do: s.rotateTo("successor", metav1.ConditionTrue, mayWrite)},
		{Title: "The DataPlane is deleted: first, the controller removes the config map", Do: s.remove},
	}); err != nil {
		return err
	}
	fmt.Println("\nDone: the controller followed a DataPlane from its creation to its deletion.")
	fmt.Println("Next: go -C examples run ./controller-runtime --kubeconfig FILE --namespace NAME, which writes to the clusters of its DataPlanes.")
	return nil
}

func (s *story) create(ctx context.Context) (err error) {
	s.dataPlane, err = s.Create(ctx, s.Targets[0], "production", []rbacv1.PolicyRule{mayWrite})
	if err != nil {
		return err
	}
	return s.show(ctx, metav1.ConditionTrue)
}

func (s *story) changeHost(ctx context.Context) error {
	return s.change(ctx, metav1.ConditionTrue, func(spec *openchoreov1alpha1.DataPlaneSpec) {
		spec.Gateway.PublicVirtualHost = "www.example.com"
	})
}

// rotateTo gives the DataPlane the credentials of a new user with the rights in rules.
func (s *story) rotateTo(user string, want metav1.ConditionStatus, rules ...rbacv1.PolicyRule) func(context.Context) error {
	return func(ctx context.Context) error {
		credentials, err := s.Targets[0].Credentials(ctx, user, rules...)
		if err != nil {
			return err
		}
		return s.change(ctx, want, func(spec *openchoreov1alpha1.DataPlaneSpec) { spec.KubernetesCluster.Credentials = credentials })
	}
}

func (s *story) remove(ctx context.Context) error {
	if err := s.DataPlanes.Delete(ctx, s.dataPlane.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := await.ForDeletion(ctx, s.DataPlanes, s.dataPlane.Name); err != nil {
		return err
	}
	line("DataPlane %s is gone", s.dataPlane.Name)
	return s.showConfigMap(ctx)
}

// change changes the spec, and waits for the report of the controller.
func (s *story) change(ctx context.Context, want metav1.ConditionStatus, edit func(*openchoreov1alpha1.DataPlaneSpec)) (err error) {
	if s.dataPlane, err = changeSpec(ctx, s.DataPlanes, s.dataPlane.Name, edit); err != nil {
		return err
	}
	return s.show(ctx, want)
}

// changeSpec patches the spec, which keeps fields that the SDK doesn't know.
func changeSpec(ctx context.Context, dataPlanes openchoreotyped.DataPlaneInterface, name string, edit func(*openchoreov1alpha1.DataPlaneSpec)) (*openchoreov1alpha1.DataPlane, error) {
	before, err := dataPlanes.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	after := before.DeepCopy()
	edit(&after.Spec)
	patch, err := helpers.MergePatch(before, after)
	if err != nil {
		return nil, err
	}
	return dataPlanes.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
}

func (s *story) show(ctx context.Context, want metav1.ConditionStatus) error {
	dp, err := await.For(ctx, s.DataPlanes, s.dataPlane.Name, await.Match(gatewayProvisioned+"="+string(want),
		func(r helpers.Report) bool { return r.Verdict(gatewayProvisioned).Status == want }),
		await.MinGeneration(s.dataPlane.Generation))
	if err != nil {
		return err
	}
	s.dataPlane = dp
	verdict := helpers.EvaluateCondition(dp, gatewayProvisioned)
	line("%s is %s (%s) for generation %d: %s",
		gatewayProvisioned, verdict.Status, verdict.Reason, verdict.ObservedGeneration, verdict.Message)
	return s.showConfigMap(ctx)
}

func (s *story) showConfigMap(ctx context.Context) error {
	name := configMapName(s.dataPlane)
	configMap, err := s.Targets[0].Core.CoreV1().ConfigMaps(targetNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		line("%s has no config map %s/%s", s.Targets[0].Name, targetNamespace, name)
		return nil
	}
	if err != nil {
		return err
	}
	owners := make([]string, len(configMap.ManagedFields))
	for i, entry := range configMap.ManagedFields {
		owners[i] = entry.Manager + " by " + string(entry.Operation)
	}
	line("%s has config map %s/%s, written by %s", s.Targets[0].Name, targetNamespace, name, strings.Join(owners, ", "))
	line("  publicVirtualHost: %s", configMap.Data["publicVirtualHost"])
	line("  organizationVirtualHost: %s", configMap.Data["organizationVirtualHost"])
	return nil
}

func line(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }
