// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// page answers with a page of a captive portal or a firewall.
func page(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><body>Please sign in</body></html>")
	}
}

func TestAPageIsNoAnswerOfAnAPIServer(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusBadGateway} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			server := testserver.New(t, page(status))
			dp := server.DataPlane("prod", "alice")
			c := newCluster(t, dp, remote.Options{})
			client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
			require.NoError(t, err)
			pods := client.CoreV1().Pods("default")
			_, getErr := pods.Get(t.Context(), "a", metav1.GetOptions{})
			_, listErr := pods.List(t.Context(), metav1.ListOptions{})
			_, watchErr := pods.Watch(t.Context(), metav1.ListOptions{})
			_, versionErr := client.Discovery().ServerVersion()
			for request, err := range map[string]error{
				"probe": c.Probe(t.Context()), "get": getErr, "list": listErr, "watch": watchErr, "version": versionErr,
				"delete": pods.Delete(t.Context(), "a", metav1.DeleteOptions{}),
			} {
				require.Error(t, err, request)
				assertClassified(t, remote.ReachabilityNotReady, err)
				assert.ErrorContains(t, err, fmt.Sprintf("the server answers %d with a page of HTML", status), request)
				assert.NotContains(t, err.Error(), "DOCTYPE", request)
			}

			if status == http.StatusOK {
				return
			}
			config, err := helpers.RESTConfigFor(dp)
			require.NoError(t, err)
			client, err = kubernetes.NewForConfig(config)
			require.NoError(t, err)
			_, err = client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
			assertClassified(t, remote.ReachabilityNotReady, err)
		})
	}
}

func TestPagesThatComeThroughAnAPIServerPass(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/debug/pprof/" {
			w.Header().Set("Audit-Id", "b8a8c9b1-6c1c-4b5b-8a55-2f2a4d2f3f5e")
		}
		page(http.StatusOK)(w, r)
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	for name, path := range map[string]string{
		"of a proxied service": "/api/v1/namespaces/x/services/web/proxy/",
		"of the server's own":  "/debug/pprof/",
	} {
		t.Run(name, func(t *testing.T) {
			body, err := get(t.Context(), c, path)
			require.NoError(t, err)
			assert.Contains(t, body, "Please sign in")
		})
	}
}
