// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestTLSErrorsOfThisSideAreTLSFailures(t *testing.T) {
	authority, key := pki.New(), pki.ECDSAKey()
	garbled := tls.Certificate{Certificate: [][]byte{[]byte("no certificate")}, PrivateKey: key}
	good := tls.Certificate{PrivateKey: key, Certificate: [][]byte{authority.Issue("server", key, func(c *x509.Certificate) {
		c.ExtKeyUsage, c.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}).Raw}}
	for name, test := range map[string]struct {
		serve func(net.Conn)
		says  string
	}{
		"bad record MAC": {func(conn net.Conn) {
			if tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{good}}).Handshake() == nil {
				_, _ = conn.Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
			}
			_, _ = io.Copy(io.Discard, conn)
		}, "bad record MAC"},
		"certificate that can't be parsed": {func(conn net.Conn) {
			_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{garbled}}).Handshake()
		}, "failed to parse certificate"},
		"protocol version": {func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1<<10))
			hello := append([]byte{22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 2}, make([]byte, 33)...) // of TLS 1.1
			_, _ = conn.Write(append(hello, 0xc0, 0x2f, 0))
			_, _ = io.Copy(io.Discard, conn)
		}, "unsupported protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			listener := listen(t, func(conn net.Conn) {
				defer conn.Close()
				test.serve(conn)
			})
			dp := dataplanetest.DataPlane("default", "prod")
			creds := &dp.Spec.KubernetesCluster.Credentials
			creds.APIServerURL = "https://" + listener.Addr().String()
			creds.CACert = pki.Encode(pki.Certificates(authority.Cert))
			err := newCluster(t, dp, remote.Options{}).Probe(t.Context())
			require.ErrorContains(t, err, test.says)
			assertClassified(t, remote.ReachabilityTLSFailure, err)
		})
	}
}

func TestCredentialsOfConfigForThatCannotBeUsedAreInvalidCredentials(t *testing.T) {
	_, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod"), editConfig(func(config *rest.Config) {
		config.CertData = []byte("no PEM")
	}))
	assertClassified(t, remote.ReachabilityInvalidCredentials, err)
}

func TestDiscoveryThatFailsInPartIsClassifiedByItsWorstGroup(t *testing.T) {
	for name, test := range map[string]struct {
		groups map[string]int
		want   remote.Reachability
	}{
		"one not ready":                {map[string]int{"a": 200, "b": 503}, remote.ReachabilityNotReady},
		"one forbidden":                {map[string]int{"a": 200, "b": 403}, remote.ReachabilityForbidden},
		"one not ready, one forbidden": {map[string]int{"a": 403, "b": 503, "c": 403}, remote.ReachabilityNotReady},
		"one without an answer":        {map[string]int{"a": 403, "b": 503, "c": 0}, remote.ReachabilityRefused},
	} {
		t.Run(name, func(t *testing.T) {
			server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.URL.Path == "/api" {
					_, _ = io.WriteString(w, `{"kind":"APIVersions","apiVersion":"v1"}`)
					return
				}
				list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
				for group, status := range test.groups {
					version := metav1.GroupVersionForDiscovery{GroupVersion: group + "/v1", Version: "v1"}
					list.Groups = append(list.Groups, metav1.APIGroup{
						Name: group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
					})
					switch {
					case r.URL.Path != "/apis/"+group+"/v1":
					case status == 0:
						panic(http.ErrAbortHandler)
					case status == http.StatusOK:
						_, _ = io.WriteString(w, `{"kind":"APIResourceList","apiVersion":"v1"}`)
						return
					default:
						dataplanetest.Status(status).ServeHTTP(w, r)
						return
					}
				}
				assert.NoError(t, json.NewEncoder(w).Encode(list))
			})
			c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
			client, err := discovery.NewDiscoveryClientForConfigAndClient(c.Config(), c.HTTPClient())
			require.NoError(t, err)
			_, _, err = client.ServerGroupsAndResources()
			require.ErrorIs(t, err, &discovery.ErrGroupDiscoveryFailed{})
			assertClassified(t, test.want, err)
		})
	}
}
