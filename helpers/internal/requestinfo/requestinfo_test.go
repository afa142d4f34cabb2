// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package requestinfo_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

func TestLifetimesOfRequests(t *testing.T) {
	for want, paths := range map[requestinfo.Lifetime][]string{
		requestinfo.Watch: {
			"/api/v1/pods?watch=1",
			"/api/v1/pods?watch=t",
			"/api/v1/pods?watch=True",
			"/api/v1/pods?watch=TRUE",
			"/api/v1/pods?watch", // as API servers read it
			"/apis/apps/v1/deployments?watch=true&limit=5",
			"/apis/apps/v1/namespaces/x/deployments?limit=5&watch=true",
			"/api/v1/watch/pods",
			"/apis/apps/v1/watch/namespaces/x/deployments/y",
			"/api/v1/namespaces/x/pods/y?watch=true",
		},
		requestinfo.Stream: {
			"/api/v1/namespaces/x/pods/y/exec?command=ls",
			"/api/v1/namespaces/x/pods/y/attach",
			"/api/v1/namespaces/x/pods/y/portforward",
			"/api/v1/namespaces/x/pods/y/log?follow=true",
			"/api/v1/namespaces/x/pods/y/log?container=c&follow=1",
			"/api/v1/namespaces/x/services/y/proxy/a/b",
			"/api/v1/namespaces/x/services/y/proxy/a?watch=true",
			"/api/v1/nodes/y/proxy/metrics",
		},
		requestinfo.Unary: {
			"/api/v1/pods",
			"/api/v1/pods?watch=false",
			"/api/v1/pods?watch=False",
			"/api/v1/pods?watch=0",
			"/api/v1/pods?follow=true",
			"/api/v1/namespaces/x/pods/y/log",
			"/api/v1/namespaces/x/pods/y/log?follow=false",
			"/api/v1/namespaces/log/pods?follow=true",
			"/api/v1/namespaces/proxy",
			"/api/v1/namespaces/watch",
			"/api/v1/namespaces/x/configmaps/proxy",
			"/apis/apps/v1/namespaces/x/deployments/exec",
			"/apis/apps/v1/namespaces/x/deployments/y/status",
			"/apis/apps/v1/namespaces/x/deployments/log/scale",
			"/healthz/log?follow=true",
			"/readyz?watch=true",
			"/api",
			"/apis",
			"/",
			"",
			"/proxy/api/v1/log",
		},
	} {
		for _, path := range paths {
			for _, base := range []string{"", "/proxy", "/k8s/clusters/exec"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://host"+base+path, nil)
				require.NoError(t, err)
				assert.Equal(t, want, requestinfo.Of(req, base).Lifetime, base+path)
				req.Header.Set("Upgrade", "SPDY/3.1")
				assert.Equal(t, requestinfo.Stream, requestinfo.Of(req, base).Lifetime, "an upgrade of "+base+path)
			}
		}
	}
}

func TestInitialEvents(t *testing.T) {
	for query, want := range map[string]bool{
		"watch=true&sendInitialEvents=true":  true,
		"watch=1&sendInitialEvents=1":        true,
		"watch=true&sendInitialEvents=false": false,
		"watch=true":                         false,
		"sendInitialEvents=true":             false,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://host/api/v1/pods?"+query, nil)
		require.NoError(t, err)
		assert.Equal(t, want, requestinfo.Of(req, "").InitialEvents, query)
	}
}
