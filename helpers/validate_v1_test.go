// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

const (
	fieldClientCA = "spec.clusterAgent.clientCA"
	fieldCAValue  = fieldClientCA + ".value"
)

// v1DataPlane returns a valid DataPlane of OpenChoreo v1, changed by edits.
func v1DataPlane(edits ...func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
	return dataplanetest.DataPlane("acme", "prod", append([]func(*v1alpha1.DataPlane){dataplanetest.V1}, edits...)...)
}

func caValue(pem []byte) func(*v1alpha1.DataPlane) {
	return func(dp *v1alpha1.DataPlane) { dp.Spec.ClusterAgent.ClientCA = v1alpha1.ValueFrom{Value: string(pem)} }
}

func caSecret(ref v1alpha1.SecretKeyReference) func(*v1alpha1.DataPlane) {
	return func(dp *v1alpha1.DataPlane) { dp.Spec.ClusterAgent.ClientCA = v1alpha1.ValueFrom{SecretKeyRef: &ref} }
}

// certificate returns a CA certificate; its validity is relative to now.
func certificate(from, until time.Duration) *x509.Certificate {
	return pki.New().Issue("authority", pki.ECDSAKey(), func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(until)
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
}

func TestValidateV1Sound(t *testing.T) {
	endpoint := &v1alpha1.GatewayEndpointSpec{
		Name: "gateway", Namespace: "gateway-system", HTTPS: &v1alpha1.GatewayListenerSpec{Host: "api.example.com", Port: 443},
	}
	for name, dp := range map[string]*v1alpha1.DataPlane{
		"a DataPlane":        v1DataPlane(),
		"a ClusterDataPlane": dataplanetest.ClusterDataPlane("default").AsDataPlane(),
		"a reference":        v1DataPlane(caSecret(v1alpha1.SecretKeyReference{Name: "agent-ca", Key: "ca.crt"})),
		"a reference of a ClusterDataPlane": v1DataPlane(planeID("prod"), noNamespace,
			caSecret(v1alpha1.SecretKeyReference{Name: "agent-ca", Namespace: "openchoreo", Key: "ca.crt"})),
		"one expired of two":         v1DataPlane(caValue(pki.Certificates(certificate(-2*time.Hour, -time.Hour), certificate(-time.Hour, time.Hour)))),
		"a name that is no plane ID": v1DataPlane(func(dp *v1alpha1.DataPlane) { dp.Name = "eu.prod" }),
		"all fields": v1DataPlane(planeID("prod"), func(dp *v1alpha1.DataPlane) {
			dp.Spec.Gateway.Ingress = &v1alpha1.GatewayNetworkSpec{External: endpoint, Internal: endpoint}
			dp.Spec.Gateway.Egress = &v1alpha1.GatewayNetworkSpec{External: endpoint, Internal: endpoint}
			dp.Spec.SecretStoreRef = &v1alpha1.SecretStoreRef{Name: "default"}
			dp.Spec.ObservabilityPlaneRef = &v1alpha1.ObservabilityPlaneRef{Kind: "ObservabilityPlane", Name: "default"}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			warnings, errs := helpers.Validate(dp)
			assert.Empty(t, warnings)
			assert.Empty(t, errs)
			_, err := helpers.ConfigFor(&rest.Config{Host: "https://gateway"})(dp)
			assert.NoError(t, err)
		})
	}
}

func TestValidateAcceptsANameThatTheAPIServerCompletes(t *testing.T) {
	warnings, errs := helpers.Validate(v1DataPlane(func(dp *v1alpha1.DataPlane) { dp.Name, dp.GenerateName = "", "prod-" }))
	require.Empty(t, warnings)
	require.Empty(t, errs)
}

func TestValidateV1NamesTheFieldAtFault(t *testing.T) {
	value := func(text string) func(*v1alpha1.DataPlane) { return caValue([]byte(text)) }
	ca := pki.Certificates(pki.New().Cert)
	for name, test := range map[string]struct {
		edit  func(*v1alpha1.DataPlane)
		field string
		kind  field.ErrorType
		says  string
	}{
		"no name":                         {func(dp *v1alpha1.DataPlane) { dp.Name = "" }, "metadata.name", field.ErrorTypeRequired, "must be set"},
		"a bad beginning of a name":       {func(dp *v1alpha1.DataPlane) { dp.Name, dp.GenerateName = "", "hunter2/" }, "metadata.generateName", field.ErrorTypeInvalid, ""},
		"a name with a slash":             {func(dp *v1alpha1.DataPlane) { dp.Name = "hunter2/" }, "metadata.name", field.ErrorTypeInvalid, ""},
		"a namespace with a dot":          {func(dp *v1alpha1.DataPlane) { dp.Namespace = "hunter2.a" }, "metadata.namespace", field.ErrorTypeInvalid, ""},
		"a plane ID with capitals":        {planeID("Hunter2"), "spec.planeID", field.ErrorTypeInvalid, ""},
		"a plane ID of 64 letters":        {planeID(strings.Repeat("a", 64)), "spec.planeID", field.ErrorTypeInvalid, "63"},
		"no plane ID without a namespace": {noNamespace, "spec.planeID", field.ErrorTypeRequired, "a ClusterDataPlane has no default"},
		"neither reference nor value": {
			func(dp *v1alpha1.DataPlane) { dp.Spec.ClusterAgent.ClientCA = v1alpha1.ValueFrom{} },
			fieldClientCA, field.ErrorTypeRequired, "value or secretKeyRef",
		},
		"base64 of PEM":           {value(pki.Encode(ca)), fieldCAValue, field.ErrorTypeInvalid, "the value is base64; this field takes the PEM itself"},
		"base64 of PEM, in lines": {value("\n" + wrap(pki.Encode(ca), "\n") + "\n"), fieldCAValue, field.ErrorTypeInvalid, "the value is base64; this field takes the PEM itself"},
		"base64 of a key":         {value(pki.Encode(pki.PKCS8(pki.ECDSAKey()))), fieldCAValue, field.ErrorTypeInvalid, "the value is base64; this field takes the PEM itself"},
		"text":                    {value("hunter2"), fieldCAValue, field.ErrorTypeInvalid, "contains no PEM block CERTIFICATE"},
		"indented PEM":            {caValue(indent(ca)), fieldCAValue, field.ErrorTypeInvalid, "BEGIN and END must each have a line"},
		"a certificate with headers": {
			caValue(withHeader(ca)), fieldCAValue, field.ErrorTypeInvalid, "contains no certificate that can be used: a certificate must be in a PEM block CERTIFICATE without headers",
		},
		"a certificate that is none": {value(string(pki.Block("CERTIFICATE", []byte("hunter2")))), fieldCAValue, field.ErrorTypeInvalid, "contains no certificate that can be used"},
		"a private key alone":        {caValue(pki.PKCS8(pki.ECDSAKey())), fieldCAValue, field.ErrorTypeInvalid, "contains no PEM block CERTIFICATE"},
		"a reference without name":   {caSecret(v1alpha1.SecretKeyReference{Key: "ca.crt"}), fieldClientCA + ".secretKeyRef.name", field.ErrorTypeRequired, "must be set"},
		"a reference without key":    {caSecret(v1alpha1.SecretKeyReference{Name: "agent-ca"}), fieldClientCA + ".secretKeyRef.key", field.ErrorTypeRequired, "must be set"},
		"a ClusterDataPlane's reference without namespace": {
			func(dp *v1alpha1.DataPlane) {
				caSecret(v1alpha1.SecretKeyReference{Name: "agent-ca", Key: "ca.crt"})(dp)
				dp.Namespace, dp.Spec.PlaneID = "", "prod"
			}, fieldClientCA + ".secretKeyRef.namespace", field.ErrorTypeRequired, "must be set",
		},
		"a port above 65535": {func(dp *v1alpha1.DataPlane) {
			dp.Spec.Gateway.Egress = &v1alpha1.GatewayNetworkSpec{Internal: &v1alpha1.GatewayEndpointSpec{
				Name: "gateway", Namespace: "gateway-system", TLS: &v1alpha1.GatewayListenerSpec{Host: "api.example.com", Port: 65536},
			}}
		}, "spec.gateway.egress.internal.tls.port", field.ErrorTypeInvalid, "1 to 65535"},
		"an observability plane that OpenChoreo v0.14 stored": {func(dp *v1alpha1.DataPlane) {
			dp.Spec.ObservabilityPlaneRef = &v1alpha1.ObservabilityPlaneRef{Name: "default"}
		}, "spec.observabilityPlaneRef.kind", field.ErrorTypeNotSupported, "ObservabilityPlane or ClusterObservabilityPlane"},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs := helpers.Validate(v1DataPlane(test.edit))
			require.Len(t, errs, 1)
			assert.Equal(t, test.field, errs[0].Field)
			assert.Equal(t, test.kind, errs[0].Type)
			assert.Contains(t, errs[0].Error(), test.says)
			assert.NotContains(t, strings.ToLower(errs[0].Error()), "hunter2")
		})
	}
}

