// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func soundDataPlane(t testing.TB) *v1alpha1.DataPlane {
	dp := newDataPlane(t)
	dp.Spec.Registry.Prefix = "docker.io/myorg"
	return dp
}

func TestValidateSound(t *testing.T) {
	warnings, errs := Validate(soundDataPlane(t))
	assert.Empty(t, warnings)
	assert.Empty(t, errs)
}

func TestValidateReportsEveryFaultWithItsField(t *testing.T) {
	dp := soundDataPlane(t)
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.APIServerURL = "https://user:hunter2@host"
	creds.CACert = ""
	creds.ClientCert = longText(2 << 20)
	creds.ClientKey = "hunter2"
	_, errs := Validate(dp)
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
			_, errs := Validate(dp)
			require.Len(t, errs, 1)
			assert.Equal(t, "spec.kubernetesCluster.credentials", errs[0].Field)
			assert.Equal(t, field.ErrorTypeRequired, errs[0].Type)
		})
	}
}

func TestValidateWarns(t *testing.T) {
	a, key := newAuthority(t), newECDSAKey(t)
	later := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}
	set := func(cert *x509.Certificate) func(*v1alpha1.DataPlaneSpec) {
		return func(s *v1alpha1.DataPlaneSpec) {
			s.KubernetesCluster.Credentials.ClientCert = encode(pemCertificate(cert))
			s.KubernetesCluster.Credentials.ClientKey = encode(pemPKCS8(t, key))
		}
	}
	observer := func(url string) func(*v1alpha1.DataPlaneSpec) {
		return func(s *v1alpha1.DataPlaneSpec) { s.Observer = &v1alpha1.ObserverAPI{URL: url} }
	}
	for name, test := range map[string]struct {
		edit func(*v1alpha1.DataPlaneSpec)
		want string
	}{
		"expired client certificate":  {set(a.issue(key, expired)), fieldCert + ": certificate 0 expired at "},
		"client certificate of later": {set(a.issue(key, later)), fieldCert + ": certificate 0 is not valid before "},
		"one unusable CA": {func(s *v1alpha1.DataPlaneSpec) {
			ca := &s.KubernetesCluster.Credentials.CACert
			*ca = encode(append(decode(*ca), pemBlock("CERTIFICATE", []byte("junk"))...))
		}, fieldCA + ": certificate 1 can't be parsed and is left out"},
		"only expired CAs": {func(s *v1alpha1.DataPlaneSpec) {
			s.KubernetesCluster.Credentials.CACert = encode(pemCertificate(a.issue(key, expired)))
		}, fieldCA + ": all certificates are expired"},
		"observer without TLS":   {observer("http://observer"), fieldObserverURL + ": sends the password in clear text over http"},
		"observer that is none":  {observer("observer"), fieldObserverURL + ": must start with https:// or http://"},
		"observer with password": {observer("https://a:hunter2@b"), fieldObserverURL + ": must not contain a user name"},
		"registry with scheme": {
			func(s *v1alpha1.DataPlaneSpec) { s.Registry.Prefix = "https://docker.io" },
			fieldRegistryPrefix + ": must not have a scheme",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := soundDataPlane(t)
			test.edit(&dp.Spec)
			warnings, errs := Validate(dp)
			assert.Empty(t, errs)
			require.Len(t, warnings, 1)
			assert.True(t, strings.HasPrefix(warnings[0], test.want), warnings[0])
			assert.NotContains(t, warnings[0], "hunter2")
			_, err := RESTConfigFor(dp)
			assert.NoError(t, err, "a warning is no error")
		})
	}
}

func TestOneExpiredCAAmongOthersIsNoWarning(t *testing.T) {
	dp := soundDataPlane(t)
	ca := &dp.Spec.KubernetesCluster.Credentials.CACert
	*ca = encode(append(decode(*ca), pemCertificate(newAuthority(t).issue(newECDSAKey(t), expired))...))
	warnings, errs := Validate(dp)
	assert.Empty(t, warnings)
	assert.Empty(t, errs)
}

func TestCertificateExpiryIsTheEarliestOfTheChain(t *testing.T) {
	a, key := newAuthority(t), newECDSAKey(t)
	leaf, intermediate := a.issue(key), a.issue(newECDSAKey(t), expired)
	dp := newDataPlane(t)
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.ClientCert = encode(pemCertificate(leaf, intermediate))
	creds.ClientKey = "" // does not matter
	expiry, err := CertificateExpiry(dp)
	require.NoError(t, err)
	assert.Equal(t, intermediate.NotAfter, expiry)

	creds.ClientCert = "?"
	_, err = CertificateExpiry(dp)
	require.ErrorIs(t, err, ErrInvalidCredentials)
	creds.ClientCert = encode([]byte("?"))
	_, err = CertificateExpiry(dp)
	require.ErrorIs(t, err, ErrInvalidCredentials)
	_, err = CertificateExpiry(nil)
	require.ErrorIs(t, err, ErrNoCredentials)
	_, err = CertificateExpiry(&v1alpha1.DataPlane{})
	require.ErrorIs(t, err, ErrNoCredentials)
}

