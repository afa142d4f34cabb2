// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/rest"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane/blackhole"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// behind returns a proxy in front of the API server of a DataPlane, and a copy of the DataPlane
// that connects through it.
func behind(t *testing.T, dp *openchoreov1alpha1.DataPlane) (*blackhole.Proxy, *openchoreov1alpha1.DataPlane) {
	t.Helper()
	address := &dp.Spec.KubernetesCluster.Credentials.APIServerURL
	server, err := url.Parse(*address)
	require.NoError(t, err)
	proxy, err := blackhole.New(server.Host)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, proxy.Close()) })
	dp = dp.DeepCopy()
	server.Host = proxy.Addr()
	dp.Spec.KubernetesCluster.Credentials.APIServerURL = server.String()
	return proxy, dp
}

func TestADataPlaneThatSwallowsPacketsCostsLittle(t *testing.T) {
	skipIfShort(t)
	s := shared.space(t)
	proxy, dp := behind(t, s.dataPlaneOf(t, addUser(t, shared, "root", "system:masters")))
	var dials, lists, watches atomic.Int64 // a watch that begins with all objects counts as a list
	c, err := remote.NewCluster(dp, remote.Options{ConfigFor: func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
		config, err := helpers.RESTConfigFor(dp)
		if err == nil {
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return roundTripperFunc(func(req *http.Request) (*http.Response, error) {
					switch query := req.URL.Query(); {
					case !strings.HasSuffix(req.URL.Path, "/configmaps"):
					case query.Has("watch") && !query.Has("sendInitialEvents"):
						watches.Add(1)
					default:
						lists.Add(1)
					}
					return next.RoundTrip(req)
				})
			})
			config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				dials.Add(1)
				return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, address)
			}
		}
		return config, err
	}})
	require.NoError(t, err)
	defer c.Close()
	target, err := newClient(c)
	require.NoError(t, err)
	factory := informers.NewSharedInformerFactoryWithOptions(target, 0, informers.WithNamespace(s.namespace))
	configMaps := factory.Core().V1().ConfigMaps().Lister()
	factory.Start(c.Done())
	for _, synced := range factory.WaitForCacheSync(t.Context().Done()) {
		require.True(t, synced)
	}
	time.Sleep(1500 * time.Millisecond) // a reflector lists again after a watch of less than a second
	listed := lists.Load()

	require.NoError(t, proxy.Swallow())
	proxy.Cut()
	ask := func() error {
		_, err := target.CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
		return err
	}
	require.Eventually(t, func() bool { return remote.Classify(ask()) == remote.ReachabilityTimeout }, eventually, tick)
	dialed, watched := dials.Load(), watches.Load()
	for range 200 {
		err := ask()
		require.ErrorContains(t, err, "; not tried again for ")
		require.Equal(t, remote.ReachabilityTimeout, remote.Classify(err))
	}
	assert.Less(t, dials.Load()-dialed, int64(20), "only now and then, a request connects")
	assert.Less(t, watches.Load()-watched, int64(20), "the informer doesn't spin")
	err = c.Probe(t.Context())
	require.Equal(t, remote.ReachabilityTimeout, remote.Classify(err))
	require.NotContains(t, err.Error(), "not tried again")
	require.Equal(t, remote.ReachabilityTimeout, c.Status().Reachability)

	_, err = s.kubernetes.CoreV1().ConfigMaps(s.namespace).Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "missed"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, proxy.Forward())
	require.Eventually(t, func() bool { return ask() == nil }, eventually, tick)
	require.Eventually(t, func() bool {
		_, err := configMaps.ConfigMaps(s.namespace).Get("missed")
		return err == nil
	}, eventually, tick)
	assert.Equal(t, listed, lists.Load(), "the informer resumes its watch, without a list")
	assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability)
}

// A killed API server refuses connections at once. The next request connects again.
func testRequestsFollowTheAPIServer(t *testing.T, p *plane) {
	s := p.space(t)
	c := s.clusterOf(t, addUser(t, p, "follower"), remote.Options{})
	target, err := newClient(c)
	require.NoError(t, err)
	_, err = whoAmI(t.Context(), target)
	require.NoError(t, err)
	require.NoError(t, p.APIServer.Kill())
	for range 3 {
		_, err = whoAmI(t.Context(), target)
		require.Equal(t, remote.ReachabilityRefused, remote.Classify(err), "%v", err)
		require.NotContains(t, err.Error(), "not tried again")
	}
	require.NoError(t, p.APIServer.Start(t.Context()))
	_, err = whoAmI(t.Context(), target)
	require.NoError(t, err)
}

// The kernel accepts connections to a frozen API server, but no TLS handshake ends.
func testAFrozenAPIServerCostsLittle(t *testing.T, p *plane) {
	s := p.space(t)
	c := s.clusterOf(t, addUser(t, p, "patient"), remote.Options{})
	target, err := newClient(c)
	require.NoError(t, err)
	_, err = whoAmI(t.Context(), target)
	require.NoError(t, err)
	c.HTTPClient().CloseIdleConnections()
	require.NoError(t, p.APIServer.Freeze())
	defer func() { _ = p.APIServer.Thaw() }()
	// The deadline is shorter than the handshake's.
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := whoAmI(ctx, target)
		return err
	}
	require.ErrorIs(t, ask(), context.DeadlineExceeded)
	require.Eventually(t, func() bool {
		err = ask()
		return err != nil && strings.Contains(err.Error(), "TLS handshake timeout; not tried again for ")
	}, eventually, tick)
	assert.Equal(t, remote.ReachabilityTimeout, remote.Classify(err))
	require.NoError(t, p.APIServer.Thaw())
	require.Eventually(t, func() bool { return ask() == nil }, eventually, tick)
}
