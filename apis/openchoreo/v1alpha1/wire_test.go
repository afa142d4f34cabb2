// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// manifest is the DataPlane that OpenChoreo's documentation shows.
const manifest = "testdata/dataplane.yaml"

func TestManifestRoundTrip(t *testing.T) {
	source, err := os.ReadFile(manifest)
	require.NoError(t, err)

	dp := &v1alpha1.DataPlane{}
	decoder := json.NewDecoder(bytes.NewReader(toJSON(t, source)))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(dp), "every field of the manifest must be known")
	assert.Equal(t, &v1alpha1.DataPlane{
		TypeMeta:   metav1.TypeMeta{APIVersion: "openchoreo.dev/v1alpha1", Kind: "DataPlane"},
		ObjectMeta: metav1.ObjectMeta{Name: "production-dataplane", Namespace: "default"},
		Spec: v1alpha1.DataPlaneSpec{
			KubernetesCluster: v1alpha1.KubernetesClusterSpec{
				Name: "production-cluster",
				Credentials: v1alpha1.APIServerCredentials{
					APIServerURL: "https://k8s-api.example.com:6443",
					CACert:       "LS0tLS1CRUdJTi...",
					ClientCert:   "LS0tLS1CRUdJTi...",
					ClientKey:    "LS0tLS1CRUdJTi...",
				},
			},
			Registry: v1alpha1.Registry{Prefix: "docker.io/myorg", SecretRef: "registry-credentials"},
			Gateway: v1alpha1.GatewaySpec{
				PublicVirtualHost:       "api.example.com",
				OrganizationVirtualHost: "internal.example.com",
			},
			Observer: &v1alpha1.ObserverAPI{
				URL: "https://observer.example.com",
				Authentication: v1alpha1.ObserverAuthentication{
					BasicAuth: v1alpha1.BasicAuthCredentials{Username: "admin", Password: "secretpassword"},
				},
			},
		},
	}, dp)

	assertSameOnTheWire(t, source, dp)
}

func TestWhatIsAbsentStaysAbsent(t *testing.T) {
	source := []byte(`{
		"apiVersion": "openchoreo.dev/v1alpha1", "kind": "DataPlane",
		"metadata": {"name": "minimal", "namespace": "default"},
		"spec": {
			"kubernetesCluster": {"name": "", "credentials": {"apiServerURL": "", "caCert": "", "clientCert": "", "clientKey": ""}},
			"registry": {"prefix": ""},
			"gateway": {"publicVirtualHost": "", "organizationVirtualHost": ""}
		}
	}`)
	dp := &v1alpha1.DataPlane{}
	require.NoError(t, json.Unmarshal(source, dp))
	assert.Nil(t, dp.Spec.Observer)
	assert.Empty(t, dp.Spec.Registry.SecretRef)
	assert.Zero(t, dp.Status.ObservedGeneration)
	assert.Empty(t, dp.Status.Conditions)

	assertSameOnTheWire(t, source, dp)
}

// Releases after v0.3 keep the group and version and move fields. Reading their
// objects must work; see testdata/later for one of each shape.
func TestLaterShapesDecode(t *testing.T) {
	files, err := filepath.Glob("testdata/later/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)

	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			object, kind, err := decoder.Decode(source, nil, nil)
			require.NoError(t, err)
			assert.Equal(t, v1alpha1.SchemeGroupVersion.WithKind("DataPlane"), *kind)
			require.IsType(t, &v1alpha1.DataPlane{}, object)
			dp := object.(*v1alpha1.DataPlane)
			assert.Equal(t, "later", dp.Name)
			assert.Empty(t, dp.Spec.KubernetesCluster.Credentials, "no inline credentials in these")
		})
	}
}

func TestDeepCopySharesNothing(t *testing.T) {
	dp := &v1alpha1.DataPlane{
		Spec:   v1alpha1.DataPlaneSpec{Observer: &v1alpha1.ObserverAPI{URL: "https://a"}},
		Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{{Type: "Ready", Status: "True"}}},
	}
	dup := dp.DeepCopy()
	dup.Spec.Observer.URL = "https://b"
	dup.Status.Conditions[0].Status = "False"
	assert.Equal(t, "https://a", dp.Spec.Observer.URL)
	assert.Equal(t, metav1.ConditionTrue, dp.Status.Conditions[0].Status)
}

// assertSameOnTheWire compares as JSON, leaving out what encoding/json can't leave
// out: the empty status and the null creationTimestamp of apimachinery before 0.34.
func assertSameOnTheWire(t *testing.T, source []byte, dp *v1alpha1.DataPlane) {
	t.Helper()
	data, err := json.Marshal(dp)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(data, &got))
	if metadata := got["metadata"].(map[string]any); metadata["creationTimestamp"] == nil {
		delete(metadata, "creationTimestamp")
	}
	if status := got["status"].(map[string]any); len(status) == 0 {
		delete(got, "status")
	}
	data, err = json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, string(toJSON(t, source)), string(data))
}

func toJSON(t *testing.T, source []byte) []byte {
	t.Helper()
	data, err := yaml.ToJSON(source)
	require.NoError(t, err)
	return data
}