func TestValidateV1Warns(t *testing.T) {
	refused := "the cluster gateway refuses every agent that connects, while all Pods say Running"
	ca := pki.Certificates(pki.New().Cert)
	expired, later := certificate(-2*time.Hour, -time.Hour), certificate(time.Hour, 2*time.Hour)
	old := dataplanetest.DataPlane("acme", "prod").Spec
	for name, test := range map[string]struct {
		edit func(*v1alpha1.DataPlane)
		want []string
	}{
		"expired authorities": {
			caValue(pki.Certificates(expired, certificate(-3*time.Hour, -2*time.Hour))),
			[]string{fieldCAValue + ": expired at " + expired.NotAfter.Format(time.RFC3339) + ": " + refused},
		},
		"authorities of the future": {
			caValue(pki.Certificates(certificate(2*time.Hour, 3*time.Hour), later)),
			[]string{fieldCAValue + ": is not valid before " + later.NotBefore.Format(time.RFC3339) + ": " + refused},
		},
		"one expired and one of the future": {
			caValue(pki.Certificates(expired, later)),
			[]string{fieldCAValue + ": is not valid before " + later.NotBefore.Format(time.RFC3339) + ": " + refused},
		},
		"an authority that is ignored": {
			caValue(append(slices.Clone(ca), pki.Block("CERTIFICATE", []byte("junk"))...)),
			[]string{fieldCAValue + ": certificate 2 can't be used and is ignored"},
		},
		"a private key": {
			caValue(append(slices.Clone(ca), pki.PKCS8(pki.ECDSAKey())...)),
			[]string{fieldCAValue + ": contains a private key, which does not belong there: consider that key disclosed"},
		},
		"a reference beside a value": {
			func(dp *v1alpha1.DataPlane) {
				dp.Spec.ClusterAgent.ClientCA.SecretKeyRef = &v1alpha1.SecretKeyReference{Name: "agent-ca", Key: "ca.crt"}
			},
			[]string{fieldClientCA + ".secretKeyRef: is ignored beside value"},
		},
		"empty strings that must not be absent": {
			func(dp *v1alpha1.DataPlane) {
				dp.Spec.Gateway.Ingress = &v1alpha1.GatewayNetworkSpec{External: &v1alpha1.GatewayEndpointSpec{HTTP: &v1alpha1.GatewayListenerSpec{Port: 80}}}
				dp.Spec.SecretStoreRef = &v1alpha1.SecretStoreRef{}
			},
			[]string{
				"spec.gateway.ingress.external.name: must be set",
				"spec.gateway.ingress.external.namespace: must be set",
				"spec.gateway.ingress.external.http.host: must be set",
				"spec.secretStoreRef.name: must be set",
			},
		},
		"credentials": {
			func(dp *v1alpha1.DataPlane) {
				dp.Spec.KubernetesCluster, dp.Spec.Registry = old.KubernetesCluster, old.Registry
			},
			[]string{
				"spec.kubernetesCluster: API servers of OpenChoreo v1 drop it, and those of v0.3 drop spec.clusterAgent: keep one of them",
				"spec.registry: API servers of OpenChoreo v1 drop it",
			},
		},
		"other fields of v0.3": {
			func(dp *v1alpha1.DataPlane) {
				dp.Spec.Gateway, dp.Spec.Observer = old.Gateway, &v1alpha1.ObserverAPI{}
			},
			[]string{
				"spec.observer: API servers of OpenChoreo v1 drop it",
				"spec.gateway.publicVirtualHost: API servers of OpenChoreo v1 drop it",
				"spec.gateway.organizationVirtualHost: API servers of OpenChoreo v1 drop it",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := v1DataPlane(test.edit)
			before := dp.DeepCopy()
			warnings, errs := helpers.Validate(dp)
			assert.Empty(t, errs)
			assert.Equal(t, test.want, warnings)
			assert.Equal(t, before, dp)
		})
	}
}

