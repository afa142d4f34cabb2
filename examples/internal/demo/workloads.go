// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// mayWatch is a JSON patch that adds a right to the role of production's user.
const mayWatch = `[{"op": "add", "path": "/rules/-", "value": {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]}}]`

// ChangesDeployments gives the user of production the right to watch Deployments after three seconds, and then creates, updates
// and deletes a Deployment, again and again.
func ChangesDeployments(ctx context.Context, p *Provided) error {
	fmt.Fprintf(os.Stderr, "for 3 seconds, DataPlane %s lacks the right to list Deployments; then, every 3 seconds, a Deployment is changed\n"+
		"ClusterDataPlane %s is the same cluster behind a cluster gateway, which delays its lines by up to 6 seconds\n", production, clusterWide)
	deployments := p.Core.AppsV1().Deployments(metav1.NamespaceDefault)
	steps := []func() error{
		func() error { return CreateDeployment(ctx, p.Core, "shop") },
		func() error {
			_, err := deployments.Patch(ctx, "shop", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{})
			return err
		},
		func() error { return deployments.Delete(ctx, "shop", metav1.DeleteOptions{}) },
	}
	step := -1
	return wait.PollUntilContextCancel(ctx, 3*time.Second, false, func(context.Context) (bool, error) {
		step++
		if step == 0 {
			_, err := p.Core.RbacV1().ClusterRoles().Patch(ctx, production, types.JSONPatchType, []byte(mayWatch), metav1.PatchOptions{})
			return false, err
		}
		return false, steps[(step-1)%len(steps)]()
	})
}

// CreateDeployment creates a Deployment in the namespace default.
func CreateDeployment(ctx context.Context, client kubernetes.Interface, name string) error {
	labels := map[string]string{"app": name}
	_, err := client.AppsV1().Deployments(metav1.NamespaceDefault).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: "registry.k8s.io/pause:3.10"}}},
			},
		},
	}, metav1.CreateOptions{})
	return err
}
