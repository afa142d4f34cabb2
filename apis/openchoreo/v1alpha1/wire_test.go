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

func TestAbsentFieldsStayAbsent(t *testing.T) {
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

// Releases after v0.3 move fields within the same group and version. testdata/later has
// an object of each shape.
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
			if ref := dp.Spec.ObservabilityPlaneRef; ref != nil {
				assert.Equal(t, "default", ref.Name)
			}
		})
	}
}

// hack/integration writes the same objects to API servers of both generations.
func TestReadAndWriteKeepsEitherShape(t *testing.T) {
	for file, newObject := range map[string]func() metav1.Object{
		"dataplane.yaml":        func() metav1.Object { return &v1alpha1.DataPlane{} },
		"dataplane_v1.yaml":     func() metav1.Object { return &v1alpha1.DataPlane{} },
		"clusterdataplane.yaml": func() metav1.Object { return &v1alpha1.ClusterDataPlane{} },
	} {
		source, err := os.ReadFile("../crds/testdata/" + file)
		require.NoError(t, err)
		var tests []struct {
			Name, Refused string
			Spec, Status  json.RawMessage
		}
		require.NoError(t, json.Unmarshal(toJSON(t, source), &tests))
		require.NotEmpty(t, tests)
		for _, test := range tests {
			if test.Refused != "" {
				continue
			}
			t.Run(file+", "+test.Name, func(t *testing.T) {
				object := newObject()
				data, err := json.Marshal(map[string]any{"spec": test.Spec, "status": test.Status})
				require.NoError(t, err)
				decoder := json.NewDecoder(bytes.NewReader(data))
				decoder.DisallowUnknownFields()
				require.NoError(t, decoder.Decode(object))

				written, err := json.Marshal(object)
				require.NoError(t, err)
				unstructured, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
				require.NoError(t, err)
				converted, err := json.Marshal(unstructured)
				require.NoError(t, err)
				for _, data := range [][]byte{written, converted} {
					var got struct{ Spec, Status json.RawMessage }
					require.NoError(t, json.Unmarshal(data, &got))
					assert.JSONEq(t, string(test.Spec), string(got.Spec))
					if test.Status != nil {
						assert.JSONEq(t, string(test.Status), string(got.Status))
					}
				}
			})
		}
	}
}

