// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
	clusters   *demo.Clusters
	client     client.Client // of the management cluster
	dataPlanes openchoreotyped.DataPlaneInterface

	target    client.Client // of an administrator of the target cluster
	dataPlane *openchoreov1alpha1.DataPlane
}

func (s *story) play(ctx context.Context) (err error) {
	if s.target, err = client.New(s.clusters.Targets[0].Config(), client.Options{Scheme: s.client.Scheme()}); err != nil {
		return err
	}
	if err := demo.Play(ctx, os.Stdout, []demo.Step{
		{Title: "A DataPlane is created: the controller configures the gateway in its cluster", Do: s.create},
		{Title: "The public virtual host changes: the config map follows", Do: s.changeHost},
		{Title: "The credentials are replaced by those of a user without rights", Do: s.rotateToNobody},
		{Title: "The credentials are replaced by those of a user who may write config maps", Do: s.rotate},
		{Title: "The DataPlane is deleted: first, the controller removes the config map", Do: s.remove},
	}); err != nil {
		return err
	}
	fmt.Println("\nDone: the controller followed a DataPlane from its creation to its deletion.")
	return nil
}

func (s *story) create(ctx context.Context) (err error) {
	if s.dataPlane, err = s.clusters.DataPlane(ctx, s.clusters.Targets[0], "production", mayWrite); err != nil {
		return err
	}
	if err := s.client.Create(ctx, s.dataPlane); err != nil {
		return err
	}
	return s.show(ctx, metav1.ConditionTrue)
}

func (s *story) changeHost(ctx context.Context) error {
	return s.change(ctx, metav1.ConditionTrue, func(spec *openchoreov1alpha1.DataPlaneSpec) {
		spec.Gateway.PublicVirtualHost = "www.example.com"
	})
}

func (s *story) rotateToNobody(ctx context.Context) error {
	return s.rotateTo(ctx, "nobody", metav1.ConditionFalse)
}

func (s *story) rotate(ctx context.Context) error {
	return s.rotateTo(ctx, "successor", metav1.ConditionTrue, mayWrite)
}

// rotateTo gives the DataPlane the credentials of a new user with the rights in rules.
func (s *story) rotateTo(ctx context.Context, user string, want metav1.ConditionStatus, rules ...rbacv1.PolicyRule) error {
	other, err := s.clusters.DataPlane(ctx, s.clusters.Targets[0], user, rules...)
	if err != nil {
		return err
	}
	return s.change(ctx, want, func(spec *openchoreov1alpha1.DataPlaneSpec) {
		spec.KubernetesCluster.Credentials = other.Spec.KubernetesCluster.Credentials
	})
}

func (s *story) remove(ctx context.Context) error {
	if err := s.client.Delete(ctx, s.dataPlane); err != nil {
		return err
	}
	if err := await.ForDeletion(ctx, s.dataPlanes, s.dataPlane.Name); err != nil {
		return err
	}
	line("DataPlane %s is gone", s.dataPlane.Name)
	return s.showConfigMap(ctx)
}

// change patches the spec, which keeps fields that the SDK doesn't know, and waits for the
// report of the controller.
func (s *story) change(ctx context.Context, want metav1.ConditionStatus, mutate func(*openchoreov1alpha1.DataPlaneSpec)) error {
	before := s.dataPlane.DeepCopy()
	mutate(&s.dataPlane.Spec)
	if err := s.client.Patch(ctx, s.dataPlane, client.MergeFrom(before)); err != nil {
		return err
	}
	return s.show(ctx, want)
}

func (s *story) show(ctx context.Context, want metav1.ConditionStatus) error {
	dp, err := await.For(ctx, s.dataPlanes, s.dataPlane.Name, await.Match(gatewayProvisioned+"="+string(want),
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
	configMap := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: targetNamespace, Name: configMapName(s.dataPlane)}
	err := s.target.Get(ctx, key, configMap)
	if apierrors.IsNotFound(err) {
		line("%s has no config map %s", s.clusters.Targets[0].Name, key)
		return nil
	}
	if err != nil {
		return err
	}
	owners := make([]string, len(configMap.ManagedFields))
	for i, entry := range configMap.ManagedFields {
		owners[i] = entry.Manager + " by " + string(entry.Operation)
	}
	line("%s has config map %s, written by %s", s.clusters.Targets[0].Name, key, strings.Join(owners, ", "))
	line("  publicVirtualHost: %s", configMap.Data["publicVirtualHost"])
	line("  organizationVirtualHost: %s", configMap.Data["organizationVirtualHost"])
	return nil
}

func line(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }
