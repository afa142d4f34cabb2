// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func (s *space) remoteOf(t *testing.T, user *controlplane.User, opts ...helpers.Option) *helpers.Remote {
	t.Helper()
	r, err := helpers.NewRemote(s.dataPlaneOf(t, user), opts...)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func addUser(t *testing.T, p *plane, name string, groups ...string) *controlplane.User {
	t.Helper()
	user, err := p.AddUser(name, groups...)
	require.NoError(t, err)
	return user
}

// allow lets a user read and watch the config maps of the namespace.
func (s *space) allow(t *testing.T, user *controlplane.User) {
	t.Helper()
	s.grant(t, user.Name, "", "configmaps", "list", "watch")
	target, err := kubernetes.NewForConfig(user.Config())
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) { // the API server takes a moment to notice
		_, err := target.CoreV1().ConfigMaps(s.namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
	}, eventually, tick)
}

func whoAmI(ctx context.Context, target kubernetes.Interface) (string, error) {
	review, err := target.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return review.Status.UserInfo.Username, nil
}

// Credentials are rotated from one user to another, with other rights, while requests
// and a watch run through a ClientCache that an informer keeps current.
func TestRotationWhileRequestsRun(t *testing.T) {
	s := shared.space(t)
	reader, stranger := addUser(t, shared, "reader-of-"+s.namespace), addUser(t, shared, "stranger-to-"+s.namespace)
	s.allow(t, reader)
	s.dataPlaneOf(t, reader)

	clients := helpers.NewClientCache(func(r *helpers.Remote) (kubernetes.Interface, error) {
		return kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
	}, helpers.WithUserAgent("integration"), helpers.WithRateLimit(-1, 0))
	defer clients.Close()
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(s.openchoreo, 0, openchoreoinformers.WithNamespace(s.namespace))
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
	lister := dataPlanes.Lister().DataPlanes(s.namespace)
	_, err := dataPlanes.Informer().AddEventHandler(clients.Handler())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer factory.Shutdown()
	defer cancel()
	factory.Start(ctx.Done())
	for _, synced := range factory.WaitForCacheSync(ctx.Done()) {
		require.True(t, synced)
	}
	current := func() (kubernetes.Interface, error) {
		dp, err := lister.Get("prod")
		if err != nil {
			return nil, err
		}
		return clients.Get(dp)
	}

	target, err := current()
	require.NoError(t, err)
	watcher, err := target.CoreV1().ConfigMaps(s.namespace).Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	defer watcher.Stop()

	var mu sync.Mutex
	seen := map[string]int{}
	isStranger := make(chan struct{})
	var workers sync.WaitGroup
	for range 8 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for ctx.Err() == nil {
				target, err := current()
				if !assert.NoError(t, err) {
					return
				}
				name, err := whoAmI(ctx, target)
				mu.Lock()
				switch {
				case err == nil:
					seen[name]++
					if name == stranger.Name && seen[name] == 50 {
						close(isStranger)
					}
				case ctx.Err() == nil:
					// Got before the rotation and used after it.
					assert.ErrorIs(t, err, helpers.ErrRemoteClosed)
				}
				mu.Unlock()
			}
		}()
	}
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return seen[reader.Name] >= 50 }, eventually, tick)

	rotated := s.get(t, "prod")
	rotated.Spec.KubernetesCluster.Credentials = credentialsOf(stranger)
	_, err = s.typed.Update(t.Context(), rotated, metav1.UpdateOptions{})
	require.NoError(t, err)
	select {
	case <-isStranger:
	case <-time.After(eventually):
		t.Fatal("the new user was not seen")
	}
	cancel()
	workers.Wait()
	assert.Len(t, seen, 2, "%v", seen)

	target, err = current()
	require.NoError(t, err)
	_, err = target.CoreV1().ConfigMaps(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	assert.Equal(t, helpers.Forbidden, helpers.Classify(err))
	for range watcher.ResultChan() { // the watch with the old credentials has ended
	}
}

