// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// clusterOf connects to the control plane as a user, through a DataPlane in the namespace.
func (s *space) clusterOf(t *testing.T, user *controlplane.User, options remote.Options) *remote.Cluster {
	t.Helper()
	c, err := remote.NewCluster(s.dataPlaneOf(t, user), options)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func newClient(c *remote.Cluster) (kubernetes.Interface, error) {
	return kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
}

func addUser(t *testing.T, p *plane, name string, groups ...string) *controlplane.User {
	t.Helper()
	user, err := p.AddUser(name, groups...)
	require.NoError(t, err)
	return user
}

func whoAmI(ctx context.Context, target kubernetes.Interface) (string, error) {
	review, err := target.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return review.Status.UserInfo.Username, nil
}

func TestClientsOfDeletedDataPlanesEnd(t *testing.T) {
	s := shared.space(t)
	s.dataPlaneOf(t, addUser(t, shared, "agent"))
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(s.openchoreo, 0, openchoreoinformers.WithNamespace(s.namespace))
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
	clusters := remote.NewCache(remote.FromListers(dataPlanes.Lister(), nil),
		func(c *remote.Cluster) (*remote.Cluster, error) { return c, nil }, remote.Options{})
	defer clusters.Close()
	_, err := dataPlanes.Informer().AddEventHandler(clusters.Handler())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer factory.Shutdown()
	defer cancel()
	factory.Start(ctx.Done())
	for _, synced := range factory.WaitForCacheSync(ctx.Done()) {
		require.True(t, synced)
	}
	key := types.NamespacedName{Namespace: s.namespace, Name: "prod"}
	c, err := clusters.Get(key)
	require.NoError(t, err)
	require.NoError(t, c.Probe(t.Context()))
	require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	select {
	case <-c.Done():
	case <-time.After(eventually):
		t.Fatal("the connection has not ended")
	}
	require.Eventually(t, func() bool { return clusters.Len() == 0 }, eventually, tick)
	_, err = clusters.Get(key)
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

func testProbeFollowsTheAPIServer(t *testing.T, p *plane) {
	s := p.space(t)
	c := s.clusterOf(t, addUser(t, p, "agent"), remote.Options{})
	require.NoError(t, c.Probe(t.Context()))
	require.NoError(t, p.APIServer.Kill())
	err := c.Probe(t.Context())
	assert.Equal(t, remote.ReachabilityRefused, remote.Classify(err), "%v", err)
	require.NoError(t, p.APIServer.Start(t.Context()))
	require.Eventually(t, func() bool { return c.Probe(t.Context()) == nil }, eventually, tick)
	require.NoError(t, p.Etcd.Kill())
	require.Eventually(t, func() bool {
		err := c.Probe(t.Context())
		return remote.Classify(err) == remote.ReachabilityNotReady && err != nil
	}, eventually, tick, "without its etcd, the API server answers that it is not ready")
}

// The API server answers with an ordinary 401. A Cluster explains it to clients of any content type.
func TestA401ToAnInvalidCertificateNamesTheReason(t *testing.T) {
	s := shared.space(t)
	dp := s.dataPlaneOf(t, addUser(t, shared, "agent"))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(-time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	dp.Spec.KubernetesCluster.Credentials.ClientCert = encode("CERTIFICATE", certificate)
	dp.Spec.KubernetesCluster.Credentials.ClientKey = encode("PRIVATE KEY", der)
	c, err := remote.NewCluster(dp, remote.Options{})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	want := "data plane " + c.Key().String() + ": client certificate expired at " + template.NotAfter.UTC().Format(time.RFC3339)
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		config := c.Config()
		config.ContentType = contentType
		target, err := kubernetes.NewForConfigAndClient(config, c.HTTPClient())
		require.NoError(t, err)
		_, err = whoAmI(t.Context(), target)
		require.True(t, apierrors.IsUnauthorized(err), "%v", err)
		assert.Equal(t, want+": Unauthorized", err.Error())
		assert.Equal(t, remote.ReachabilityCertificateExpired, remote.Classify(err))
	}
	err = c.Probe(t.Context())
	assert.Equal(t, remote.ReachabilityCertificateExpired, remote.Classify(err))
	assert.ErrorContains(t, err, want)
}

func TestPagesOfAnAPIServerPass(t *testing.T) {
	c := shared.space(t).clusterOf(t, addUser(t, shared, "admin", "system:masters"), remote.Options{})
	target, err := newClient(c)
	require.NoError(t, err)
	page, err := target.CoreV1().RESTClient().Get().AbsPath("/debug/pprof/").DoRaw(t.Context())
	require.NoError(t, err)
	assert.Contains(t, string(page), "<html>")
}

func TestKubectlTakesTheKubeconfigOfADataPlane(t *testing.T) {
	s := shared.space(t)
	config, err := helpers.KubeconfigFor(s.dataPlaneOf(t, addUser(t, shared, "dataplane-agent")))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, file))
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	out, _, err := shared.Kubectl(t.Context(), "--kubeconfig", file, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
	require.NoError(t, err)
	assert.Equal(t, "dataplane-agent", out)
}

// Code that runs a command in a container dials by itself, from Config. The error that no node runs the
// pod shows that the API server accepted the admin's credentials.
func TestExecReachesTheAPIServerThroughConfig(t *testing.T) {
	s := shared.space(t)
	pod, err := s.kubernetes.CoreV1().Pods(s.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.com/app"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	c := s.clusterOf(t, addUser(t, shared, "root", "system:masters"), remote.Options{})
	target, err := newClient(c)
	require.NoError(t, err)
	url := target.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "main", Command: []string{"true"}, Stdout: true}, scheme.ParameterCodec).URL()

	for name, newExecutor := range map[string]func(*rest.Config) (remotecommand.Executor, error){
		"SPDY": func(config *rest.Config) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(config, "POST", url)
		},
		"WebSocket": func(config *rest.Config) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(config, "GET", url.String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			executor, err := newExecutor(c.Config())
			require.NoError(t, err)
			err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
			require.ErrorContains(t, err, "does not have a host assigned")
		})
	}
}

