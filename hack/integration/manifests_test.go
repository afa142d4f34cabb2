// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/restmapper"
)

const openchoreoNamespace = "openchoreo-control-plane"

// documentedManifests returns the objects in the YAML blocks of the documents.
func documentedManifests(t *testing.T) (objects []*unstructured.Unstructured) {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range append(pages, "../../README.md", "../../examples/README.md") {
		for _, block := range blocksOf(t, page, "yaml") {
			for _, document := range strings.Split(block, "\n---\n") {
				objects = append(objects, parse(t, []byte(document)))
			}
		}
	}
	return objects
}

func blocksOf(t *testing.T, page, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(text, -1) {
		blocks = append(blocks, string(match[1]))
	}
	return blocks
}

// documented returns the documents' only object of a kind with this name.
func documented[T any](t *testing.T, kind, name string) *T {
	t.Helper()
	var found []*T
	for _, object := range documentedManifests(t) {
		if object.GetKind() == kind && object.GetName() == name {
			typed := new(T)
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, typed, true))
			found = append(found, typed)
		}
	}
	require.Len(t, found, 1, "%s %s", kind, name)
	return found[0]
}

// applyManifests creates the objects as kubectl apply --server-side does, which refuses unknown
// fields. It leaves out cert-manager's objects.
func (p *plane) applyManifests(t *testing.T, objects []*unstructured.Unstructured) {
	t.Helper()
	resources, err := restmapper.GetAPIGroupResources(p.kubernetes.Discovery())
	require.NoError(t, err)
	mapper := restmapper.NewDiscoveryRESTMapper(resources)
	_, err = p.kubernetes.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: openchoreoNamespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, object := range objects {
		kind := object.GroupVersionKind()
		if kind.Group == "cert-manager.io" {
			continue
		}
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		require.NoError(t, err)
		data, err := object.MarshalJSON()
		require.NoError(t, err)
		_, err = p.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace()).Patch(t.Context(), object.GetName(),
			types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "reader", FieldValidation: "Strict"})
		require.NoError(t, err, "%s %s", kind.Kind, object.GetName())
	}
}

// If a reader applies all manifests, the program may watch data planes.
func TestManifestsOfTheDocumentsApply(t *testing.T) {
	t.Parallel()
	p := v1Plane(t)
	p.applyManifests(t, documentedManifests(t))
	program := documented[appsv1.Deployment](t, "Deployment", "my-program")
	user := "system:serviceaccount:" + program.Namespace + ":" + program.Spec.Template.Spec.ServiceAccountName
	for _, resource := range []string{"dataplanes", "clusterdataplanes"} {
		for _, verb := range []string{"list", "watch"} {
			require.Eventually(t, func() bool {
				return p.mayUser(t, user, authorizationv1.ResourceAttributes{Group: "openchoreo.dev", Resource: resource, Verb: verb})
			}, eventually, tick, "%s %s", verb, resource)
		}
	}
}

func (p *plane) mayUser(t *testing.T, user string, what authorizationv1.ResourceAttributes) bool {
	t.Helper()
	review, err := p.kubernetes.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &what},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return review.Status.Allowed
}

