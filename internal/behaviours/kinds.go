// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
)

// Kind is a kind of objects, in one shape. Tests handle all objects as DataPlanes, and change only
// the fields of the spec that the Kind names.
type Kind struct {
	Title        string
	Name, Plural string
	Namespaced   bool
	Spec         v1alpha1.DataPlaneSpec // without optional fields
	// Required is the path of a text in Spec. Optional is the path of a text that Spec lacks, in an
	// object of Spec.
	Required, Optional Path
	// Part is the path of an object that Spec lacks. PartValue is an example of it.
	Part      Path
	PartValue any
}

// v03 is the shape of OpenChoreo v0.3. API servers don't validate its credentials.
var v03 = Kind{
	Title: "DataPlane of v0.3", Name: "DataPlane", Plural: "dataplanes", Namespaced: true,
	Spec: v1alpha1.DataPlaneSpec{
		KubernetesCluster: v1alpha1.KubernetesClusterSpec{
			Name: "production-cluster",
			Credentials: v1alpha1.APIServerCredentials{
				APIServerURL: "https://k8s-api.example.com:6443", CACert: "Y2E=", ClientCert: "Y2VydA==", ClientKey: "a2V5",
			},
		},
		Registry: v1alpha1.Registry{Prefix: "docker.io/myorg"},
		Gateway:  v1alpha1.GatewaySpec{PublicVirtualHost: "api.example.com", OrganizationVirtualHost: "internal.example.com"},
	},
	Required: Path{"spec", "registry", "prefix"},
	Optional: Path{"spec", "registry", "secretRef"},
	Part:     Path{"spec", "observer"},
	PartValue: v1alpha1.ObserverAPI{
		URL: "https://observer.example.com",
		Authentication: v1alpha1.ObserverAuthentication{
			BasicAuth: v1alpha1.BasicAuthCredentials{Username: "admin", Password: "secretpassword"},
		},
	},
}

// v1 is the shape of OpenChoreo v1, which both kinds have.
var v1 = Kind{
	Title: "DataPlane of v1", Name: "DataPlane", Plural: "dataplanes", Namespaced: true,
	Spec: v1alpha1.DataPlaneSpec{
		PlaneID: "production",
		ClusterAgent: &v1alpha1.ClusterAgentConfig{
			ClientCA: v1alpha1.ValueFrom{SecretKeyRef: &v1alpha1.SecretKeyReference{Name: "agent-ca", Key: "ca.crt"}},
		},
		Gateway: v1alpha1.GatewaySpec{
			Ingress: &v1alpha1.GatewayNetworkSpec{External: &v1alpha1.GatewayEndpointSpec{Name: "external", Namespace: "gateways"}},
		},
	},
	Required:  Path{"spec", "planeID"},
	Optional:  Path{"spec", "clusterAgent", "clientCA", "value"},
	Part:      Path{"spec", "secretStoreRef"},
	PartValue: v1alpha1.SecretStoreRef{Name: "vault"},
}

// Kinds are all kinds in all shapes. NewDataPlane uses the first.
var Kinds = []Kind{v03, v1, func() Kind {
	cluster := v1
	cluster.Title, cluster.Name, cluster.Plural, cluster.Namespaced = "ClusterDataPlane", "ClusterDataPlane", "clusterdataplanes", false
	return cluster
}()}

// New returns an object without optional fields.
func (k Kind) New(name string) *v1alpha1.DataPlane {
	return &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *k.Spec.DeepCopy()}
}

// Client returns a client for the objects of a namespace or, if the kind is cluster-scoped, for all.
func (k Kind) Client(client openchoreoclient.Interface, namespace string) openchoreotyped.DataPlaneInterface {
	if k.Namespaced {
		return client.OpenChoreoV1alpha1().DataPlanes(namespace)
	}
	return clusterDataPlanes{client.OpenChoreoV1alpha1().ClusterDataPlanes()}
}

// Configuration returns an apply configuration that only names an object.
func (k Kind) Configuration(namespace, name string) *openchoreoapply.DataPlaneApplyConfiguration {
	if k.Namespaced {
		return openchoreoapply.DataPlane(name, namespace)
	}
	return convert[*openchoreoapply.DataPlaneApplyConfiguration](openchoreoapply.ClusterDataPlane(name))
}

// Complete reports whether an object has all texts of Spec and, if it has the Part, all of PartValue.
func (k Kind) Complete(dp *v1alpha1.DataPlane) bool {
	part := k.Part.Get(dp)
	return hasTexts(convert[any](k.Spec), convert[any](dp.Spec)) && (part == nil || hasTexts(convert[any](k.PartValue), part))
}

// hasTexts reports whether a value has a non-empty text wherever an example has one.
func hasTexts(example, value any) bool {
	fields, isObject := example.(map[string]any)
	if !isObject {
		return value != nil && value != ""
	}
	values, _ := value.(map[string]any)
	for name, child := range fields {
		if !hasTexts(child, values[name]) {
			return false
		}
	}
	return true
}

// Path is the path of a field in an object.
type Path []string

// String returns the path as in errors.
func (p Path) String() string { return "." + strings.Join(p, ".") }

// Pointer returns the path as a JSON Pointer, for JSON patches.
func (p Path) Pointer() string { return "/" + strings.Join(p, "/") }

// In returns an object with only the field.
func (p Path) In(value any) map[string]any { return Put(map[string]any{}, value, p...) }

// Set sets a field of the spec.
func (p Path) Set(dp *v1alpha1.DataPlane, value any) {
	dp.Spec = convert[specOnly](Put(convert[map[string]any](specOnly{dp.Spec}), value, p...)).Spec
}

// Get returns the JSON value of a field of the spec, or nil.
func (p Path) Get(dp *v1alpha1.DataPlane) (value any) {
	value = convert[any](specOnly{dp.Spec})
	for _, name := range p {
		fields, _ := value.(map[string]any)
		value = fields[name]
	}
	return value
}

type specOnly struct {
	Spec v1alpha1.DataPlaneSpec `json:"spec"`
}

// Put sets the value at a path of maps, and returns the outermost map.
func Put(doc map[string]any, value any, path ...string) map[string]any {
	fields := doc
	for _, name := range path[:len(path)-1] {
		child, ok := fields[name].(map[string]any)
		if !ok {
			child = map[string]any{}
			fields[name] = child
		}
		fields = child
	}
	fields[path[len(path)-1]] = value
	return doc
}

// With returns an apply configuration that additionally sets a field.
func With(configuration *openchoreoapply.DataPlaneApplyConfiguration, field Path, value any) *openchoreoapply.DataPlaneApplyConfiguration {
	return convert[*openchoreoapply.DataPlaneApplyConfiguration](Put(convert[map[string]any](configuration), value, field...))
}

// convert converts a value to another type by way of JSON.
func convert[T any](value any) (converted T) {
	if err := json.Unmarshal(Encode(value), &converted); err != nil {
		panic(err)
	}
	return converted
}

// Encode returns the JSON of a value.
func Encode(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return data
}
