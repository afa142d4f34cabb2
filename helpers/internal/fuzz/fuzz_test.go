// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fuzz_test has the fuzz targets of helpers and of the packages below it. go test -fuzz
// compiles all dependencies once more. Don't import dataplanetest: it needs client-go's typed
// clients, which take minutes.
package fuzz_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/registry"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// FuzzCredentials feeds the parser of credentials. client-go must be able to send accepted
// credentials to a server that asks for a client certificate, and helpers.Validate must accept
// them. Errors must not contain refused values. The parser must accept every result of
// helpers.CredentialsFor.
func FuzzCredentials(f *testing.F) {
	authority, signer := pki.New(), pki.ECDSAKey()
	server, ca := "https://k8s-api.example.com:6443", pki.Encode(pki.Certificates(authority.Cert))
	cert, key := pki.Encode(pki.Certificates(authority.Issue("alice", signer))), pki.Encode(pki.PKCS8(signer))
	f.Add(server, ca, cert, key)
	f.Add("http://host", key, key, cert)
	f.Add("https://user:password@host?query#fragment", string(pki.Decode(ca)), "", pki.Encode([]byte(key)))
	f.Add("https://[::1]:6443", ca[:64]+"\n"+ca[64:], base64.RawURLEncoding.EncodeToString(pki.Decode(cert)), key+"=")
	f.Add("https://host/%2e%2e/", pki.Encode(pki.Block("CERTIFICATE", nil)), cert, pki.Encode(pki.Block("ENCRYPTED PRIVATE KEY", nil)))
	f.Add("https://BÜCHER.example", ca, cert, key)
	f.Add("host:6443/prefix", ca, pki.Encode(pki.Certificates(authority.Cert)), key)
	f.Add("https://host/a%2fb", ca, cert+pki.Encode(pki.Block("CERTIFICATE", []byte("junk"))), key)
	use := requester(f)
	f.Fuzz(func(t *testing.T, server, ca, cert, key string) {
		registered := &v1alpha1.DataPlane{}
		var err error
		registered.Spec.KubernetesCluster.Credentials, err = helpers.CredentialsFor(&rest.Config{Host: server, TLSClientConfig: rest.TLSClientConfig{
			CAData: decode(ca), CertData: decode(cert), KeyData: decode(key),
		}})
		if err == nil {
			_, err = helpers.RESTConfigFor(registered)
			require.NoError(t, err)
		}

		dp := &v1alpha1.DataPlane{}
		dp.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{
			APIServerURL: server, CACert: ca, ClientCert: cert, ClientKey: key,
		}
		config, err := helpers.RESTConfigFor(dp)
		warnings, errs := helpers.Validate(dp)
		assert.Equal(t, err == nil, len(errs) == 0, "%v / %v", err, errs)
		assert.LessOrEqual(t, len(warnings), 11)
		_ = helpers.Fingerprint(dp)
		_, _ = helpers.CertificateExpiry(dp)
		if err == nil {
			require.NoError(t, use(config))
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
		said := fmt.Sprintf("%v %v %v", err, errs, warnings)
		for _, value := range []string{server, ca, cert, key, string(decode(key))} {
			if len(value) > 60 { // a shorter value can be in a message by chance
				assert.NotContains(t, said, value)
			}
		}
	})
}

// decode decodes a text up to the first byte that isn't base64.
func decode(text string) []byte {
	data, _ := base64.StdEncoding.DecodeString(text)
	return data
}

// requester returns a function that sends a request with a configuration to a test server,
// whatever host the configuration names.
func requester(f *testing.F) func(*rest.Config) error {
	f.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	f.Cleanup(server.Close)
	return func(config *rest.Config) error {
		config = rest.CopyConfig(config)
		config.CAData, config.Insecure = nil, true // the server's certificate is another's
		config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
		config.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
		}
		config.NegotiatedSerializer = serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion()
		client, err := rest.UnversionedRESTClientFor(config)
		if err != nil {
			return err
		}
		defer client.Client.CloseIdleConnections()
		return client.Get().AbsPath("/version").Do(context.Background()).Error()
	}
}

// FuzzImageFor checks that an image is pulled from the registry in the prefix, below the path in
// the prefix.
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
