// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
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

// certificate is base64 of a PEM block. Redacted doesn't parse the DER in it.
var certificate = base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))

func secretDataPlane() v1alpha1.DataPlane {
	return v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Name: "prod", Namespace: "default", Annotations: map[string]string{
			"kubectl.kubernetes.io/last-applied-configuration": `{"spec":{"clientKey":"` + secretKey + `"}}`,
			"kapp.k14s.io/original":                            secretKey,
			"objectset.rio.cattle.io/applied":                  secretKey, // Rancher
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

// holders returns every type that holds a secret, as value and pointer, alone and nested.
func holders() map[string]any {
	dp := secretDataPlane()
	list := v1alpha1.DataPlaneList{Items: []v1alpha1.DataPlane{dp}}
	cluster, observer := dp.Spec.KubernetesCluster, *dp.Spec.Observer
	type wrapper struct {
		Name string
		V    any
	}
	all := map[string]any{
		"DataPlane":               dp,
		"DataPlaneList":           list,
		"DataPlaneSpec":           dp.Spec,
		"KubernetesClusterSpec":   cluster,
		"APIServerCredentials":    cluster.Credentials,
		"ObserverAPI":             observer,
		"ObserverAuthentication":  observer.Authentication,
		"BasicAuthCredentials":    observer.Authentication.BasicAuth,
		"*DataPlane":              &dp,
		"*DataPlaneList":          &list,
		"*DataPlaneSpec":          &dp.Spec,
		"*KubernetesClusterSpec":  &cluster,
		"*APIServerCredentials":   &cluster.Credentials,
		"*ObserverAPI":            &observer,
		"*ObserverAuthentication": &observer.Authentication,
		"*BasicAuthCredentials":   &observer.Authentication.BasicAuth,
		"[]DataPlane":             []v1alpha1.DataPlane{dp},
		"map":                     map[string]v1alpha1.DataPlane{"a": dp},
	}
	for name, value := range all {
		all["struct with "+name] = wrapper{"x", value}
	}
	return all
}

func TestFormattingShowsNoSecret(t *testing.T) {
	for name, value := range holders() {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{
				"%v", "%+v", "%#v", "%s", "%+s", "%#s", "%q", "%#q", "%d", "%c", "%o", "%x", "%X", "% x", "%#x", "%b", "%08b", "%t",
				"%e", "%E", "%f", "%g", "%G", "%O", "%U", "%T", "%10.3v", "%z", "%-300v", "no verb", "%[2]v", "%*v",
			} {
				assertNoSecret(t, fmt.Sprintf(verb, value), verb)
			}
			assertNoSecret(t, fmt.Sprint(value))
			assertNoSecret(t, fmt.Sprintln(value))
			assertNoSecret(t, fmt.Errorf("failed with %v", value).Error())
			if stringer, ok := value.(fmt.Stringer); ok {
				assertNoSecret(t, stringer.String())
				if !strings.Contains(name, "DataPlane") || strings.Contains(name, "Spec") { // these show a name instead
					assert.Contains(t, stringer.String(), "REDACTED")
				}
			}
		})
	}
}

func TestLoggingShowsNoSecret(t *testing.T) {
	for name, value := range holders() {
		valuer, ok := value.(slog.LogValuer)
		if !ok {
			continue // JSON loggers write the wire format of nested values
		}
		t.Run(name, func(t *testing.T) {
			assertNoSecret(t, logged(valuer))

			// The JSON backends of logr marshal what MarshalLog returns.
			data, err := json.Marshal(value.(interface{ MarshalLog() any }).MarshalLog())
			require.NoError(t, err)
			assertNoSecret(t, string(data))
		})
	}
}

// logged returns the output of slog, as JSON and as text.
func logged(value any) string {
	var out bytes.Buffer
	withoutTime := &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	slog.New(slog.NewJSONHandler(&out, withoutTime)).Info("x", "value", value)
	slog.New(slog.NewTextHandler(&out, withoutTime)).Info("x", "value", value)
	return out.String()
}

