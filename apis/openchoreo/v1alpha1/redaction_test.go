// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

const (
	secretKey      = "c2VjcmV0LWtleQ=="
	secretPassword = "hunter2"
)

// certificate is base64 of a PEM block, which is all that is looked at.
var certificate = base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))

func secretDataPlane() v1alpha1.DataPlane {
	return v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Name: "prod", Namespace: "default", Annotations: map[string]string{
			"kubectl.kubernetes.io/last-applied-configuration": `{"spec":{"clientKey":"` + secretKey + `"}}`,
			"openchoreo.dev/display-name":                      "Production",
		}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}},
		Spec: v1alpha1.DataPlaneSpec{
			KubernetesCluster: v1alpha1.KubernetesClusterSpec{Credentials: v1alpha1.APIServerCredentials{
				APIServerURL: "https://admin:" + secretPassword + "@host:6443", ClientKey: secretKey, ClientCert: certificate,
			}},
			Observer: &v1alpha1.ObserverAPI{URL: "https://observer", Authentication: v1alpha1.ObserverAuthentication{
				BasicAuth: v1alpha1.BasicAuthCredentials{Username: "admin", Password: secretPassword},
			}},
		},
	}
}

// holders are all types that hold a secret, as values and as pointers, alone and in
// something else.
func holders() map[string]any {
	dp := secretDataPlane()
	list := v1alpha1.DataPlaneList{Items: []v1alpha1.DataPlane{dp}}
	cluster, observer := dp.Spec.KubernetesCluster, *dp.Spec.Observer
	type wrapper struct {
		Name string
		V    any
	}
	all := map[string]any{
		"DataPlane":              dp,
		"DataPlaneList":          list,
		"DataPlaneSpec":          dp.Spec,
		"KubernetesClusterSpec":  cluster,
		"APIServerCredentials":   cluster.Credentials,
		"ObserverAPI":            observer,
		"ObserverAuthentication": observer.Authentication,
		"BasicAuthCredentials":   observer.Authentication.BasicAuth,
		"*DataPlane":             &dp,
		"*DataPlaneList":         &list,
		"*DataPlaneSpec":         &dp.Spec,
		"*KubernetesClusterSpec": &cluster,
		"*APIServerCredentials":  &cluster.Credentials,
		"*ObserverAPI":           &observer,
		"*BasicAuthCredentials":  &observer.Authentication.BasicAuth,
		"[]DataPlane":            []v1alpha1.DataPlane{dp},
		"map":                    map[string]v1alpha1.DataPlane{"a": dp},
	}
	for name, value := range all {
		all["struct with "+name] = wrapper{"x", value}
	}
	return all
}

func TestFormattingShowsNoSecret(t *testing.T) {
	for name, value := range holders() {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "% x", "%08b", "%t", "%e", "%U", "%10.3v"} {
				assertNoSecret(t, fmt.Sprintf(verb, value), verb)
			}
			assertNoSecret(t, fmt.Sprint(value))
			assertNoSecret(t, fmt.Errorf("failed with %v", value).Error())
			assertNoSecret(t, errors.Join(fmt.Errorf("%+v", value)).Error())
			if stringer, ok := value.(fmt.Stringer); ok {
				assertNoSecret(t, stringer.String())
				assertNoSecret(t, value.(fmt.GoStringer).GoString())
			}
		})
	}
}

func TestLoggingShowsNoSecret(t *testing.T) {
	for name, value := range holders() {
		valuer, ok := value.(slog.LogValuer)
		if !ok {
			continue // inside of something else, a JSON logger writes the wire format
		}
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", valuer)
			slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", valuer)
			assertNoSecret(t, out.String())

			// What logr's JSON backends do with what MarshalLog returns.
			data, err := json.Marshal(value.(interface{ MarshalLog() any }).MarshalLog())
			require.NoError(t, err)
			assertNoSecret(t, string(data))
		})
	}
}

func TestRedactedKeepsEverythingElse(t *testing.T) {
	dp := secretDataPlane()
	before := dp.DeepCopy()
	redacted := dp.Redacted()
	assert.Equal(t, *before, dp, "the object itself must not be changed")

	before.ManagedFields = nil
	before.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = v1alpha1.Redacted
	creds := &before.Spec.KubernetesCluster.Credentials
	creds.APIServerURL, creds.ClientKey = "https://REDACTED@host:6443", v1alpha1.Redacted
	before.Spec.Observer.Authentication.BasicAuth.Password = v1alpha1.Redacted
	assert.Equal(t, before, redacted)

	var none *v1alpha1.DataPlane
	assert.Nil(t, none.Redacted())
	assert.Equal(t, &v1alpha1.DataPlane{}, (&v1alpha1.DataPlane{}).Redacted(), "what is empty stays empty")
	assert.Contains(t, fmt.Sprint(none), "nil")
}

func TestRedactedHidesMisplacedKeys(t *testing.T) {
	const key = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n"
	encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	for name, value := range map[string]string{
		"a key":                        encode(key),
		"PEM itself":                   key,
		"a key after a certificate":    encode("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n" + key),
		"encoded twice":                encode(encode(key)),
		"with spaces":                  encode(key)[:20] + " " + encode(key)[20:],
		"DER":                          encode("0\x00"),
		"something after certificates": encode("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\nhunter2"),
		"junk":                         "hunter2",
	} {
		t.Run(name, func(t *testing.T) {
			creds := v1alpha1.APIServerCredentials{CACert: value, ClientCert: value}
			assert.Equal(t, "{APIServerURL: CACert:REDACTED ClientCert:REDACTED ClientKey:}", creds.String())
		})
	}
	creds := v1alpha1.APIServerCredentials{CACert: certificate}
	assert.Contains(t, creds.String(), certificate)
}

func TestJSONStaysTheWire(t *testing.T) {
	dp := secretDataPlane()
	data, err := json.Marshal(dp)
	require.NoError(t, err)
	assert.Contains(t, string(data), `"clientKey":"`+secretKey+`"`)
	assert.Contains(t, string(data), `"password":"`+secretPassword+`"`)
}

func assertNoSecret(t *testing.T, text string, context ...any) {
	t.Helper()
	for _, secret := range []string{secretKey, secretPassword, fmt.Sprintf("%x", secretKey), fmt.Sprintf("%X", secretPassword), fmt.Sprintf("% x", secretKey)} {
		assert.NotContains(t, text, secret, context...)
	}
}
