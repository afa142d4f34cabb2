// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

const dataPlaneName = "production-dataplane"

// story lets several field managers change a DataPlane, so that there is something to watch.
type story struct {
	namespace  string
	dataPlanes openchoreotyped.DataPlaneInterface
	handled    chan struct{} // receives one value when the watcher has handled a change
	out        io.Writer

	generation int64 // of the DataPlane
}

func newStory(clusters *demo.Clusters, out io.Writer) (*story, error) {
	client, err := openchoreoclient.NewForConfig(clusters.Management)
	if err != nil {
		return nil, err
	}
	return &story{
		namespace:  clusters.Namespace,
		dataPlanes: client.OpenChoreoV1alpha1().DataPlanes(clusters.Namespace),
		handled:    make(chan struct{}),
		out:        out,
	}, nil
}

func (s *story) play(ctx context.Context) error {
	steps := []demo.Step{
		{Title: "operator creates a DataPlane", Do: s.create},
		{Title: "three controllers report conditions, each its own", Do: s.observe},
		{Title: "platform-team sets a pull secret: all conditions become stale", Do: s.apply("platform-team", "registry-credentials")},
		{Title: "audit applies the same value, which changes nothing", Do: s.apply("audit", "registry-credentials")},
		{Title: "the controllers observe the new generation", Do: s.observe},
		{Title: "rotator replaces the client certificate and its key", Do: s.rotate},
		{Title: "the gateway fails", Do: s.report("gateway-controller", openchoreov1alpha1.DataPlaneConditionGatewayProvisioned, metav1.ConditionFalse, "NoAddress")},
		{Title: "audit gives up the pull secret, which stays", Do: s.apply("audit", "")},
		{Title: "platform-team gives it up too, which removes it", Do: s.apply("platform-team", "")},
		{Title: "operator deletes the DataPlane", Do: s.delete},
	}
	for i, step := range steps {
		steps[i].Do = func(ctx context.Context) error {
			if err := step.Do(ctx); err != nil {
				return err
			}
			// For people to follow, and because managed fields store whole seconds.
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return demo.Play(ctx, s.out, steps)
}

// changed waits until the watcher has handled the change that a request made.
func (s *story) changed(ctx context.Context, dp *openchoreov1alpha1.DataPlane, err error) error {
	if err != nil {
		return err
	}
	s.generation = dp.Generation
	select {
	case <-s.handled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *story) create(ctx context.Context) error {
	dp, err := s.dataPlanes.Create(ctx, &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Name: dataPlaneName},
		Spec: openchoreov1alpha1.DataPlaneSpec{
			KubernetesCluster: openchoreov1alpha1.KubernetesClusterSpec{
				Name: "production-cluster",
				Credentials: openchoreov1alpha1.APIServerCredentials{
					APIServerURL: "https://k8s-api.example.com:6443",
					CACert:       material("CERTIFICATE"),
					ClientCert:   material("CERTIFICATE"),
					ClientKey:    material("PRIVATE KEY"),
				},
			},
			Registry: openchoreov1alpha1.Registry{Prefix: "docker.io/myorg"},
			Gateway: openchoreov1alpha1.GatewaySpec{
				PublicVirtualHost:       "api.example.com",
				OrganizationVirtualHost: "internal.example.com",
			},
		},
	}, metav1.CreateOptions{FieldManager: "operator"})
	return s.changed(ctx, dp, err)
}

// material returns what looks like a credential. Nothing connects with it.
func material(kind string) string {
	random := make([]byte, 64)
	_, _ = rand.Read(random) // never fails
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: random}))
}

func (s *story) observe(ctx context.Context) error {
	for _, report := range []func(context.Context) error{
		s.report("connectivity-controller", openchoreov1alpha1.DataPlaneConditionConnected, metav1.ConditionTrue, "Answers"),
		s.report("gateway-controller", openchoreov1alpha1.DataPlaneConditionGatewayProvisioned, metav1.ConditionTrue, "Configured"),
		s.report("readiness-controller", openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue, "AllIsWell"),
	} {
		if err := report(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) report(manager, conditionType string, status metav1.ConditionStatus, reason string) func(context.Context) error {
	return func(ctx context.Context) error {
		dp, err := s.dataPlanes.ApplyStatus(ctx, openchoreoapply.DataPlane(dataPlaneName, s.namespace).
			WithStatus(openchoreoapply.DataPlaneStatus().WithConditions(applymetav1.Condition().
				WithType(conditionType).WithStatus(status).WithReason(reason).WithMessage("set by the example").
				WithObservedGeneration(s.generation).WithLastTransitionTime(metav1.Now()))),
			metav1.ApplyOptions{FieldManager: manager})
		return s.changed(ctx, dp, err)
	}
}

// apply makes manager apply a display name, and a pull secret unless secretRef is "".
func (s *story) apply(manager, secretRef string) func(context.Context) error {
	return func(ctx context.Context) error {
		wanted := openchoreoapply.DataPlane(dataPlaneName, s.namespace).
			WithAnnotations(map[string]string{openchoreov1alpha1.AnnotationDisplayName: "Production"})
		if secretRef != "" {
			wanted.WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithSecretRef(secretRef)))
		}
		dp, err := s.dataPlanes.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager})
		return s.changed(ctx, dp, err)
	}
}

func (s *story) rotate(ctx context.Context) error {
	dp, err := s.dataPlanes.Apply(ctx, openchoreoapply.DataPlane(dataPlaneName, s.namespace).
		WithSpec(openchoreoapply.DataPlaneSpec().WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().
			WithCredentials(openchoreoapply.APIServerCredentials().
				WithClientCert(material("CERTIFICATE")).WithClientKey(material("PRIVATE KEY"))))),
		metav1.ApplyOptions{FieldManager: "rotator", Force: true})
	return s.changed(ctx, dp, err)
}

func (s *story) delete(ctx context.Context) error {
	err := s.dataPlanes.Delete(ctx, dataPlaneName, metav1.DeleteOptions{})
	return s.changed(ctx, &openchoreov1alpha1.DataPlane{}, err)
}
