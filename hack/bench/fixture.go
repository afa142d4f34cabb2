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

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// fixture is shared by all rows of a run. The control plane starts when a row first needs it.
type fixture struct {
	input input // of all rows

	plane      *controlplane.ControlPlane
	openchoreo openchoreoclient.Interface
	kubernetes kubernetes.Interface
	version    string // of the API server
}

// server is the part of a rest.Config that JSON can hold. If it is the control plane's, its user has all
// rights, and it has the path and the environment of kubectl.
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

// start starts the control plane.
func (f *fixture) start(ctx context.Context) (err error) {
	if f.plane, err = controlplane.Start(ctx); err != nil {
		return err
	}
	f.openchoreo = openchoreoclient.NewForConfigOrDie(f.plane.Config())
	f.kubernetes = kubernetes.NewForConfigOrDie(f.plane.Config())
	version, err := f.kubernetes.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	f.version = version.GitVersion
	kubectl, err := f.plane.KubectlCommand(ctx)
	if err != nil {
		return err
	}
	admin := f.plane.Config()
	f.input.Server = &server{admin.Host, admin.TLSClientConfig, kubectl.Path, kubectl.Env}
	return f.plane.InstallCRDs(ctx, crds.DataPlane())
}

func objectName(i int) string { return fmt.Sprintf("production-dataplane-%05d", i) }

// fill makes a namespace, and n objects in it with create.
func (f *fixture) fill(ctx context.Context, namespace string, n int, create func(ctx context.Context, namespace, name string) error) error {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := f.kubernetes.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	return parallel(ctx, 16, n, func(ctx context.Context, i int) error { return create(ctx, namespace, objectName(i)) })
}

// fillWithDataPlanes prepares a row with DataPlanes of realistic size.
func fillWithDataPlanes(namespace string, n int) prepareFunc {
	return func(ctx context.Context, f *fixture, _ *input) error {
		return f.fill(ctx, namespace, n, f.createDataPlane)
	}
}

// fillWithConfigMaps creates ConfigMaps, each with data from a call of data.
func (f *fixture) fillWithConfigMaps(ctx context.Context, namespace string, n int, data func() string) error {
	return f.fill(ctx, namespace, n, func(ctx context.Context, namespace, name string) error {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"data": data()}}
		_, err := f.kubernetes.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{})
		return err
	})
}

// spread calls write for 0 to n-1 over the given time, each call at a random moment of its share. It returns
// the times of the calls.
func spread(over time.Duration, n int, write func(i int) error) (sent []time.Time, err error) {
	for i, started := 0, time.Now(); i < n && err == nil; i++ {
		at := (float64(i) + rand.Float64()) / float64(n)
		time.Sleep(time.Until(started.Add(time.Duration(at * float64(over)))))
		sent = append(sent, time.Now())
		err = write(i)
	}
	return sent, err
}

// createDataPlane creates a realistic object: one field manager writes the spec, another the status.
func (f *fixture) createDataPlane(ctx context.Context, namespace, name string) error {
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

// parallel calls f for 0 to n-1, by the given number of workers. The first error ends the ctx of all calls.
func parallel(ctx context.Context, workers, n int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}

// users is the number of data planes in rows about connections. Each is a user of the one control plane.
const users = 1000

// newDataPlane returns the DataPlane of a number, as an informer holds it.
func newDataPlane(i int, edits ...func(*openchoreov1alpha1.DataPlane)) *openchoreov1alpha1.DataPlane {
	dp := dataplanetest.DataPlane(metav1.NamespaceDefault, fmt.Sprintf("dp-%04d", i), edits...)
	dp.ResourceVersion = "1"
	return dp
}

// addUsers returns data planes, each with a different user's certificate. A second call returns the
// same users with other certificates.
func addUsers(f *fixture, groups ...string) ([]*openchoreov1alpha1.DataPlane, error) {
	var all []*openchoreov1alpha1.DataPlane
	for i := range users {
		dp := newDataPlane(i)
		user, err := f.plane.AddUser(dp.Name, groups...)
		if err != nil {
			return nil, err
		}
		dataplanetest.WithCredentials(user.Config())(dp)
		all = append(all, dp)
	}
	return all, nil
}
