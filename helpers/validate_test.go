// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestValidateSound(t *testing.T) {
	warnings, errs := helpers.Validate(dataplanetest.DataPlane("default", "production-dataplane"))
	assert.Empty(t, warnings)
	assert.Empty(t, errs)
}

func TestValidateReportsEveryFaultWithItsField(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.APIServerURL = "https://user:hunter2@host"
	creds.CACert = ""
	creds.ClientCert = longText(2 << 20)
	creds.ClientKey = "hunter2"
	_, errs := helpers.Validate(dp)
	require.Len(t, errs, 4)
	for i, want := range []struct {
		field string
		kind  field.ErrorType
	}{
		{fieldServer, field.ErrorTypeInvalid},
		{fieldCA, field.ErrorTypeRequired},
		{fieldCert, field.ErrorTypeTooLong},
		{fieldKey, field.ErrorTypeInvalid},
	} {
		assert.Equal(t, want.field, errs[i].Field)
		assert.Equal(t, want.kind, errs[i].Type)
		assert.NotEmpty(t, errs[i].Detail)
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		assert.NotContains(t, fmt.Sprintf(verb, errs.ToAggregate()), "hunter2")
	}
}

func TestValidateWithoutCredentials(t *testing.T) {
	for name, dp := range map[string]*v1alpha1.DataPlane{"nil": nil, "later OpenChoreo": {}} {
		t.Run(name, func(t *testing.T) {
			_, errs := helpers.Validate(dp)
			require.Len(t, errs, 1)
			assert.Equal(t, "spec.kubernetesCluster.credentials", errs[0].Field)
			assert.Equal(t, field.ErrorTypeRequired, errs[0].Type)
		})
	}
	_, errs := helpers.Validate(nil)
	assert.Equal(t, "nil data plane", errs[0].Detail)
}

func TestValidateWarns(t *testing.T) {
	a, key := pki.New(), pki.ECDSAKey()
	later := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}
	set := func(cert *x509.Certificate) func(*v1alpha1.DataPlaneSpec) {
		return func(s *v1alpha1.DataPlaneSpec) {
			s.KubernetesCluster.Credentials.ClientCert = pki.Encode(pki.Certificates(cert))
			s.KubernetesCluster.Credentials.ClientKey = pki.Encode(pki.PKCS8(key))
		}
	}
	observer := func(url string) func(*v1alpha1.DataPlaneSpec) {
		return func(s *v1alpha1.DataPlaneSpec) { s.Observer = &v1alpha1.ObserverAPI{URL: url} }
	}
	for name, test := range map[string]struct {
		edit func(*v1alpha1.DataPlaneSpec)
		want string
	}{
		"expired client certificate":       {set(a.Issue("alice", key, pki.Expired)), fieldCert + ": certificate 1 expired at "},
		"client certificate not valid yet": {set(a.Issue("alice", key, later)), fieldCert + ": certificate 1 is not valid before "},
		"a private key beside the client certificate": {func(s *v1alpha1.DataPlaneSpec) {
			creds := &s.KubernetesCluster.Credentials
			creds.ClientCert = pki.Encode(append(pki.Decode(creds.ClientCert), pki.Decode(creds.ClientKey)...))
		}, fieldCert + ": contains a private key, which does not belong there"},
		"a client certificate that Go ignores": {func(s *v1alpha1.DataPlaneSpec) {
			cert := &s.KubernetesCluster.Credentials.ClientCert
			*cert = pki.Encode(append(pki.Decode(*cert), pki.Block("TRUSTED CERTIFICATE", a.Cert.Raw)...))
		}, fieldCert + ": certificate 2 can't be used: a certificate must be in a PEM block CERTIFICATE without headers"},
		"one unusable CA": {func(s *v1alpha1.DataPlaneSpec) {
			ca := &s.KubernetesCluster.Credentials.CACert
			*ca = pki.Encode(append(pki.Decode(*ca), pki.Block("CERTIFICATE", []byte("junk"))...))
		}, fieldCA + ": certificate 2 can't be used and is ignored"},
		"only expired CAs": {func(s *v1alpha1.DataPlaneSpec) {
			s.KubernetesCluster.Credentials.CACert = pki.Encode(pki.Certificates(a.Issue("alice", key, pki.Expired)))
		}, fieldCA + ": all certificates are expired"},
		"observer without TLS":      {observer("http://observer"), "spec.observer.url: must use https"},
		"observer without a scheme": {observer("observer"), "spec.observer.url: must start with https://"},
		"observer with password":    {observer("https://a:hunter2@b"), "spec.observer.url: must not contain a user name"},
		"observer with a colon in its user name": {func(s *v1alpha1.DataPlaneSpec) {
			s.Observer = &v1alpha1.ObserverAPI{URL: "https://observer"}
			s.Observer.Authentication.BasicAuth.Username = "hunter2:a"
		}, "spec.observer.authentication.basicAuth.username: must not contain a colon"},
		"registry with scheme": {
			func(s *v1alpha1.DataPlaneSpec) { s.Registry.Prefix = "https://docker.io" },
			"spec.registry.prefix: must be a registry without a scheme",
		},
		"no registry": {
			func(s *v1alpha1.DataPlaneSpec) { s.Registry.Prefix = "" },
			"spec.registry.prefix: must be a registry",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "production-dataplane")
			test.edit(&dp.Spec)
			warnings, errs := helpers.Validate(dp)
			assert.Empty(t, errs)
			require.Len(t, warnings, 1)
			assert.True(t, strings.HasPrefix(warnings[0], test.want), warnings[0])
			assert.NotContains(t, warnings[0], "hunter2")
			_, err := helpers.RESTConfigFor(dp)
			assert.NoError(t, err, "a warning is no error")
		})
	}
}

