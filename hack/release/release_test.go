// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package release tests a release of the SDK, which is the last commit as Go's module proxy would
// serve it, and the scripts that check and tag it.
package release

import (
	"archive/zip"
	"encoding/base64"
	"encoding/json"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

const (
	root    = "../.."
	sdk     = "github.com/openchoreo/dataplane-sdk-go"
	maxZip  = 775_000 // bytes of the module's zip
	maxFile = 100_000 // bytes of one file before compression
)

func TestMain(m *testing.M) {
	// In a git hook, these variables select the repository, even in other folders.
	names, err := exec.Command("git", "rev-parse", "--local-env-vars").Output()
	if err != nil {
		log.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(names)) {
		if err := os.Unsetenv(name); err != nil {
			log.Fatal(err)
		}
	}
	os.Exit(m.Run())
}

// A user's module follows the README: it gets the SDK by go get, without replace, and runs the program.
func TestREADME(t *testing.T) {
	proxy := t.TempDir()
	release := publish(t, proxy)
	t.Setenv("GOPROXY", "file://"+filepath.ToSlash(proxy)+","+run(t, root, "go", "env", "GOPROXY"))
	t.Setenv("GONOSUMDB", sdk)
	t.Setenv("GOWORK", "off")
	source := download(t, release)
	program := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindStringSubmatch(read(t, source, "README.md"))
	require.NotNil(t, program)
	t.Setenv("KUBECONFIG", startControlPlane(t, source))

	floor, latest := supported(t)
	for _, clientGo := range []string{floor, latest} {
		t.Run("client-go "+clientGo, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program[1]), 0o600))
			run(t, dir, "go", "mod", "init", "example.com/my-program")
			run(t, dir, "go", "get", sdk)
			if clientGo != floor {
				run(t, dir, "go", "get", "k8s.io/client-go@"+clientGo)
			}
			run(t, dir, "go", "mod", "tidy")
			assert.Equal(t, clientGo, run(t, dir, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/client-go"))
			assert.Regexp(t, `^default production-dataplane ready: false\nv1\.\S+ <nil>$`, run(t, dir, "go", "run", "."))
		})
	}
}

// publish writes the last commit to proxy, as the latest version of the module.
func publish(t *testing.T, proxy string) module.Version {
	t.Helper()
	revision, date, _ := strings.Cut(run(t, root, "git", "show", "--no-patch", "--format=%H %cI", "HEAD"), " ")
	committed, err := time.Parse(time.RFC3339, date)
	require.NoError(t, err)
	release := module.Version{Path: sdk, Version: module.PseudoVersion("v0", "", committed, revision[:12])}

	dir := filepath.Join(proxy, filepath.FromSlash(sdk))
	versions := filepath.Join(dir, "@v")
	require.NoError(t, os.MkdirAll(versions, 0o755))
	file, err := os.Create(filepath.Join(versions, release.Version+".zip"))
	require.NoError(t, err)
	clone := t.TempDir() // CreateFromVCS refuses a linked worktree
	run(t, root, "git", "clone", "--quiet", ".", clone)
	require.NoError(t, modzip.CreateFromVCS(file, release, clone, revision, ""))
	require.NoError(t, file.Close())
	checkSize(t, file.Name())

	info, err := json.Marshal(map[string]any{"Version": release.Version, "Time": committed.UTC()})
	require.NoError(t, err)
	for path, content := range map[string]string{
		filepath.Join(dir, "@latest"):                    string(info),
		filepath.Join(versions, "list"):                  "",
		filepath.Join(versions, release.Version+".info"): string(info),
		filepath.Join(versions, release.Version+".mod"):  run(t, root, "git", "show", revision+":go.mod") + "\n",
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return release
}

func checkSize(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	content, err := zip.OpenReader(path)
	require.NoError(t, err)
	defer content.Close()
	var unpacked uint64
	for _, file := range content.File {
		unpacked += file.UncompressedSize64
		assert.LessOrEqual(t, file.UncompressedSize64, uint64(maxFile), "%s: do users need it?", file.Name)
	}
	assert.LessOrEqual(t, info.Size(), int64(maxZip))
	t.Logf("the module has %d bytes: %d files of %d bytes", info.Size(), len(content.File), unpacked)
}

// download returns the folder of release in the module cache.
func download(t *testing.T, release module.Version) string {
	t.Helper()
	var downloaded struct{ Dir string }
	require.NoError(t, json.Unmarshal([]byte(run(t, t.TempDir(), "go", "mod", "download", "-json", release.String())), &downloaded))
	return downloaded.Dir
}

// startControlPlane returns the kubeconfig of a cluster with a DataPlane that describes the
// cluster itself.
func startControlPlane(t *testing.T, source string) string {
	t.Helper()
	cp, err := controlplane.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cp.Stop()) })
	require.NoError(t, cp.InstallCRDs(t.Context(), []byte(read(t, source, "apis/openchoreo/crds/openchoreo.dev_dataplanes.yaml"))))

	var dataPlane unstructured.Unstructured
	require.NoError(t, yaml.Unmarshal([]byte(read(t, source, "apis/openchoreo/v1alpha1/testdata/dataplane.yaml")), &dataPlane.Object))
	config := cp.Config()
	for field, value := range map[string]string{
		"apiServerURL": config.Host,
		"caCert":       base64.StdEncoding.EncodeToString(config.CAData),
		"clientCert":   base64.StdEncoding.EncodeToString(config.CertData),
		"clientKey":    base64.StdEncoding.EncodeToString(config.KeyData),
	} {
		require.NoError(t, unstructured.SetNestedField(dataPlane.Object, value, "spec", "kubernetesCluster", "credentials", field))
	}
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	_, err = client.Resource(schema.GroupVersionResource{Group: "openchoreo.dev", Version: "v1alpha1", Resource: "dataplanes"}).
		Namespace(dataPlane.GetNamespace()).Create(t.Context(), &dataPlane, metav1.CreateOptions{})
	require.NoError(t, err)

	kubeconfig, err := cp.Kubeconfig()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, kubeconfig, 0o600))
	return path
}

// supported returns the earliest and the latest client-go of hack/verify-compat.sh.
func supported(t *testing.T) (floor, latest string) {
	t.Helper()
	list := regexp.MustCompile(`(?m)^supported=\((.+)\)$`).FindStringSubmatch(read(t, root, "hack/verify-compat.sh"))
	require.NotNil(t, list)
	versions := strings.Fields(list[1])
	return versions[0], versions[len(versions)-1]
}

// run returns the stdout of a command, without the last newline.
func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s%s", name, strings.Join(args, " "), stdout, &stderr)
	return strings.TrimSpace(string(stdout))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(data)
}
