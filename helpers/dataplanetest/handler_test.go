// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func TestPanicsOfHandlersAreShown(t *testing.T) {
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	defer stderr.Close()
	defer func(before *os.File) { os.Stderr = before }(os.Stderr)
	os.Stderr = stderr
	requireShown := func(text string) {
		require.Eventually(t, func() bool {
			shown, err := os.ReadFile(stderr.Name())
			return err == nil && strings.Contains(string(shown), text) && strings.Contains(string(shown), "handler_test.go")
		}, time.Minute, time.Millisecond, text)
		require.NoError(t, stderr.Truncate(0))
	}
	panics := func(text string) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(text) })
	}
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		server := newServer(t, panics("in a server of "+name), func(s *httptest.Server) { s.EnableHTTP2 = http2 })
		_, err := get(t, dataplanetest.DataPlane("default", "prod", server.As("alice")), "/version")
		require.Error(t, err)
		requireShown("in a server of " + name)
	}
	gateway, at := standIn(t)
	gateway.Connect("prod", panics("in an agent"))
	resp, _ := ask(t, at, "/version")
	assert.Equal(t, http.StatusBadGateway, resp.StatusCode)
	requireShown("in an agent")

	gateway.Connect("prod", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	ask(t, at, "/version")
	gateway.Close()
	shown, err := os.ReadFile(stderr.Name())
	require.NoError(t, err)
	assert.Empty(t, string(shown), "an agent that breaks off is no fault of a handler")
}