func TestControllerRuntimeTakesTheHTTPClient(t *testing.T) {
	s := shared.space(t)
	c := s.clusterOf(t, addUser(t, shared, "root", "system:masters"), remote.Options{})
	target, err := client.New(c.Config(), client.Options{HTTPClient: c.HTTPClient()})
	require.NoError(t, err)
	require.NoError(t, target.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "made"}}))
	c.Close()
	err = target.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "made"}, &corev1.ConfigMap{})
	require.ErrorIs(t, err, remote.ErrClosed)
}

func TestCloseEndsWatchesOfARealAPIServer(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	c := s.clusterOf(t, addUser(t, shared, "root", "system:masters"), remote.Options{StallTimeout: time.Second, HeaderTimeout: time.Second})
	target, err := newClient(c)
	require.NoError(t, err)
	watcher, err := target.CoreV1().ConfigMaps(s.namespace).Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer watcher.Stop()
	select {
	case event := <-watcher.ResultChan():
		t.Fatalf("the watch has ended by the timeout of other requests: %v", event)
	case <-time.After(1500 * time.Millisecond):
	}
	c.Close()
	for range watcher.ResultChan() {
	}
}

func credentialsOf(user *controlplane.User) openchoreov1alpha1.APIServerCredentials {
	return openchoreov1alpha1.APIServerCredentials{
		APIServerURL: user.Server,
		CACert:       base64.StdEncoding.EncodeToString(user.CA),
		ClientCert:   base64.StdEncoding.EncodeToString(user.Certificate),
		ClientKey:    base64.StdEncoding.EncodeToString(user.Key),
	}
}
