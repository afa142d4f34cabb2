// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestAnotherSpellingOfTheAddressIsTheSameServer(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"trailing slash":           {"https://host:6443", "https://host:6443/"},
		"trailing slash of a path": {"https://host/clusters/a/", "https://host/clusters/a"},
		"doubled slash":            {"https://host/clusters/a", "https://host//clusters//a"},
		"default port":             {"https://host", "https://host:443"},
		"empty port":               {"https://host", "https://host:"},
		"default port of http":     {"http://host:80", "http://host"},
		"upper-case host":          {"https://host.example.org", "https://Host.Example.ORG"},
		"upper-case scheme":        {"https://host", "HTTPS://host"},
		"no scheme":                {"https://host:6443", "host:6443"},
		"long IPv6":                {"https://[2001:db8::1]:6443", "https://[2001:0DB8:0:0:0:0:0:1]:6443"},
		"IPv4 written as IPv6":     {"https://192.0.2.1", "https://[::ffff:192.0.2.1]"},
		"dots in the path":         {"https://host/b", "https://host/./a/../b"},
		"escaped path":             {"https://host/a~b", "https://host/a%7Eb"},
	} {
		t.Run(name, func(t *testing.T) {
			host, rotations := test.before, 0
			options := editConfig(func(config *rest.Config) { config.Host = host })
			options.OnRotate = func(types.NamespacedName) { rotations++ }
			dp := dataplanetest.DataPlane("default", "prod")
			c := newCluster(t, dp, options)
			for _, host = range []string{test.after, test.before, test.after} {
				require.NoError(t, c.Update(dp), host)
			}
			assert.Zero(t, rotations)
		})
	}
}

func TestAnotherAddressIsAnotherServer(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"host":               {"https://host", "https://host2"},
		"name of the host":   {"https://host.example.org", "https://host.example.org."},
		"port":               {"https://host:6443", "https://host:6444"},
		"scheme":             {"https://host:443", "http://host:443"},
		"path":               {"https://host/clusters/a", "https://host/clusters/b"},
		"upper-case path":    {"https://host/clusters/a", "https://host/clusters/A"},
		"more of a path":     {"https://host", "https://host/clusters"},
		"IPv6":               {"https://[2001:db8::1]", "https://[2001:db8::1:1]"},
		"zone of an address": {"https://[fe80::1%25eth0]", "https://[fe80::1%25eth1]"},
	} {
		t.Run(name, func(t *testing.T) {
			host := test.before
			dp := dataplanetest.DataPlane("default", "prod")
			c := newCluster(t, dp, editConfig(func(config *rest.Config) { config.Host = host }))
			host = test.after
			require.ErrorIs(t, c.Update(dp), remote.ErrServerChanged)
		})
	}
}

func TestACacheKeepsItsClientThroughAnotherSpellingOfTheAddress(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	dp := f.set(server.DataPlane("prod", "alice"))
	before := f.mustGet(prod)
	spelled := server.DataPlane("prod", "bob")
	spelled.Spec.KubernetesCluster.Credentials.APIServerURL += "/"
	f.Handler().OnUpdate(dp, f.set(spelled))
	assert.Same(t, before, f.mustGet(prod))
	assert.False(t, isClosed(before))
	f.requireUser("bob", before)
}

func TestAWatchBehindAPathWithDotsIsAWatch(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/b/api/") {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		<-r.Context().Done()
	})
	dp := server.DataPlane("prod", "alice")
	dp.Spec.KubernetesCluster.Credentials.APIServerURL += "/a/../b/"
	c := newCluster(t, dp, remote.Options{HeaderTimeout: 300 * time.Millisecond, StallTimeout: 400 * time.Millisecond})
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	err = client.CoreV1().RESTClient().Get().Resource("pods").Param("watch", "true").Do(t.Context()).Error()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "no response headers within 300ms")
}
