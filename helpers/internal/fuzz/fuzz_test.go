// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fuzz_test has the fuzz targets of helpers and of the packages below it. go test -fuzz
// compiles all dependencies once more. Don't import dataplanetest: it needs client-go's typed
// clients, which take minutes.
package fuzz_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/pki"
	"github.com/openchoreo/dataplane-sdk-go/helpers/registry"
)

// FuzzCredentials feeds the parser. What it accepts, client-go must be able to use, and
// helpers.Validate must accept too; what it refuses must not be echoed.
func FuzzCredentials(f *testing.F) {
	authority, signer := pki.New(), pki.ECDSAKey()
	server, ca := "https://k8s-api.example.com:6443", pki.Encode(pki.Certificates(authority.Cert))
	cert, key := pki.Encode(pki.Certificates(authority.Issue("alice", signer))), pki.Encode(pki.PKCS8(signer))
	f.Add(server, ca, cert, key)
	f.Add("http://host", key, key, cert)
	f.Add("https://user:password@host?query#fragment", string(pki.Decode(ca)), "", pki.Encode([]byte(key)))
	f.Add("https://[::1]:6443", ca[:64]+"\n"+ca[64:], base64.RawURLEncoding.EncodeToString(pki.Decode(cert)), key+"=")
	f.Add("https://host/%2e%2e/", pki.Encode(pki.Block("CERTIFICATE", nil)), cert, pki.Encode(pki.Block("ENCRYPTED PRIVATE KEY", nil)))
	f.Fuzz(func(t *testing.T, server, ca, cert, key string) {
		dp := &v1alpha1.DataPlane{}
		dp.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{
			APIServerURL: server, CACert: ca, ClientCert: cert, ClientKey: key,
		}
		config, err := helpers.RESTConfigFor(dp)
		warnings, errs := helpers.Validate(dp)
		assert.Equal(t, err == nil, len(errs) == 0, "%v / %v", err, errs)
		_ = helpers.Fingerprint(dp)
		_, _ = helpers.CertificateExpiry(dp)
		if err == nil {
			_, err := rest.TLSConfigFor(config)
			require.NoError(t, err)
			_, _, err = rest.DefaultServerUrlFor(config)
			require.NoError(t, err)
			creds, err := helpers.CredentialsFor(config)
			require.NoError(t, err)
			dp.Spec.KubernetesCluster.Credentials = creds
			config, err = helpers.RESTConfigFor(dp)
			require.NoError(t, err)
			again, err := helpers.CredentialsFor(config)
			require.NoError(t, err)
			assert.Equal(t, creds, again)
			assert.Equal(t, server, config.Host)
			return
		}
		assert.Nil(t, config)
		decoded, _ := base64.StdEncoding.DecodeString(key) // as far as it is base64
		said := fmt.Sprintf("%v %v %v", err, errs, warnings)
		for _, value := range []string{server, ca, cert, key, string(decoded)} {
			if len(value) > 60 { // shorter ones can be in a message by chance
				assert.NotContains(t, said, value)
			}
		}
	})
}

// FuzzImageFor checks that an image is pulled from the registry that the prefix names,
// below the path that it names.
func FuzzImageFor(f *testing.F) {
	f.Add("docker.io/myorg", "team/app:1.2")
	f.Add("localhost:5000/", "../x@sha256:00")
	f.Fuzz(func(t *testing.T, prefix, image string) {
		dp := &v1alpha1.DataPlane{Spec: v1alpha1.DataPlaneSpec{Registry: v1alpha1.Registry{Prefix: prefix}}}
		full, err := registry.ImageFor(dp, image)
		if err != nil {
			return
		}
		assert.Equal(t, strings.TrimRight(prefix, "/")+"/"+image, full)
		got, err := reference.ParseNormalizedNamed(full)
		require.NoError(t, err)
		want, err := reference.ParseNormalizedNamed(strings.TrimRight(prefix, "/") + "/a/b")
		require.NoError(t, err)
		assert.Equal(t, reference.Domain(want), reference.Domain(got))
		assert.NotContains(t, reference.Path(got), "..")
	})
}
