// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// fixture is shared by all rows of a run. The control plane starts when a row first needs it.
type fixture struct {
	quick     bool
	objects   int
	root, dir string

	plane      *controlplane.ControlPlane
	openchoreo openchoreoclient.Interface
	kubernetes kubernetes.Interface
	version    string // of the API server
}

// server is an API server, with a user who has all rights.
type server struct {
	Host       string
	TLS        rest.TLSClientConfig
	Kubectl    string
	KubectlEnv []string
}

// config returns a config without a rate limit.
func (s *server) config() *rest.Config {
	return &rest.Config{Host: s.Host, TLSClientConfig: s.TLS, QPS: -1}
}

func (f *fixture) server(ctx context.Context) (*server, error) {
	if f.plane == nil {
		if err := f.start(ctx); err != nil {
			return nil, err
		}
	}
	kubectl, err := f.plane.KubectlCommand(ctx)
	if err != nil {
		return nil, err
	}
	config := f.plane.Config()
	return &server{config.Host, config.TLSClientConfig, kubectl.Path, kubectl.Env}, nil
}

func (f *fixture) start(ctx context.Context) (err error) {
	if f.plane, err = controlplane.Start(ctx); err != nil {
		return err
	}
	if err := f.plane.InstallCRDs(ctx, crds.DataPlane()); err != nil {
		return err
	}
	if f.openchoreo, err = openchoreoclient.NewForConfig(f.plane.Config()); err != nil {
		return err
	}
	if f.kubernetes, err = kubernetes.NewForConfig(f.plane.Config()); err != nil {
		return err
	}
	version, err := f.kubernetes.Discovery().ServerVersion()
	if err == nil {
		f.version = version.GitVersion
	}
	return err
}

func (f *fixture) stop() error {
	if f.plane == nil {
		return nil
	}
	return f.plane.Stop()
}

func objectName(i int) string { return fmt.Sprintf("production-dataplane-%05d", i) }

// populate creates DataPlanes of realistic size in a namespace, before a row.
func populate(namespace string, n int) prepareFunc {
	return func(ctx context.Context, f *fixture, _ *input) error {
		if err := f.createNamespace(ctx, namespace); err != nil {
			return err
		}
		return parallel(ctx, 16, n, func(ctx context.Context, i int) error { return f.create(ctx, namespace, objectName(i)) })
	}
}

func (f *fixture) createNamespace(ctx context.Context, name string) error {
	_, err := f.kubernetes.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

// createConfigMaps creates ConfigMaps, each with data from a call of data.
func (f *fixture) createConfigMaps(ctx context.Context, namespace string, n int, data func() string) error {
	if err := f.createNamespace(ctx, namespace); err != nil {
		return err
	}
	return parallel(ctx, 16, n, func(ctx context.Context, i int) error {
		_, err := f.kubernetes.CoreV1().ConfigMaps(namespace).Create(ctx,
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: objectName(i)}, Data: map[string]string{"data": data()}}, metav1.CreateOptions{})
		return err
	})
}

// spread calls f for 0 to n-1 over the given time, each call at a random moment of its share.
func spread(over time.Duration, n int, f func(i int) error) error {
	for i, started := 0, time.Now(); i < n; i++ {
		at := (float64(i) + rand.Float64()) / float64(n)
		time.Sleep(time.Until(started.Add(time.Duration(at * float64(over)))))
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// create creates a realistic object: one field manager writes the spec, another the status.
func (f *fixture) create(ctx context.Context, namespace, name string) error {
	dp := dataplanetest.DataPlane(namespace, name)
	credentials := &dp.Spec.KubernetesCluster.Credentials
	credentials.CACert, credentials.ClientCert, credentials.ClientKey = material(), material(), material()
	client := f.openchoreo.OpenChoreoV1alpha1().DataPlanes(namespace)
	dp, err := client.Create(ctx, dp, metav1.CreateOptions{FieldManager: "platform"})
	if err != nil {
		return err
	}
	dataplanetest.Ready(dp)
	dataplanetest.Connected(dp)
	dataplanetest.Condition(openchoreov1alpha1.DataPlaneConditionGatewayProvisioned, metav1.ConditionTrue)(dp)
	_, err = client.UpdateStatus(ctx, dp, metav1.UpdateOptions{FieldManager: "dataplane-controller"})
	return err
}

// material returns 2 KB of base64, a little more than a certificate or key with RSA-2048, which
// compresses as badly.
func material() string {
	data := make([]byte, 1536)
	_, _ = cryptorand.Read(data) // never fails
	return base64.StdEncoding.EncodeToString(data)
}

// parallel calls f for 0 to n-1, by the given number of workers, until the first error.
func parallel(ctx context.Context, workers, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, workers, n, func(i int) {
		if err := f(ctx, i); err != nil {
			cancel(err)
		}
	})
	return context.Cause(ctx)
}

// users is the number of data planes in rows about connections. Each is a user of the one control plane.
const users = 1000

// addUsers returns data planes, each with a different user's certificate. A second call returns the
// same users with other certificates.
func addUsers(f *fixture, groups ...string) ([]*openchoreov1alpha1.DataPlane, error) {
	var all []*openchoreov1alpha1.DataPlane
	for i := range users {
		name := fmt.Sprintf("dp-%04d", i)
		user, err := f.plane.AddUser(name, groups...)
		if err != nil {
			return nil, err
		}
		dp := dataplanetest.DataPlane(metav1.NamespaceDefault, name)
		dp.ResourceVersion = "1"
		if dp.Spec.KubernetesCluster.Credentials, err = helpers.CredentialsFor(user.Config()); err != nil {
			return nil, err
		}
		all = append(all, dp)
	}
	return all, nil
}