// Users can build specs in Go with the fields of both shapes, or of neither.
func TestWrittenShape(t *testing.T) {
	agent := &v1alpha1.ClusterAgentConfig{}
	for name, test := range map[string]struct {
		spec v1alpha1.DataPlaneSpec
		want string
	}{
		"an empty spec has the shape of v0.3": {
			v1alpha1.DataPlaneSpec{},
			`{"kubernetesCluster":{"name":"","credentials":{"apiServerURL":"","caCert":"","clientCert":"","clientKey":""}},
			"registry":{"prefix":""},"gateway":{"publicVirtualHost":"","organizationVirtualHost":""}}`,
		},
		"a spec with an agent always has a gateway": {
			v1alpha1.DataPlaneSpec{ClusterAgent: agent},
			`{"clusterAgent":{"clientCA":{}},"gateway":{}}`,
		},
		"filled fields of v0.3 stay beside an agent": {
			v1alpha1.DataPlaneSpec{
				ClusterAgent:      agent,
				KubernetesCluster: v1alpha1.KubernetesClusterSpec{Name: "prod"},
				Registry:          v1alpha1.Registry{SecretRef: "registry-credentials"},
				Gateway:           v1alpha1.GatewaySpec{OrganizationVirtualHost: "internal.example.com"},
				Observer:          &v1alpha1.ObserverAPI{},
			},
			`{"clusterAgent":{"clientCA":{}},"gateway":{"organizationVirtualHost":"internal.example.com"},
			"kubernetesCluster":{"name":"prod","credentials":{"apiServerURL":"","caCert":"","clientCert":"","clientKey":""}},
			"registry":{"prefix":"","secretRef":"registry-credentials"},
			"observer":{"url":"","authentication":{"basicAuth":{"username":"","password":""}}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(test.spec)
			require.NoError(t, err)
			assert.JSONEq(t, test.want, string(data))
			data, err = json.Marshal(&v1alpha1.DataPlane{Spec: test.spec})
			require.NoError(t, err)
			assert.Contains(t, string(data), `"spec":{`)
		})
	}
}

func TestObservabilityPlaneRefMayBeAName(t *testing.T) {
	for name, test := range map[string]struct {
		source string
		want   *v1alpha1.ObservabilityPlaneRef
	}{
		"a name":      {`{"observabilityPlaneRef":"default"}`, &v1alpha1.ObservabilityPlaneRef{Name: "default"}},
		"empty":       {`{"observabilityPlaneRef":""}`, &v1alpha1.ObservabilityPlaneRef{}},
		"null":        {`{"observabilityPlaneRef":null}`, nil},
		"a reference": {`{"observabilityPlaneRef":{"kind":"ObservabilityPlane","name":"a"}}`, &v1alpha1.ObservabilityPlaneRef{Kind: "ObservabilityPlane", Name: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var spec v1alpha1.DataPlaneSpec
			require.NoError(t, json.Unmarshal([]byte(test.source), &spec))
			assert.Equal(t, test.want, spec.ObservabilityPlaneRef)
		})
	}
	var spec v1alpha1.DataPlaneSpec
	require.Error(t, json.Unmarshal([]byte(`{"observabilityPlaneRef":1}`), &spec))
}

func TestAsDataPlaneIsACopyWithoutNamespace(t *testing.T) {
	gateway := &v1alpha1.GatewayNetworkSpec{External: &v1alpha1.GatewayEndpointSpec{Name: "a"}}
	cluster := &v1alpha1.ClusterDataPlane{
		TypeMeta:   metav1.TypeMeta{APIVersion: "openchoreo.dev/v1alpha1", Kind: "ClusterDataPlane"},
		ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "1", Generation: 2, Labels: map[string]string{"a": "b"}},
		Spec: v1alpha1.ClusterDataPlaneSpec{
			PlaneID:               "prod",
			ClusterAgent:          v1alpha1.ClusterAgentConfig{ClientCA: v1alpha1.ValueFrom{SecretKeyRef: &v1alpha1.SecretKeyReference{Name: "ca"}}},
			Gateway:               &v1alpha1.ClusterDataPlaneGateway{Ingress: gateway, Egress: gateway},
			SecretStoreRef:        &v1alpha1.SecretStoreRef{Name: "store"},
			ObservabilityPlaneRef: &v1alpha1.ObservabilityPlaneRef{Name: "default"},
		},
		Status: v1alpha1.DataPlaneStatus{
			Conditions:      []metav1.Condition{{Type: "Created"}},
			AgentConnection: &v1alpha1.AgentConnectionStatus{Connected: true},
		},
	}
	before := cluster.DeepCopy()
	dp := cluster.AsDataPlane()
	assert.Equal(t, &v1alpha1.DataPlane{
		ObjectMeta: cluster.ObjectMeta,
		Spec: v1alpha1.DataPlaneSpec{
			PlaneID:               "prod",
			ClusterAgent:          &cluster.Spec.ClusterAgent,
			Gateway:               v1alpha1.GatewaySpec{Ingress: gateway, Egress: gateway},
			SecretStoreRef:        cluster.Spec.SecretStoreRef,
			ObservabilityPlaneRef: cluster.Spec.ObservabilityPlaneRef,
		},
		Status: cluster.Status,
	}, dp)

	dp.Labels["a"] = "changed"
	dp.Spec.ClusterAgent.ClientCA.SecretKeyRef.Name = "changed"
	dp.Spec.Gateway.Ingress.External.Name = "changed"
	dp.Spec.SecretStoreRef.Name, dp.Spec.ObservabilityPlaneRef.Name = "changed", "changed"
	dp.Status.Conditions[0].Type, dp.Status.AgentConnection.Connected = "changed", false
	assert.Equal(t, before, cluster)

	assert.Nil(t, (*v1alpha1.ClusterDataPlane)(nil).AsDataPlane())
	assert.Zero(t, *(&v1alpha1.ClusterDataPlane{}).AsDataPlane().Spec.ClusterAgent)
	namespaced := &v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "wrong"}}
	assert.Empty(t, namespaced.AsDataPlane().Namespace)
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

// assertSameOnTheWire compares JSON, except for the empty status, and the null
// creationTimestamp of apimachinery before 0.34.
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
