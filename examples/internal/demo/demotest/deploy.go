// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demotest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

// Copy copies these files of the current folder to a new module, which requires the SDK as users'
// modules do, and returns the folder of the module.
func Copy(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, file := range append(files, "../go.mod", "../go.sum") {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o600))
	}
	sdk, err := filepath.Abs("../..")
	require.NoError(t, err)
	const module = "github.com/openchoreo/dataplane-sdk-go"
	Go(t, dir, "mod", "edit", "-module=example.com/copy", "-replace="+module+"="+sdk, "-replace="+module+"/hack/controlplane="+sdk+"/hack/controlplane")
	return dir
}

// BuildCopy copies files as Copy does, and builds the program for Start.
func BuildCopy(t testing.TB, name string, files ...string) {
	t.Helper()
	Go(t, Copy(t, files...), "build", "-ldflags=-s -w", "-o", filepath.Join(programs, name), ".")
}

// Go runs the command go in a folder.
func Go(t testing.TB, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), output)
}

// Apply applies manifests as a user does, and requires that the API server warns of nothing.
func Apply(t testing.TB, clusters *demo.Clusters, manifest string) {
	t.Helper()
	kubectl, err := clusters.Plane.KubectlCommand(t.Context(), "apply", "--server-side", "-f", "-")
	require.NoError(t, err)
	kubectl.Stdin = strings.NewReader(manifest)
	output, err := kubectl.CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.NotContains(t, string(output), "Warning")
}

// ReadFile returns the content of a file.
func ReadFile(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(data)
}

// OpenChoreo is the namespace of OpenChoreo's control plane.
const OpenChoreo = "openchoreo-control-plane"

// PrepareOpenChoreo creates the namespace OpenChoreo, and makes the API server accept Certificates
// of cert-manager with any fields.
func PrepareOpenChoreo(t testing.TB, clusters *demo.Clusters) {
	t.Helper()
	_, err := clusters.InNamespace(t.Context(), OpenChoreo)
	require.NoError(t, err)
	require.NoError(t, clusters.Plane.InstallCRDs(t.Context(), []byte(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: certificates.cert-manager.io
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {kind: Certificate, plural: certificates}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`)))
}

// Deployment returns the Pod spec of a Deployment.
func Deployment(t testing.TB, clusters *demo.Clusters, namespace, name string) corev1.PodSpec {
	t.Helper()
	deployment, err := clusters.Core.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return deployment.Spec.Template.Spec
}

// Args returns the arguments of the first container, with another gateway and the folder of its
// certificates.
func Args(pod corev1.PodSpec, gateway, folder string) (args []string) {
	for _, arg := range pod.Containers[0].Args {
		arg = strings.Replace(arg, "https://cluster-gateway.openchoreo-control-plane.svc.cluster.local:8444", gateway, 1)
		args = append(args, strings.Replace(arg, "=/gateway/", "="+folder+"/", 1))
	}
	return args
}

// ServiceAccount returns a kubeconfig file with a token of a ServiceAccount and its namespace. It
// waits until the ServiceAccount has the right: roles take effect a moment after they are stored.
func ServiceAccount(t testing.TB, clusters *demo.Clusters, namespace, name string, right authorizationv1.ResourceAttributes) string {
	t.Helper()
	token, err := clusters.Core.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	config := rest.AnonymousClientConfig(clusters.Management)
	config.BearerToken = token.Status.Token
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &right}}
	require.NoError(t, wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, Patience, true, func(ctx context.Context) (bool, error) {
		reviewed, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		return err == nil && reviewed.Status.Allowed, err
	}))

	kubeconfig, err := clientcmd.LoadFromFile(clusters.Plane.KubeconfigFile())
	require.NoError(t, err)
	current := kubeconfig.Contexts[kubeconfig.CurrentContext]
	current.Namespace = namespace
	user := kubeconfig.AuthInfos[current.AuthInfo]
	user.ClientCertificateData, user.ClientKeyData, user.Token = nil, nil, token.Status.Token
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*kubeconfig, path))
	return path
}
