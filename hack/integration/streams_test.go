// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	execclient "k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"

	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// newKubelet returns the port of a fake kubelet: exec writes "hello", and a forwarded port echoes.
func newKubelet(t *testing.T) int32 {
	t.Helper()
	kubelet := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name, portforward.PortForwardProtocolV1Name})
		if !assert.NoError(t, err) {
			return
		}
		streams := make(chan httpstream.Stream, 10)
		conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
			streams <- stream
			return nil
		})
		if !assert.NotNil(t, conn) {
			return
		}
		defer conn.Close()
		for {
			select {
			case stream := <-streams:
				switch stream.Headers().Get(corev1.StreamType) {
				case corev1.StreamTypeStdout:
					_, _ = io.WriteString(stream, "hello")
				case corev1.StreamTypeError:
					if stream.Headers().Get(corev1.PortHeader) == "" {
						_, _ = io.WriteString(stream, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
					}
				case corev1.StreamTypeData:
					go func() {
						_, _ = io.Copy(stream, stream)
						_ = stream.Close()
					}()
					continue
				}
				_ = stream.Close()
			case <-conn.CloseChan():
				return
			}
		}
	}))
	t.Cleanup(func() {
		kubelet.CloseClientConnections()
		kubelet.Close()
	})
	_, text, err := net.SplitHostPort(kubelet.Listener.Addr().String())
	require.NoError(t, err)
	port, err := strconv.ParseInt(text, 10, 32)
	require.NoError(t, err)
	return int32(port)
}

// startPod creates a pod on a new node, whose kubelet is newKubelet's.
func (s *space) startPod(t *testing.T) {
	t.Helper()
	node, err := s.kubernetes.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = newKubelet(t)
	_, err = s.kubernetes.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
	require.NoError(t, err)
	_, err = s.kubernetes.CoreV1().Pods(s.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod"},
		Spec:       corev1.PodSpec{NodeName: node.Name, Containers: []corev1.Container{{Name: "main", Image: "example.com/app"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// newUpgrader is the code of docs/connecting.md.
func newUpgrader(t *testing.T, cluster *remote.Cluster) (http.RoundTripper, *spdy.SpdyRoundTripper) {
	t.Helper()
	transport, upgrader, err := func() (http.RoundTripper, *spdy.SpdyRoundTripper, error) {
		upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{
			UpgradeTransport: cluster.HTTPClient().Transport,
			PingPeriod:       5 * time.Second,
		})
		if err != nil {
			return nil, nil, err
		}
		transport, err := rest.HTTPWrappersForConfig(cluster.Config(), upgrader) // the token and impersonation
		return transport, upgrader, err
	}()
	require.NoError(t, err)
	return transport, upgrader
}

func (s *space) podURL(t *testing.T, c *remote.Cluster, subresource string) *url.URL {
	t.Helper()
	target, err := newClient(c)
	require.NoError(t, err)
	request := target.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.namespace).Name("pod").SubResource(subresource)
	if subresource == "exec" {
		request = request.VersionedParams(&corev1.PodExecOptions{Command: []string{"true"}, Stdout: true}, scheme.ParameterCodec)
	}
	return request.URL()
}

func (s *space) exec(t *testing.T, c *remote.Cluster) (string, error) {
	t.Helper()
	transport, upgrader := newUpgrader(t, c)
	executor, err := execclient.NewSPDYExecutorForTransports(transport, upgrader, http.MethodPost, s.podURL(t, c, "exec"))
	require.NoError(t, err)
	var out bytes.Buffer
	err = executor.StreamWithContext(t.Context(), execclient.StreamOptions{Stdout: &out})
	return out.String(), err
}

// forwardPort forwards a port until the connection ends. ready receives the local port.
func (s *space) forwardPort(t *testing.T, c *remote.Cluster, ready func(port uint16)) error {
	t.Helper()
	transport, upgrader := newUpgrader(t, c)
	dialer := clientspdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, s.podURL(t, c, "portforward"))
	isReady, stop := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:80"}, stop, isReady, io.Discard, io.Discard)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-isReady:
		ports, err := forwarder.GetPorts()
		require.NoError(t, err)
		ready(ports[0].Local)
	case err := <-done:
		return err
	}
	select {
	case err := <-done:
		return err
	case <-time.After(eventually):
		close(stop)
		return errors.New("the connection has not ended")
	}
}

func TestExecAndPortForwardGoThroughTheCluster(t *testing.T) {
	s := shared.space(t)
	s.startPod(t)
	var dialed atomic.Int32
	c := s.clusterOf(t, addUser(t, shared, "root", "system:masters"), remote.Options{
		Grace: time.Hour,
		DialControl: func(context.Context, string, string, syscall.RawConn) error {
			dialed.Add(1)
			return nil
		},
	})
	out, err := s.exec(t, c)
	require.NoError(t, err)
	assert.Equal(t, "hello", out)
	assert.EqualValues(t, 1, dialed.Load())

	err = s.forwardPort(t, c, func(port uint16) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "ping")
		require.NoError(t, err)
		answer := make([]byte, 4)
		_, err = io.ReadFull(conn, answer)
		require.NoError(t, err)
		assert.Equal(t, "ping", string(answer))
		c.Close()
	})
	require.ErrorIs(t, err, portforward.ErrLostConnectionToPod)
	assert.EqualValues(t, 2, dialed.Load())
}

func TestExecAndPortForwardObeyDialControl(t *testing.T) {
	s := shared.space(t)
	refused := errors.New("address is not allowed")
	c := s.clusterOf(t, addUser(t, shared, "root", "system:masters"), remote.Options{
		DialControl: func(context.Context, string, string, syscall.RawConn) error { return refused },
	})
	_, err := s.exec(t, c)
	require.ErrorContains(t, err, refused.Error())
	err = s.forwardPort(t, c, func(uint16) { t.Error("the address was dialled") })
	require.ErrorContains(t, err, refused.Error())
}
