// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
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