func TestFingerprint(t *testing.T) {
	dp := newDataPlane(t)
	fingerprint := Fingerprint(dp)
	assert.Regexp(t, "^[0-9a-f]{64}$", fingerprint)

	same := dp.DeepCopy()
	same.Name, same.UID, same.Generation = "other", "uid-2", 9
	same.Spec.Gateway.PublicVirtualHost = "changed"
	assert.Equal(t, fingerprint, Fingerprint(same), "nothing else counts")

	seen := map[string]bool{fingerprint: true}
	for _, edit := range []func(*v1alpha1.APIServerCredentials){
		func(c *v1alpha1.APIServerCredentials) { c.APIServerURL += "/" },
		func(c *v1alpha1.APIServerCredentials) { c.CACert += "\n" },
		func(c *v1alpha1.APIServerCredentials) { c.ClientCert += "\n" },
		func(c *v1alpha1.APIServerCredentials) { c.ClientKey += "\n" },
		// What moves from one value into the next.
		func(c *v1alpha1.APIServerCredentials) {
			c.CACert, c.ClientCert = c.CACert[:len(c.CACert)-1], c.CACert[len(c.CACert)-1:]+c.ClientCert
		},
	} {
		changed := dp.DeepCopy()
		edit(&changed.Spec.KubernetesCluster.Credentials)
		assert.False(t, seen[Fingerprint(changed)])
		seen[Fingerprint(changed)] = true
	}
	assert.Empty(t, Fingerprint(nil))
	assert.Empty(t, Fingerprint(&v1alpha1.DataPlane{}))
}

func TestKubeconfigForIsWhatClientcmdReads(t *testing.T) {
	dp := newDataPlane(t)
	kubeconfig, err := KubeconfigFor(dp, WithServerName("kubernetes"))
	require.NoError(t, err)
	data, err := clientcmd.Write(*kubeconfig)
	require.NoError(t, err)
	read, err := clientcmd.RESTConfigFromKubeConfig(data)
	require.NoError(t, err)
	want, err := RESTConfigFor(dp, WithServerName("kubernetes"))
	require.NoError(t, err)
	assert.Equal(t, want.Host, read.Host)
	assert.Equal(t, want.TLSClientConfig, read.TLSClientConfig)
	assert.Equal(t, "production-dataplane", kubeconfig.CurrentContext)

	unnamed := newDataPlane(t)
	unnamed.Name = ""
	kubeconfig, err = KubeconfigFor(unnamed)
	require.NoError(t, err)
	assert.Equal(t, "dataplane", kubeconfig.CurrentContext)
	_, err = KubeconfigFor(nil)
	require.ErrorIs(t, err, ErrNoCredentials)
}

// FuzzCredentials feeds the parser. What it accepts, client-go must be able to use, and
// Validate must accept too; what it refuses must not be echoed.
func FuzzCredentials(f *testing.F) {
	dp := newDataPlane(f)
	c := dp.Spec.KubernetesCluster.Credentials
	f.Add(c.APIServerURL, c.CACert, c.ClientCert, c.ClientKey)
	f.Add("http://host", c.ClientKey, c.ClientKey, c.ClientCert)
	f.Add("https://user:password@host?query#fragment", string(decode(c.CACert)), "", encode([]byte(c.ClientKey)))
	f.Add("https://[::1]:6443", wrap(c.CACert, "\n"), base64.RawURLEncoding.EncodeToString(decode(c.ClientCert)), c.ClientKey+"=")
	f.Add("https://host/%2e%2e/", encode(pemBlock("CERTIFICATE", nil)), c.ClientCert, encode(pemBlock("ENCRYPTED PRIVATE KEY", nil)))
	f.Fuzz(func(t *testing.T, server, ca, cert, key string) {
		dp := &v1alpha1.DataPlane{}
		dp.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{
			APIServerURL: server, CACert: ca, ClientCert: cert, ClientKey: key,
		}
		config, err := RESTConfigFor(dp)
		warnings, errs := Validate(dp)
		assert.Equal(t, err == nil, len(errs) == 0, "%v / %v", err, errs)
		_ = Fingerprint(dp)
		_, _ = CertificateExpiry(dp)
		if err == nil {
			r, err := NewRemote(dp)
			require.NoError(t, err)
			r.Close()
			assert.Equal(t, server, config.Host)
			return
		}
		assert.Nil(t, config)
		said := fmt.Sprintf("%v %v %v", err, errs, warnings)
		for _, value := range []string{server, ca, cert, key, string(lenientDecode(key))} {
			if len(value) > 60 { // shorter ones can be in a message by chance
				assert.NotContains(t, said, value)
			}
		}
	})
}

func lenientDecode(value string) []byte {
	data, _ := base64.StdEncoding.DecodeString(value)
	return data
}
