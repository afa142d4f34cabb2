// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// The program of the README ends even if a server doesn't answer. hack/release runs it on a real API
// server.
func TestTheProgramOfTheREADMEEnds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for 40 s")
	}
	program := buildREADME(t)
	answering := dataplanetest.NewServer(dataplanetest.NewObjects())
	t.Cleanup(answering.Close)
	silent := dataplanetest.NewServer(dataplanetest.Hang())
	t.Cleanup(silent.Close)
	objects := dataplanetest.NewObjects(
		dataplanetest.DataPlane("default", "answering", answering.As("alice")),
		dataplanetest.DataPlane("default", "silent", silent.As("alice"), dataplanetest.Condition("Created", "True")),
		dataplanetest.DataPlane("default", "v1", dataplanetest.V1),
	)
	for name, test := range map[string]struct {
		dataPlanes, clusterDataPlanes http.Handler
		fails                         bool
		prints                        []string
	}{
		"a data plane doesn't answer, and one kind is forbidden": {
			dataPlanes:        objects,
			clusterDataPlanes: dataplanetest.Status(http.StatusForbidden),
			prints: []string{
				"default answering ready: false\nv1.33.1 <nil>\n",
				"default silent ready: true\n<nil> Get ",
				"data plane default/silent: request made no progress for 40s\n",
				"default v1 ready: true\ndata plane default/v1: gateway: must be set: ",
			},
		},
		"neither kind is installed": {
			dataPlanes:        http.NotFoundHandler(),
			clusterDataPlanes: http.NotFoundHandler(),
			fails:             true,
			prints:            []string{"the server could not find the requested resource"},
		},
		"one kind can't be listed for another reason": {
			dataPlanes:        objects,
			clusterDataPlanes: dataplanetest.Status(http.StatusInternalServerError),
			fails:             true,
			prints:            []string{"has prevented the request from succeeding"},
		},
		"the API server doesn't answer": {
			dataPlanes:        dataplanetest.Hang(),
			clusterDataPlanes: dataplanetest.Hang(),
			fails:             true,
			prints:            []string{"context deadline exceeded"},
		},
		"the API server goes away after the first list": {
			dataPlanes: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("limit") == "1" {
					objects.ServeHTTP(w, r)
					return
				}
				dataplanetest.Hang().ServeHTTP(w, r)
			}),
			clusterDataPlanes: dataplanetest.Status(http.StatusForbidden),
			fails:             true,
			prints:            []string{"failed to sync all caches: *v1alpha1.DataPlane: context deadline exceeded"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.Handle("/apis/openchoreo.dev/v1alpha1/dataplanes", test.dataPlanes)
			mux.Handle("/apis/openchoreo.dev/v1alpha1/clusterdataplanes", test.clusterDataPlanes)
			management := dataplanetest.NewServer(mux)
			t.Cleanup(management.Close)
			kubeconfig, err := helpers.KubeconfigFor(dataplanetest.DataPlane("default", "management", management.As("reader")))
			require.NoError(t, err)
			file := filepath.Join(t.TempDir(), "kubeconfig")
			require.NoError(t, clientcmd.WriteToFile(*kubeconfig, file))

			var out bytes.Buffer
			cmd := exec.CommandContext(t.Context(), program)
			cmd.Env = append(os.Environ(), "KUBECONFIG="+file)
			cmd.Stdout, cmd.Stderr = &out, &out
			err = cmd.Run()
			assert.Equal(t, test.fails, err != nil, "%v: %s", err, &out)
			for _, text := range test.prints {
				assert.Contains(t, out.String(), text)
			}
		})
	}
}

// buildREADME builds the program of the README with this tree's SDK.
func buildREADME(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	source, path := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	code := blocksOf(t, "../../README.md", "go")
	require.Len(t, code, 1)
	require.True(t, strings.HasPrefix(code[0], "package main\n"))
	require.NoError(t, os.WriteFile(source, []byte(code[0]), 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, source)
	build.Dir = "../.."
	build.Env = append(os.Environ(), "GOWORK=off")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}