// encoding/pem, and therefore client-go, silently skips blocks that it can't read.
func TestValidateWarnsOfEachCertificateThatIsIgnored(t *testing.T) {
	ca := func() []byte { return pki.Certificates(pki.New().Cert) }
	one, two, three := ca(), ca(), ca()
	hint := ": BEGIN and END must each have a line of their own, without indentation or byte order mark, and the text between must be base64"
	unusual := ": a certificate must be in a PEM block CERTIFICATE without headers"
	for name, test := range map[string]struct {
		bundle  []byte
		ignored []int  // counted from 1
		kept    []byte // without the ignored certificates
		hint    string
	}{
		"all sound":                       {bundle: slices.Concat(one, two, three), kept: slices.Concat(one, two, three)},
		"two without a line break":        {bundle: slices.Concat(glue(one, two), three), ignored: []int{1, 2}, kept: three, hint: hint},
		"a byte order mark":               {bundle: slices.Concat([]byte(bom), one, two), ignored: []int{1}, kept: two, hint: hint},
		"an indented one":                 {bundle: slices.Concat(one, append(indent(two), '\n'), three), ignored: []int{2}, kept: slices.Concat(one, three), hint: hint},
		"a corrupt one":                   {bundle: slices.Concat(one, corrupt(two), three), ignored: []int{2}, kept: slices.Concat(one, three), hint: hint},
		"a cut one at the end":            {bundle: slices.Concat(one, two[:len(two)/2]), ignored: []int{2}, kept: one, hint: hint},
		"one that is no certificate":      {bundle: slices.Concat(one, pki.Block("CERTIFICATE", []byte("junk")), two), ignored: []int{2}, kept: slices.Concat(one, two)},
		"several, numbered as they are":   {bundle: slices.Concat(corrupt(one), two, corrupt(one), corrupt(one), three), ignored: []int{1, 3, 4}, kept: slices.Concat(two, three), hint: hint},
		"one of OpenSSL's own kind":       {bundle: slices.Concat(one, retyped(two, "TRUSTED CERTIFICATE")), ignored: []int{2}, kept: one, hint: unusual},
		"one of an older kind":            {bundle: slices.Concat(retyped(one, "X509 CERTIFICATE"), two), ignored: []int{1}, kept: two, hint: unusual},
		"one with headers":                {bundle: slices.Concat(one, withHeader(two), three), ignored: []int{2}, kept: slices.Concat(one, three), hint: unusual},
		"a damaged block of another kind": {bundle: slices.Concat(one, corrupt(pki.Block("X509 CRL", []byte("some text"))), two), kept: slices.Concat(one, two)},
	} {
		t.Run(name, func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "production-dataplane")
			dp.Spec.KubernetesCluster.Credentials.CACert = pki.Encode(test.bundle)
			warnings, errs := helpers.Validate(dp)
			assert.Empty(t, errs)
			var want []string
			for _, i := range test.ignored {
				want = append(want, fmt.Sprintf("%s: certificate %d can't be used and is ignored%s", fieldCA, i, test.hint))
			}
			assert.Equal(t, want, warnings)
			used, kept := x509.NewCertPool(), x509.NewCertPool()
			used.AppendCertsFromPEM(test.bundle)
			kept.AppendCertsFromPEM(test.kept)
			assert.True(t, kept.Equal(used), "crypto/x509 must ignore the same certificates")
		})
	}
}

func TestValidateNumbersClientCertificatesAsTheyAre(t *testing.T) {
	a, key := pki.New(), pki.ECDSAKey()
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	dp.Spec.KubernetesCluster.Credentials.ClientKey = pki.Encode(pki.PKCS8(key))
	dp.Spec.KubernetesCluster.Credentials.ClientCert = pki.Encode(slices.Concat(pki.Certificates(a.Issue("alice", key)),
		corrupt(pki.Certificates(a.Cert)), pki.Certificates(a.Issue("alice", key, pki.Expired))))
	warnings, errs := helpers.Validate(dp)
	assert.Empty(t, errs)
	require.Len(t, warnings, 2)
	assert.Contains(t, warnings[0], fieldCert+": certificate 2 can't be used: BEGIN and END must")
	assert.Contains(t, warnings[1], fieldCert+": certificate 3 expired at ")
}

func TestOneExpiredCAAmongOthersIsNoWarning(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	ca := &dp.Spec.KubernetesCluster.Credentials.CACert
	*ca = pki.Encode(append(pki.Decode(*ca), pki.Certificates(pki.New().Issue("alice", pki.ECDSAKey(), pki.Expired))...))
	warnings, errs := helpers.Validate(dp)
	assert.Empty(t, warnings)
	assert.Empty(t, errs)
}
