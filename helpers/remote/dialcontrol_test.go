// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestTheDialControlOfTheExampleKeepsLoopbackFromWritersOfDataPlanes(t *testing.T) {
	for name, host := range map[string]string{
		"loopback":                     "127.0.0.1",
		"another loopback address":     "127.1.2.3",
		"unspecified":                  "0.0.0.0",
		"unspecified in IPv6":          "[::]",
		"unspecified as mapped IPv4":   "[::ffff:0.0.0.0]",
		"mapped IPv4":                  "[::ffff:127.0.0.1]",
		"mapped IPv4, in hexadecimals": "[::ffff:7f00:1]",
		"loopback in IPv6":             "[::1]",
		"link-local":                   "169.254.169.254",
		"link-local as mapped IPv4":    "[::ffff:169.254.169.254]",
		"link-local in IPv6":           "[fe80::1%25lo]",
		"a name":                       "localhost",
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", ":0") // on all addresses, to be reached by each
			require.NoError(t, err)
			t.Cleanup(func() { _ = listener.Close() })
			accepted := make(chan struct{}, 10)
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					accepted <- struct{}{}
					_ = conn.Close()
				}
			}()
			_, port, err := net.SplitHostPort(listener.Addr().String())
			require.NoError(t, err)
			dp := dataplanetest.DataPlane("default", "prod", func(dp *v1alpha1.DataPlane) {
				dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + host + ":" + port
			})
			err = newCluster(t, dp, remote.Options{DialControl: refuseLocal}).Probe(t.Context())
			require.ErrorContains(t, err, "is not the address of a data plane")
			assert.Empty(t, accepted)
		})
	}
	for _, address := range []string{"192.0.2.1:6443", "10.0.0.1:443", "[2001:db8::1]:443", "[::ffff:192.0.2.1]:443"} {
		require.NoError(t, refuseLocal(t.Context(), "tcp", address, nil))
	}
}

// dialStream dials as a SPDY client does whose UpgradeTransport is that of the Cluster.
func dialStream(t testing.TB, c *remote.Cluster, server *testserver.Server) (net.Conn, error) {
	t.Helper()
	dial, err := utilnet.DialerFor(c.HTTPClient().Transport)
	require.NoError(t, err)
	require.NotNil(t, dial, "a client would dial in its own way")
	return dial(t.Context(), "tcp", strings.TrimPrefix(server.URL(), "https://"))
}

func TestStreamsOverUpgradeTransportHeedDialControl(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{DialControl: denyAddress})
	_, err := dialStream(t, c, server)
	require.ErrorContains(t, err, "address is not allowed")
	require.ErrorIs(t, c.Update(&v1alpha1.DataPlane{ObjectMeta: server.DataPlane("prod", "alice").ObjectMeta}), helpers.ErrNoCredentials)
	_, err = dialStream(t, c, server)
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
	c.Close()
	_, err = dialStream(t, c, server)
	require.ErrorIs(t, err, remote.ErrClosed)
	assert.Zero(t, server.Accepted())
}

func TestStreamsOverUpgradeTransportEndWithTheClusterOrAfterTheGrace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		grace time.Duration
		end   func(*remote.Cluster, *v1alpha1.DataPlane) error
		after time.Duration
	}{
		"Close":      {time.Hour, func(c *remote.Cluster, _ *v1alpha1.DataPlane) error { c.Close(); return nil }, 0},
		"a rotation": {time.Second, (*remote.Cluster).Update, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.New(t, testserver.WhoAmI)
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: test.grace})
			conn, err := dialStream(t, c, server)
			require.NoError(t, err)
			began := time.Now()
			require.NoError(t, test.end(c, server.DataPlane("prod", "bob")))
			_, err = conn.Read(make([]byte, 1))
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF)
			assert.GreaterOrEqual(t, time.Since(began), test.after)
			_ = conn.Close()
			server.RequireNoConnections()
		})
	}
}

func TestAStreamOverUpgradeTransportThatIsClosedFreesItsSession(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Hour})
	conn, err := dialStream(t, c, server)
	require.NoError(t, err)
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	require.NoError(t, conn.Close())
	server.RequireNoConnections()
}