func TestClientsOfDeletedDataPlanesEnd(t *testing.T) {
	s := shared.space(t)
	s.dataPlaneOf(t, addUser(t, shared, "agent"))
	remotes := helpers.NewClientCache(func(r *helpers.Remote) (*helpers.Remote, error) { return r, nil })
	defer remotes.Close()
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(s.openchoreo, 0, openchoreoinformers.WithNamespace(s.namespace))
	_, err := factory.OpenChoreo().V1alpha1().DataPlanes().Informer().AddEventHandler(remotes.Handler())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer factory.Shutdown()
	defer cancel()
	factory.Start(ctx.Done())
	for _, synced := range factory.WaitForCacheSync(ctx.Done()) {
		require.True(t, synced)
	}
	r, err := remotes.Get(s.get(t, "prod"))
	require.NoError(t, err)
	require.NoError(t, r.Probe(t.Context()))
	require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	select {
	case <-r.Done():
	case <-time.After(eventually):
		t.Fatal("the connection has not ended")
	}
	require.Eventually(t, func() bool { return remotes.Len() == 0 }, eventually, tick)
}

func TestProbeFollowsTheAPIServer(t *testing.T) {
	t.Parallel()
	p := ownPlane(t, crds.DataPlane())
	s := p.space(t)
	r := s.remoteOf(t, addUser(t, p, "agent"))
	require.NoError(t, r.Probe(t.Context()))
	require.NoError(t, p.KillAPIServer())
	err := r.Probe(t.Context())
	assert.Equal(t, helpers.Refused, helpers.Classify(err), "%v", err)
	require.NoError(t, p.StartAPIServer(t.Context()))
	require.Eventually(t, func() bool { return r.Probe(t.Context()) == nil }, eventually, tick)
	require.NoError(t, p.KillEtcd())
	require.Eventually(t, func() bool {
		err := r.Probe(t.Context())
		return helpers.Classify(err) == helpers.NotReady && err != nil
	}, eventually, tick, "without its etcd, the API server answers that it is not ready")
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

// What runs a command in a container dials on its own, from Config. No node runs the pod
// here, which only an API server can say that has taken the request for the admin's.
func TestExecReachesTheAPIServerThroughConfig(t *testing.T) {
	s := shared.space(t)
	pod, err := s.kubernetes.CoreV1().Pods(s.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.com/app"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	r := s.remoteOf(t, addUser(t, shared, "root", "system:masters"))
	target, err := kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
	require.NoError(t, err)
	url := target.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "main", Command: []string{"true"}, Stdout: true}, scheme.ParameterCodec).URL()

	for name, newExecutor := range map[string]func(*rest.Config) (remotecommand.Executor, error){
		"SPDY": func(c *rest.Config) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(c, "POST", url)
		},
		"WebSocket": func(c *rest.Config) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(c, "GET", url.String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			executor, err := newExecutor(r.Config())
			require.NoError(t, err)
			err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
			require.ErrorContains(t, err, "does not have a host assigned")
		})
	}
}

func TestControllerRuntimeTakesTheHTTPClient(t *testing.T) {
	s := shared.space(t)
	r := s.remoteOf(t, addUser(t, shared, "root", "system:masters"))
	target, err := client.New(r.Config(), client.Options{HTTPClient: r.HTTPClient()})
	require.NoError(t, err)
	require.NoError(t, target.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "made"}}))
	r.Close()
	err = target.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "made"}, &corev1.ConfigMap{})
	require.ErrorIs(t, err, helpers.ErrRemoteClosed)
}

func TestCloseEndsWatchesOfARealAPIServer(t *testing.T) {
	s := shared.space(t)
	r := s.remoteOf(t, addUser(t, shared, "root", "system:masters"), helpers.WithRequestTimeout(time.Second))
	target, err := kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
	require.NoError(t, err)
	watcher, err := target.CoreV1().ConfigMaps(s.namespace).Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer watcher.Stop()
	select {
	case event := <-watcher.ResultChan():
		t.Fatalf("the watch has ended by the timeout of other requests: %v", event)
	case <-time.After(1500 * time.Millisecond):
	}
	r.Close()
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
