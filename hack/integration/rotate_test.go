// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/cert"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// counted counts the lists and watches of a connection.
type counted struct{ lists, watches atomic.Int64 }

func (c *counted) count(config *rest.Config) {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripperFunc(func(req *http.Request) (*http.Response, error) {
			switch {
			case req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, "/configmaps"):
			case req.URL.Query().Get("watch") != "":
				c.watches.Add(1)
			default:
				c.lists.Add(1)
			}
			return next.RoundTrip(req)
		})
	})
}

type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// fakeKubelet creates a pod whose log and streams come from a server of the test. The API server
// forwards requests to it.
func (s *space) fakeKubelet(t *testing.T) {
	t.Helper()
	kubelet := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/exec/") {
			_, _ = io.WriteString(w, "hello\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}))
	t.Cleanup(func() { kubelet.CloseClientConnections(); kubelet.Close() })
	host, port, err := net.SplitHostPort(kubelet.Listener.Addr().String())
	require.NoError(t, err)
	number, err := strconv.ParseInt(port, 10, 32)
	require.NoError(t, err)
	node, err := s.kubernetes.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-of-" + s.namespace},
		Status: corev1.NodeStatus{
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(number)}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = s.kubernetes.CoreV1().Pods(s.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod"},
		Spec: corev1.PodSpec{
			NodeName: node.Name, Containers: []corev1.Container{{Name: "main", Image: "example.com/app"}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// worker returns a user who may read config maps, read logs and exec in the namespace.
func (s *space) worker(t *testing.T, name string, more ...rbacv1.PolicyRule) *controlplane.User {
	t.Helper()
	user := addUser(t, s.plane, name+"-of-"+s.namespace)
	meta := metav1.ObjectMeta{Name: user.Name}
	_, err := s.kubernetes.RbacV1().Roles(s.namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: meta,
		Rules: append(more,
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list", "watch"}},
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}}),
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = s.kubernetes.RbacV1().RoleBindings(s.namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user.Name}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	target, err := kubernetes.NewForConfig(user.Config())
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) { // the API server takes a moment to notice
		_, err := target.CoreV1().ConfigMaps(s.namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
	}, eventually, tick)
	return user
}

// A rotation replaces a user by another with other rights, while an informer, a loop of unary
// requests, a followed log and, over HTTP/1.1, a stream to a container run.
func TestRotationUnderEverythingThatRuns(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	for name, p := range map[string]*plane{"shared API server": shared, "another API server": ownPlane(t, crds.DataPlane())} {
		for protocol, nextProtos := range map[string][]string{"HTTP/2": nil, "HTTP/1.1": {"http/1.1"}} {
			t.Run(name+", "+protocol, func(t *testing.T) {
				testRotation(t, p.space(t), nextProtos)
			})
		}
	}
}

func testRotation(t *testing.T, s *space, nextProtos []string) {
	s.fakeKubelet(t)
	before := s.worker(t, "before")
	after := s.worker(t, "after", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list"}})
	dp := s.dataPlaneOf(t, before)

	var requests counted
	const grace = 4 * time.Second
	c, err := remote.NewCluster(dp, remote.Options{
		Grace: grace,
		ConfigFor: func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
			config, err := helpers.RESTConfigFor(dp)
			if err != nil {
				return nil, err
			}
			config.QPS, config.NextProtos = -1, nextProtos
			requests.count(config)
			return config, nil
		},
	})
	require.NoError(t, err)
	defer c.Close()
	target, err := newClient(c)
	require.NoError(t, err)

	// Config maps are created all the time, and the informer must see each exactly once.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var added sync.Map
	informer := informers.NewSharedInformerFactoryWithOptions(target, 0, informers.WithNamespace(s.namespace)).Core().V1().ConfigMaps().Informer()
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		_, twice := added.LoadOrStore(obj.(*corev1.ConfigMap).Name, true)
		assert.False(t, twice, "added twice: %s", obj.(*corev1.ConfigMap).Name)
	}})
	require.NoError(t, err)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer stop()
	work := func(f func()) { workers.Add(1); go func() { defer workers.Done(); f() }() }
	work(func() { informer.Run(ctx.Done()) })
	require.True(t, cache.WaitForCacheSync(ctx.Done(), informer.HasSynced))
	var written atomic.Int64
	work(func() {
		for ctx.Err() == nil {
			_, err := s.kubernetes.CoreV1().ConfigMaps(s.namespace).Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("made-%d", written.Load())},
			}, metav1.CreateOptions{})
			if err == nil {
				written.Add(1)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	var answered atomic.Int64
	work(func() {
		for ctx.Err() == nil {
			if _, err := whoAmI(context.WithoutCancel(ctx), target); !assert.NoError(t, err, "a unary request") {
				return
			}
			answered.Add(1)
		}
	})

	log, err := target.CoreV1().Pods(s.namespace).GetLogs("pod", &corev1.PodLogOptions{Container: "main", Follow: true}).Stream(t.Context())
	require.NoError(t, err)
	defer log.Close()
	lines := bufio.NewReader(log)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "hello\n", line)
	ends := make(chan error, 2)
	work(func() { _, err := lines.ReadString('\n'); ends <- err })
	streams := 1
	if nextProtos != nil { // an upgrade needs HTTP/1.1
		streams++
		stream := openExec(t, c, s.namespace)
		defer stream.Close()
		reader := bufio.NewReader(stream)
		_, err = io.WriteString(stream, "echo\n")
		require.NoError(t, err)
		line, err := reader.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "echo\n", line)
		work(func() { _, err := reader.ReadString('\n'); ends <- err })
	}

	// As soon as Update returns, requests have the rights of the second user.
	_, err = target.CoreV1().Secrets(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	lists, watches := requests.lists.Load(), requests.watches.Load()
	rotated := dp.DeepCopy()
	rotated.Spec.KubernetesCluster.Credentials = credentialsOf(after)
	began := time.Now()
	require.NoError(t, c.Update(rotated))
	_, err = target.CoreV1().Secrets(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	name, err := whoAmI(t.Context(), target)
	require.NoError(t, err)
	assert.Equal(t, after.Name, name)

	for range streams {
		select {
		case err := <-ends:
			require.ErrorIs(t, err, remote.ErrRotated)
			assert.Greater(t, time.Since(began), grace-time.Second, "streams may last for the grace")
		case <-time.After(eventually):
			t.Fatal("a stream with the old credentials has not ended")
		}
	}
	require.Eventually(t, func() bool { return requests.watches.Load() > watches }, eventually, tick)
	until := answered.Load() + 20
	require.Eventually(t, func() bool { return answered.Load() > until || t.Failed() }, eventually, tick)
	assert.Equal(t, lists, requests.lists.Load(), "nothing is listed again")

	// Credentials that the API server does not know, and back.
	unknown := dp.DeepCopy()
	unknown.Spec.KubernetesCluster.Credentials.ClientCert, unknown.Spec.KubernetesCluster.Credentials.ClientKey = strangerCredentials(t)
	stop() // stops the loops, which would fail now
	workers.Wait()
	require.NoError(t, c.Update(unknown))
	_, err = whoAmI(t.Context(), target)
	assert.Equal(t, remote.ReachabilityUnauthorized, remote.Classify(err), "%v", err)
	assert.Equal(t, remote.ReachabilityUnauthorized, remote.Classify(c.Probe(t.Context())))
	require.NoError(t, c.Update(dp))
	name, err = whoAmI(t.Context(), target)
	require.NoError(t, err)
	assert.Equal(t, before.Name, name)
	require.NoError(t, c.Probe(t.Context()))

	for i := range written.Load() - 20 { // the last ones may have been too late
		_, seen := added.Load(fmt.Sprintf("made-%d", i))
		require.True(t, seen, "config map %d of %d was lost", i, written.Load())
	}
}

// An informer outlives credentials that the API server refuses, and misses nothing.
func TestInformerOutlivesRefusedCredentials(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	dp := s.dataPlaneOf(t, s.worker(t, "reader"))
	c, err := remote.NewCluster(dp, remote.Options{Grace: 100 * time.Millisecond})
	require.NoError(t, err)
	defer c.Close()
	target, err := newClient(c)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactoryWithOptions(target, 0, informers.WithNamespace(s.namespace))
	defer factory.Shutdown()
	defer stop()
	lister := factory.Core().V1().ConfigMaps().Lister().ConfigMaps(s.namespace)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	refused, unusable := dp.DeepCopy(), dp.DeepCopy()
	refused.Spec.KubernetesCluster.Credentials.ClientCert, refused.Spec.KubernetesCluster.Credentials.ClientKey = strangerCredentials(t)
	unusable.Spec.KubernetesCluster.Credentials.ClientKey = unusable.Spec.KubernetesCluster.Credentials.ClientCert
	for name, bad := range map[string]*openchoreov1alpha1.DataPlane{"refused": refused, "unusable": unusable} {
		err := c.Update(bad)
		assert.Equal(t, name == "unusable", err != nil, "%v", err)
		time.Sleep(2 * time.Second) // longer than the grace and the shortest watch
		_, err = s.kubernetes.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, err = lister.Get(name)
		require.True(t, apierrors.IsNotFound(err), "the old credentials aren't used")
		require.NoError(t, c.Update(dp))
		require.EventuallyWithT(t, func(collect *assert.CollectT) {
			_, err := lister.Get(name)
			require.NoError(collect, err)
		}, eventually, tick)
	}
}

// openExec opens an upgraded connection to a container.
func openExec(t *testing.T, c *remote.Cluster, namespace string) io.ReadWriteCloser {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		c.Config().Host+"/api/v1/namespaces/"+namespace+"/pods/pod/exec?container=main&command=cat&stdin=true&stdout=true", nil)
	require.NoError(t, err)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "SPDY/3.1")
	resp, err := c.HTTPClient().Do(req)
	require.NoError(t, err)
	stream, ok := resp.Body.(io.ReadWriteCloser)
	require.True(t, ok && resp.StatusCode == http.StatusSwitchingProtocols, "%s", resp.Status)
	return stream
}

// strangerCredentials returns a certificate and a key of an authority that no API server trusts.
func strangerCredentials(t *testing.T) (clientCert, clientKey string) {
	t.Helper()
	certificate, key, err := cert.GenerateSelfSignedCertKey("stranger", nil, nil)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(certificate), base64.StdEncoding.EncodeToString(key)
}
