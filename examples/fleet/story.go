// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

const (
	targets         = 2
	planesPerTarget = 3
)

// stage is the setting of a story.
type stage struct {
	*demo.Clusters
	*board
	dataPlanes openchoreotyped.DataPlaneInterface
}

// newStage creates DataPlanes, several for each target.
func newStage(ctx context.Context, clusters *demo.Clusters) (*stage, error) {
	client, err := openchoreoclient.NewForConfig(clusters.Management)
	if err != nil {
		return nil, err
	}
	s := &stage{Clusters: clusters, board: newBoard(os.Stdout), dataPlanes: client.OpenChoreoV1alpha1().DataPlanes(clusters.Namespace)}
	fmt.Printf("\n# %d DataPlanes, %d for each of %d clusters; each counts all Deployments of its cluster\n", targets*planesPerTarget, planesPerTarget, targets)
	for _, target := range clusters.Targets {
		for i := range planesPerTarget {
			dp, err := clusters.DataPlane(ctx, target, planeName(target, i), mayCount)
			if err != nil {
				return nil, err
			}
			if _, err := s.dataPlanes.Create(ctx, dp, metav1.CreateOptions{}); err != nil {
				return nil, err
			}
		}
	}
	fmt.Printf("while this runs, look at them in another terminal:\n  kubectl --kubeconfig %s get dataplanes,leases\n\n", clusters.Kubeconfig)
	return s, nil
}

var mayCount = rbacv1.PolicyRule{APIGroups: []string{appsv1.GroupName}, Resources: []string{"deployments"}, Verbs: []string{"list", "watch"}}

func planeName(target *demo.Target, i int) string { return fmt.Sprintf("%s-%c", target.Name, 'a'+i) }

// story shows one Fleet.
func story(ctx context.Context, clusters *demo.Clusters, metricsAddress string) error {
	s, err := newStage(ctx, clusters)
	if err != nil {
		return err
	}
	c, err := newCounter(ctx, clusters.Management, clusters.Namespace, nil, s.report)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	counting, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		err := c.run(counting, metricsAddress)
		cancel(err) // no more events
		ended <- err
	}()
	if err = s.play(ctx); err == nil {
		fmt.Print("\n# the Fleet's own status\n\n")
		printStatus(s.out, c.Status())
		fmt.Print("\n# the Fleet ends\n\n")
	}
	stop()
	if countErr := <-ended; countErr != nil {
		return countErr
	}
	return err
}

func (s *stage) play(ctx context.Context) error {
	first, second := s.Targets[0], s.Targets[1]
	const planes = targets * planesPerTarget
	var steps []demo.Step
	for _, step := range []struct {
		title string
		do    func() error
		want  sum
	}{
		{
			"the Fleet starts a run for each data plane",
			func() error { return nil },
			sum{0, planes, planes},
		},
		{
			"2 Deployments are created in target-1, and 1 in target-2",
			func() error {
				return errors.Join(createDeployment(ctx, first, "shop"), createDeployment(ctx, first, "cart"), createDeployment(ctx, second, "mail"))
			},
			sum{planesPerTarget * (2 + 1), planes, planes},
		},
		{
			"1 Deployment of target-1 is deleted",
			func() error { return deleteDeployment(ctx, first, "cart") },
			sum{planesPerTarget * (1 + 1), planes, planes},
		},
		{
			"target-1-b gets other credentials, and its run goes on; then 1 Deployment is created in target-1",
			func() error {
				if err := s.rotate(ctx, first, planeName(first, 1)); err != nil {
					return err
				}
				return createDeployment(ctx, first, "pay")
			},
			sum{planesPerTarget * (2 + 1), planes, planes},
		},
		{
			"target-2 stops; then another Deployment is created in target-1",
			func() error {
				if err := second.APIServer.Stop(); err != nil {
					return err
				}
				return createDeployment(ctx, first, "cart")
			},
			sum{planesPerTarget * 3, planesPerTarget, planes},
		},
		{
			"target-2 starts again",
			func() error { return second.APIServer.Start(ctx) },
			sum{planesPerTarget * (3 + 1), planes, planes},
		},
		{
			"a DataPlane of target-1 is deleted",
			func() error { return s.dataPlanes.Delete(ctx, planeName(first, 0), metav1.DeleteOptions{}) },
			sum{planesPerTarget*(3+1) - 3, planes - 1, planes - 1},
		},
	} {
		steps = append(steps, demo.Step{Title: step.title, Do: func(ctx context.Context) error {
			err := step.do()
			if err == nil {
				err = s.wait(ctx, step.want.String(), func() bool { return s.sum() == step.want })
			}
			if err == nil {
				s.table()
			}
			return err
		}})
	}
	return demo.Play(ctx, os.Stdout, steps)
}

// rotate gives the user of a data plane another certificate, and waits until its run has it.
func (s *stage) rotate(ctx context.Context, target *demo.Target, name string) error {
	dp, err := s.DataPlane(ctx, target, name, mayCount)
	if err != nil {
		return err
	}
	creds := dp.Spec.KubernetesCluster.Credentials
	if _, err := s.dataPlanes.Apply(ctx, openchoreoapply.DataPlane(name, s.Namespace).
		WithSpec(openchoreoapply.DataPlaneSpec().WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().
			WithCredentials(openchoreoapply.APIServerCredentials().
				WithClientCert(creds.ClientCert).WithClientKey(creds.ClientKey)))),
		metav1.ApplyOptions{FieldManager: "rotator", Force: true}); err != nil {
		return err
	}
	return s.wait(ctx, "a rotation", func() bool { return s.rotations == 1 })
}

func createDeployment(ctx context.Context, target *demo.Target, name string) error {
	client, err := kubernetes.NewForConfig(target.Config())
	if err != nil {
		return err
	}
	labels := map[string]string{"app": name}
	_, err = client.AppsV1().Deployments(metav1.NamespaceDefault).Create(ctx, &appsv1.Deployment{
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

func deleteDeployment(ctx context.Context, target *demo.Target, name string) error {
	client, err := kubernetes.NewForConfig(target.Config())
	if err != nil {
		return err
	}
	return client.AppsV1().Deployments(metav1.NamespaceDefault).Delete(ctx, name, metav1.DeleteOptions{})
}
