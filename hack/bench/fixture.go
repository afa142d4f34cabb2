// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// fixture is the control plane of a run, which starts when a row needs it.
type fixture struct {
	quick   bool
	root    string
	profile string
	dir     string

	plane      *controlplane.ControlPlane
	openchoreo openchoreoclient.Interface
	kubernetes kubernetes.Interface
	version    string
	filled     int
	namespaces map[string]bool // that rows have made
}

// server returns what children need to be clients.
func (f *fixture) server(ctx context.Context) (*server, error) {
	if f.plane == nil {
		if err := f.startPlane(ctx); err != nil {
			return nil, err
		}
	}
	config := f.plane.Config()
	kubectl, err := f.plane.KubectlCommand(ctx)
	if err != nil {
		return nil, err
	}
	return &server{
		URL: config.Host, CA: config.CAData, Certificate: config.CertData, Key: config.KeyData,
		Kubectl: kubectl.Path, KubectlEnv: kubectl.Env,
	}, nil
}

func (f *fixture) startPlane(ctx context.Context) (err error) {
	// Lists by shard are alpha in this version.
	plane, err := controlplane.Start(ctx, controlplane.WithAPIServerFlags("--feature-gates=ShardedListAndWatch=true"))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, plane.Stop())
		}
	}()
	if err := plane.InstallCRDs(ctx, crds.DataPlane()); err != nil {
		return err
	}
	if f.openchoreo, err = openchoreoclient.NewForConfig(plane.Config()); err != nil {
		return err
	}
	if f.kubernetes, err = kubernetes.NewForConfig(plane.Config()); err != nil {
		return err
	}
	version, err := f.kubernetes.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	f.version, f.plane = version.GitVersion, plane
	return nil
}

func (f *fixture) stop() error {
	if f.plane == nil {
		return nil
	}
	return f.plane.Stop()
}

func (f *fixture) createNamespace(ctx context.Context, name string) error {
	_, err := f.kubernetes.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

func (f *fixture) deleteAll(ctx context.Context, namespace string) error {
	return f.openchoreo.OpenChoreoV1alpha1().DataPlanes(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

const (
	// tenants are the namespaces that the objects are spread over.
	tenants = 100
	// goldLabel is on one object of a hundred.
	goldLabel = "bench.openchoreo.dev/gold"
	// materialSize is that of each of CA, certificate and key in base64: a little more than
	// with RSA-2048.
	materialSize = 2048
	writers      = 16
)

// fill adds objects until there are n.
func (f *fixture) fill(ctx context.Context, n int, progress io.Writer) error {
	if f.filled >= n {
		return nil
	}
	started, before := time.Now(), f.filled
	if before == 0 {
		for i := range tenants {
			if err := f.createNamespace(ctx, tenant(i)); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, writers, n-before, func(i int) {
		if err := f.make(ctx, tenant(before+i), before+i); err != nil {
			cancel(err)
		}
	})
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("make %d DataPlanes: %w", n, err)
	}
	f.filled = n
	fmt.Fprintf(progress, "[made %d in %s] ", n-before, time.Since(started).Round(100*time.Millisecond))
	return nil
}

func objectName(i int) string { return fmt.Sprintf("production-dataplane-%05d", i) }

func tenant(i int) string { return fmt.Sprintf("tenant-%02d", i%tenants) }

var conditionTypes = [...]string{
	openchoreov1alpha1.DataPlaneConditionReady,
	openchoreov1alpha1.DataPlaneConditionConnected,
	openchoreov1alpha1.DataPlaneConditionGatewayProvisioned,
}

// make makes an object as clusters have them: with a spec by one manager and a status by
// another, and with material of its own. It reads no answers, which would take longer.
func (f *fixture) make(ctx context.Context, namespace string, i int) error {
	name := objectName(i)
	labels := map[string]string{"app.kubernetes.io/managed-by": "platform"}
	if i%100 == 0 {
		labels[goldLabel] = "true"
	}
	spec, err := json.Marshal(newMaterial().applyConfiguration(namespace, name).WithLabels(labels))
	if err != nil {
		return err
	}
	status, err := json.Marshal(openchoreoapply.DataPlane(name, namespace).WithStatus(openchoreoapply.DataPlaneStatus().
		WithObservedGeneration(1).
		WithConditions(applyCondition(conditionTypes[0]), applyCondition(conditionTypes[1]), applyCondition(conditionTypes[2]))))
	if err != nil {
		return err
	}
	client := f.openchoreo.OpenChoreoV1alpha1().RESTClient()
	if err := client.Post().Namespace(namespace).Resource(dataPlanes.Resource).Param("fieldManager", manager).
		Body(spec).Do(ctx).Error(); err != nil {
		return err
	}
	return client.Patch(types.MergePatchType).Namespace(namespace).Resource(dataPlanes.Resource).Name(name).SubResource("status").
		Param("fieldManager", "dataplane-controller").Body(status).Do(ctx).Error()
}

// materials are the credentials of an object.
type materials struct{ ca, cert, key string }

func newMaterial() *materials {
	return &materials{randomPEM("CERTIFICATE"), randomPEM("CERTIFICATE"), randomPEM("PRIVATE KEY")}
}

func (m *materials) applyConfiguration(namespace, name string) *openchoreoapply.DataPlaneApplyConfiguration {
	return openchoreoapply.DataPlane(name, namespace).WithSpec(openchoreoapply.DataPlaneSpec().
		WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().
			WithName(name).
			WithCredentials(openchoreoapply.APIServerCredentials().
				WithAPIServerURL("https://" + name + ".example.com:6443").
				WithCACert(m.ca).WithClientCert(m.cert).WithClientKey(m.key))).
		WithRegistry(openchoreoapply.Registry().WithPrefix("docker.io/myorg").WithSecretRef("registry-credentials")).
		WithGateway(openchoreoapply.GatewaySpec().
			WithPublicVirtualHost(name + ".api.example.com").WithOrganizationVirtualHost(name + ".internal.example.com")))
}

func applyCondition(conditionType string) *applymetav1.ConditionApplyConfiguration {
	return applymetav1.Condition().WithType(conditionType).WithStatus(metav1.ConditionTrue).
		WithReason("Reconciled").WithMessage(conditionType + " as of the last look at the cluster").
		WithObservedGeneration(1).WithLastTransitionTime(metav1.Unix(1_700_000_000, 0))
}

// randomPEM returns base64 of PEM of random bytes, which compress as badly as keys do.
func randomPEM(kind string) string {
	frame := len("-----BEGIN -----\n-----END -----\n") + 2*len(kind)
	der := make([]byte, (materialSize*3/4-frame)*48/65-3) // a line of PEM is 65 bytes for 48
	_, _ = rand.Read(der)                                 // never fails
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// server is an API server, and a user of it who may do anything.
type server struct {
	URL         string   `json:"url"`
	CA          []byte   `json:"ca"`
	Certificate []byte   `json:"certificate"`
	Key         []byte   `json:"key"`
	Kubectl     string   `json:"kubectl"`
	KubectlEnv  []string `json:"kubectlEnv"`
}

// config returns that of a client without any limit on requests per second.
func (s *server) config() *rest.Config {
	return &rest.Config{
		Host: s.URL, QPS: -1, UserAgent: "bench",
		TLSClientConfig: rest.TLSClientConfig{CAData: s.CA, CertData: s.Certificate, KeyData: s.Key},
	}
}