func TestValidateOfBothShapesReportsTheFaultsOfBoth(t *testing.T) {
	_, errs := helpers.Validate(v1DataPlane(planeID("Prod"), func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials = dataplanetest.DataPlane("acme", "prod").Spec.KubernetesCluster.Credentials
		dp.Spec.KubernetesCluster.Credentials.CACert = ""
	}))
	require.Len(t, errs, 2)
	assert.Equal(t, "spec.planeID", errs[0].Field)
	assert.Equal(t, fieldCA, errs[1].Field)
}

// hack/integration writes the same objects to a real API server.
func TestValidateAgreesWithTheDefinitions(t *testing.T) {
	for file, read := range map[string]func([]byte) (*v1alpha1.DataPlane, error){
		"dataplane_v1.yaml": func(data []byte) (*v1alpha1.DataPlane, error) {
			var dp v1alpha1.DataPlane
			return &dp, json.Unmarshal(data, &dp)
		},
		"clusterdataplane.yaml": func(data []byte) (*v1alpha1.DataPlane, error) {
			var dp v1alpha1.ClusterDataPlane
			err := json.Unmarshal(data, &dp)
			return dp.AsDataPlane(), err
		},
	} {
		source, err := os.ReadFile("../apis/openchoreo/crds/testdata/" + file)
		require.NoError(t, err)
		source, err = yaml.ToJSON(source)
		require.NoError(t, err)
		var tests []struct {
			Name, Refused string
			Spec          json.RawMessage
		}
		require.NoError(t, json.Unmarshal(source, &tests))
		require.NotEmpty(t, tests)
		for _, test := range tests {
			t.Run(file+", "+test.Name, func(t *testing.T) {
				data, err := json.Marshal(map[string]any{"metadata": map[string]any{"name": "prod"}, "spec": test.Spec})
				require.NoError(t, err)
				dp, err := read(data)
				require.NoError(t, err)
				if file == "dataplane_v1.yaml" {
					dp.Namespace = "acme"
				}
				if agent := dp.Spec.ClusterAgent; agent != nil && !strings.HasPrefix(test.Refused, "spec.clusterAgent") {
					// The definitions accept any clientCA, the gateway doesn't.
					agent.ClientCA = v1DataPlane().Spec.ClusterAgent.ClientCA
				}
				warnings, errs := helpers.Validate(dp)
				switch {
				case test.Refused == "", strings.HasPrefix(test.Refused, "status."):
					assert.Empty(t, errs)
				case dp.Spec.ClusterAgent == nil: // judged as the shape of v0.3
					assert.NotEmpty(t, errs)
				case test.Name == "an empty planeID" && dp.Namespace != "": // Go leaves out the empty field
					assert.Empty(t, errs)
				case len(errs) > 0:
					assert.True(t, strings.HasPrefix(errs[0].Field+".", test.Refused+"."), errs[0])
				default: // Go writes an empty string, which the definition accepts
					require.NotEmpty(t, warnings)
					assert.Equal(t, test.Refused+": must be set", warnings[0])
				}
			})
		}
	}
}

func TestValidateV1OfManyFaultsSaysFewThingsInLinearTime(t *testing.T) {
	for name, text := range faulty() {
		t.Run(name, func(t *testing.T) {
			sized := func(size int) *v1alpha1.DataPlane { return v1DataPlane(caValue(bytes.Repeat(text, size/len(text)))) }
			warnings, errs := helpers.Validate(sized(48 << 10))
			assert.LessOrEqual(t, len(warnings), 5)
			assert.LessOrEqual(t, len(errs), 1)
			allocations := func(dp *v1alpha1.DataPlane) float64 {
				return testing.AllocsPerRun(1, func() { helpers.Validate(dp) })
			}
			assert.Less(t, allocations(sized(32<<10)), 2.5*allocations(sized(16<<10)))
		})
	}
}