// certificate has the fields of cert-manager's Certificate that the documents use.
type certificate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		SecretName  string   `json:"secretName"`
		CommonName  string   `json:"commonName"`
		Usages      []string `json:"usages"`
		Duration    string   `json:"duration"`
		RenewBefore string   `json:"renewBefore"`
		IssuerRef   struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"issuerRef"`
	} `json:"spec"`
}

// The program of the documents finds its files where the Deployment mounts them.
func TestTheDeploymentOfTheDocumentsMountsTheFilesThatItsProgramReads(t *testing.T) {
	t.Parallel()
	issued := documented[certificate](t, "Certificate", "my-program-gateway-client")
	assert.Equal(t, []string{"client auth"}, issued.Spec.Usages)
	assert.Equal(t, "Issuer", issued.Spec.IssuerRef.Kind)
	assert.Equal(t, "cluster-gateway-internal-ca-issuer", issued.Spec.IssuerRef.Name)
	program := documented[appsv1.Deployment](t, "Deployment", "my-program")
	assert.Equal(t, openchoreoNamespace, issued.Namespace)
	assert.Equal(t, openchoreoNamespace, program.Namespace)

	mounted := map[string]string{} // secret/key by path
	pod := program.Spec.Template.Spec
	for _, mount := range pod.Containers[0].VolumeMounts {
		for _, volume := range pod.Volumes {
			if volume.Name != mount.Name {
				continue
			}
			items := volume.Secret.Items
			if items == nil { // all keys that cert-manager writes
				items = []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}, {Key: "tls.crt", Path: "tls.crt"}, {Key: "tls.key", Path: "tls.key"}}
			}
			for _, item := range items {
				mounted[path.Join(mount.MountPath, item.Path)] = volume.Secret.SecretName + "/" + item.Key
			}
		}
	}
	read := map[string]string{} // secret/key by field
	for _, block := range blocksOf(t, "../../docs/connecting.md", "go") {
		for _, match := range regexp.MustCompile(`(\w+File):\s+"(/[^"]+)"`).FindAllStringSubmatch(block, -1) {
			read[match[1]] = mounted[match[2]]
		}
	}
	assert.Equal(t, map[string]string{
		"CAFile":   "cluster-gateway-ca/ca.crt",
		"CertFile": issued.Spec.SecretName + "/tls.crt",
		"KeyFile":  issued.Spec.SecretName + "/tls.key",
	}, read)
	assert.NotContains(t, mounted, "/etc/cluster-gateway/tls.key", "the key of the CA stays out of the Pod")
}

// The commands for a laptop copy the Secrets into the files that its program names.
func TestTheCommandsOfTheDocumentsCopyTheGatewaysFiles(t *testing.T) {
	t.Parallel()
	p := shared
	_, err := p.kubernetes.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: openchoreoNamespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	want := map[string]string{"ca.crt": "gateway's CA\n", "tls.crt": "certificate\n", "tls.key": "key\n"}
	for name, data := range map[string]map[string]string{
		"cluster-gateway-ca":        {"ca.crt": want["ca.crt"], "tls.crt": "not this", "tls.key": "not this"},
		"my-program-gateway-client": {"ca.crt": "not this", "tls.crt": want["tls.crt"], "tls.key": want["tls.key"]},
	} {
		_, err := p.kubernetes.CoreV1().Secrets(openchoreoNamespace).Create(t.Context(),
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	script := blocksOf(t, "../../docs/connecting.md", "sh")
	require.Len(t, script, 1)
	copying, forwarding, found := strings.Cut(script[0], "kubectl -n "+openchoreoNamespace+" port-forward ")
	require.True(t, found)
	assert.True(t, strings.HasPrefix(forwarding, "service/cluster-gateway 8444"), forwarding)

	kubectl, err := p.KubectlCommand(t.Context())
	require.NoError(t, err)
	sh := exec.CommandContext(t.Context(), "sh", "-eu", "-c", copying)
	sh.Dir = t.TempDir()
	sh.Env = kubectl.Env
	sh.Env = append(sh.Env, "PATH="+filepath.Dir(kubectl.Path)+string(filepath.ListSeparator)+os.Getenv("PATH"))
	out, err := sh.CombinedOutput()
	require.NoError(t, err, "%s", out)
	got := map[string]string{}
	entries, err := os.ReadDir(sh.Dir)
	require.NoError(t, err)
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(sh.Dir, entry.Name()))
		require.NoError(t, err)
		got[entry.Name()] = string(data)
		info, err := entry.Info()
		require.NoError(t, err)
		assert.Zero(t, info.Mode()&0o077, "%s is for its owner only", entry.Name())
	}
	assert.Equal(t, want, got)
	for name := range want {
		assert.Contains(t, strings.Join(blocksOf(t, "../../docs/connecting.md", "go"), ""), `"`+name+`"`)
	}
}