// Certificates would fill the log of a controller.
func TestLogsIdentifyDataPlanes(t *testing.T) {
	dp := secretDataPlane()
	dp.Generation = 4
	dp.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True"}, {Type: "Connected", Status: "False"}}
	const object = `{"namespace":"default","name":"prod","generation":4,"conditions":["Ready=True","Connected=False"]}`
	for name, test := range map[string]struct {
		value interface {
			MarshalLog() any
			String() string
		}
		json, text, short string
	}{
		"DataPlane": {
			dp, object,
			`value.namespace=default value.name=prod value.generation=4 value.conditions="[Ready=True Connected=False]"`,
			`[namespace=default name=prod generation=4 conditions=[Ready=True Connected=False]]`,
		},
		"*DataPlane": {
			&dp, object,
			`value.namespace=default value.name=prod value.generation=4 value.conditions="[Ready=True Connected=False]"`,
			`[namespace=default name=prod generation=4 conditions=[Ready=True Connected=False]]`,
		},
		"DataPlaneList": {
			v1alpha1.DataPlaneList{Items: []v1alpha1.DataPlane{dp, dp}},
			`["default/prod","default/prod"]`,
			`value="[default/prod default/prod]"`,
			`[default/prod default/prod]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, `{"level":"INFO","msg":"x","value":`+test.json+"}\nlevel=INFO msg=x "+test.text+"\n", logged(test.value))
			data, err := json.Marshal(test.value.MarshalLog())
			require.NoError(t, err)
			assert.JSONEq(t, test.json, string(data))
			assert.Equal(t, test.short, test.value.String(), "which klog writes")
		})
	}
}

// Methods that cover values can't accept a nil pointer. slog and fmt recover.
func TestNilPointersDoNotPanic(t *testing.T) {
	var none *v1alpha1.DataPlane
	assert.Contains(t, logged(none), `level=INFO msg=x value="LogValue panicked`)
	assert.Equal(t, "<nil>", fmt.Sprint(none))
	assert.Nil(t, none.Redacted())
}

func TestRedactedKeepsEverythingElse(t *testing.T) {
	dp := secretDataPlane()
	before := dp.DeepCopy()
	redacted := dp.Redacted()
	assert.Equal(t, *before, dp, "the object itself must not be changed")

	before.ManagedFields = nil
	for _, annotation := range []string{
		"kubectl.kubernetes.io/last-applied-configuration", "kapp.k14s.io/original", "objectset.rio.cattle.io/applied",
	} {
		before.Annotations[annotation] = v1alpha1.Redacted
	}
	creds := &before.Spec.KubernetesCluster.Credentials
	creds.APIServerURL, creds.ClientKey = "https://REDACTED@host:6443", v1alpha1.Redacted
	before.Spec.Observer.Authentication.BasicAuth.Password = v1alpha1.Redacted
	assert.Equal(t, before, redacted)

	assert.Equal(t, &v1alpha1.DataPlane{}, (&v1alpha1.DataPlane{}).Redacted(), "empty fields stay empty")
}

func TestRedactedShowsCertificatesAndNothingElse(t *testing.T) {
	const (
		key  = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n"
		cert = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
	)
	encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	for name, test := range map[string]struct {
		value string
		shown bool
	}{
		"a certificate":           {encode(cert), true},
		"certificates":            {encode(cert + "\n" + cert), true},
		"lines of Windows":        {encode(strings.ReplaceAll(cert, "\n", "\r\n")), true},
		"base64 in lines":         {encode(cert)[:20] + "\n" + encode(cert)[20:] + "\n", true},
		"a key":                   {encode(key), false},
		"PEM itself":              {key, false},
		"a certificate itself":    {cert, false},
		"a key after":             {encode(cert + key), false},
		"a key between":           {encode(cert + key + cert), false},
		"encoded twice":           {encode(encode(key)), false},
		"base64 with a space":     {encode(key)[:20] + " " + encode(key)[20:], false},
		"DER":                     {encode("0\x00"), false},
		"text before":             {encode("hunter2\n" + cert), false},
		"text between":            {encode(cert + "hunter2\n" + cert), false},
		"text after":              {encode(cert + "hunter2"), false},
		"a header":                {encode(strings.Replace(cert, "\nMAA=", "\nPassword: hunter2\n\nMAA=", 1)), false},
		"a key without its frame": {encode(cert + "MHcCAQEEIA=="), false},
		"junk":                    {"hunter2", false},
	} {
		t.Run(name, func(t *testing.T) {
			creds := v1alpha1.APIServerCredentials{CACert: test.value, ClientCert: test.value}
			want := v1alpha1.Redacted
			if test.shown {
				want = test.value
			}
			assert.Equal(t, "{APIServerURL: CACert:"+want+" ClientCert:"+want+" ClientKey:}", creds.String())
		})
	}
}

func TestRedactedHidesEveryUserInAURL(t *testing.T) {
	for url, want := range map[string]string{
		"https://host/path":                                "https://host/path",
		"https://admin:hunter2@host/path":                  "https://REDACTED@host/path",
		"https://admin:hunter2@host:port":                  v1alpha1.Redacted,
		"https://host/?next=https://admin:hunter2@other":   v1alpha1.Redacted,
		"https://admin:hunt@er/2@host":                     v1alpha1.Redacted,
		"https://a@host/?next=https://admin:hunter2@other": v1alpha1.Redacted,
		"https://a@host/#https://admin:hunter2@other":      v1alpha1.Redacted,
		"https://a@host/https://admin:hunter2@other":       v1alpha1.Redacted,
		"https://admin:hunter2/@host@other":                v1alpha1.Redacted,
	} {
		dp := v1alpha1.DataPlane{Spec: v1alpha1.DataPlaneSpec{Observer: &v1alpha1.ObserverAPI{URL: url}}}
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = url
		redacted := dp.Redacted()
		assert.Equal(t, want, redacted.Spec.KubernetesCluster.Credentials.APIServerURL, url)
		assert.Equal(t, want, redacted.Spec.Observer.URL, url)
	}
}

func TestJSONKeepsSecrets(t *testing.T) {
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
