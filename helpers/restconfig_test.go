// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestRESTConfigForHoldsWhatTheSpecSays(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	before := dp.DeepCopy()

	config, err := helpers.RESTConfigFor(dp)
	require.NoError(t, err)

	creds := dp.Spec.KubernetesCluster.Credentials
	assert.Equal(t, creds.APIServerURL, config.Host)
	assert.Equal(t, creds.CACert, pki.Encode(config.CAData))
	assert.Equal(t, creds.ClientCert, pki.Encode(config.CertData))
	assert.Equal(t, creds.ClientKey, pki.Encode(config.KeyData))
	assert.False(t, config.Insecure)
	assert.Zero(t, config.Timeout, "a timeout would cut watches")
	assert.EqualValues(t, 50, config.QPS)
	assert.Equal(t, 100, config.Burst)

	config.KeyData[0] ^= 1
	assert.Equal(t, before, dp, "the caller owns the configuration, and its changes don't reach the object")
}

// The test makes a real connection: the client must verify the server against the CA in the
// spec, and the server must see the client certificate of the spec.
func TestRESTConfigForConnectsWithMutualTLS(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	get := func() (string, error) {
		config, err := helpers.RESTConfigFor(dp)
		require.NoError(t, err)
		client, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		body, err := client.Discovery().RESTClient().Get().AbsPath("/whoami").DoRaw(t.Context())
		return string(body), err
	}
	user, err := get()
	require.NoError(t, err)
	assert.Equal(t, "alice", user)

	dp.Spec.KubernetesCluster.Credentials.CACert = dataplanetest.DataPlane("default", "production-dataplane").Spec.KubernetesCluster.Credentials.CACert
	_, err = get()
	var unknownAuthority x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknownAuthority, "the CA in the spec did not sign the server's certificate")
}

func TestRESTConfigForServerURL(t *testing.T) {
	for server, want := range map[string]helpers.CredentialsReason{
		"https://k8s-api.example.com:6443":  "",
		"https://k8s-api.example.com":       "",
		"https://k8s-api.example.com:6443/": "",
		"https://k8s-api.example.com.:6443": "",
		"https://10.0.0.1:6443":             "",
		"https://[::1]:6443":                "",
		"https://[::1]":                     "",
		"https://host:":                     "",
		"https://[fe80::1%25eth0]:6443":     "",
		"https://localhost/k8s/clusters/c1": "",
		"https://node_1.kind":               "",
		"https://host/a%20b/%c3%bc":         "",

		"":                           helpers.CredentialsReasonRequired,
		"http://k8s-api.example.com": helpers.CredentialsReasonInsecureURL,
		"HTTP://k8s-api.example.com": helpers.CredentialsReasonInsecureURL,
		"ftp://k8s-api.example.com":  helpers.CredentialsReasonInvalidURL,
		"k8s-api.example.com:6443":   helpers.CredentialsReasonInvalidURL,
		"k8s-api.example.com":        helpers.CredentialsReasonInvalidURL,
		"https://":                   helpers.CredentialsReasonInvalidURL,
		"https://:6443":              helpers.CredentialsReasonInvalidURL,
		"https://host:99999":         helpers.CredentialsReasonInvalidURL,
		"https://host:0":             helpers.CredentialsReasonInvalidURL,
		"https://bücher.example":     helpers.CredentialsReasonInvalidURL,
		"https://BÜCHER.example":     helpers.CredentialsReasonInvalidURL, // which net/http would dial without end
		"https://b%C3%BCcher":        helpers.CredentialsReasonInvalidURL,
		"https://host:6443:1":        helpers.CredentialsReasonInvalidURL,
		"https://fd00::1:6443":       helpers.CredentialsReasonInvalidURL,
		"https://::1":                helpers.CredentialsReasonInvalidURL,
		"https://ho]st":              helpers.CredentialsReasonInvalidURL,
		"https:k8s-api.example.com":  helpers.CredentialsReasonInvalidURL,
		"https://user:hunter2@host":  helpers.CredentialsReasonInvalidURL,
		"https://host?token=hunter2": helpers.CredentialsReasonInvalidURL,
		"https://host?":              helpers.CredentialsReasonInvalidURL,
		"https://host#hunter2":       helpers.CredentialsReasonInvalidURL,
		"https://host#":              helpers.CredentialsReasonInvalidURL,
		"https://[::1":               helpers.CredentialsReasonInvalidURL,
		"https://user:hunter2@[::1":  helpers.CredentialsReasonInvalidURL,
		"https://host/%zz":           helpers.CredentialsReasonInvalidURL,
		"https://host\n":             helpers.CredentialsReasonInvalidURL,
		" https://host":              helpers.CredentialsReasonInvalidURL,
		"https://host:6443/a b":      helpers.CredentialsReasonInvalidURL,
		"https://host\u00a0":         helpers.CredentialsReasonInvalidURL,
		"https://host/a%2Fb":         helpers.CredentialsReasonInvalidURL,
		"https://host/a%2fb":         helpers.CredentialsReasonInvalidURL,
		"https://<host>:6443":        helpers.CredentialsReasonInvalidURL,

		"https://host/" + longText(2<<10): helpers.CredentialsReasonTooLarge,
	} {
		t.Run(fmt.Sprintf("%.40q", server), func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "production-dataplane")
			dp.Spec.KubernetesCluster.Credentials.APIServerURL = server
			requireFault(t, dp, fieldServer, want, "hunter2")
		})
	}
}

func TestRESTConfigForNamesTheSchemeThatIsMissing(t *testing.T) {
	for _, server := range []string{"10.0.0.1:6443", "host:6443", "host", "[::1]:6443", "https//host", "https:/host", "://host"} {
		dp := dataplanetest.DataPlane("default", "production-dataplane")
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = server
		_, err := helpers.RESTConfigFor(dp)
		assert.EqualError(t, err, fieldServer+": InvalidURL: must start with https://", server)
	}
}

func TestRESTConfigForWithoutCredentials(t *testing.T) {
	config, err := helpers.RESTConfigFor(&v1alpha1.DataPlane{})
	assert.Nil(t, config)
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
	assert.NotErrorIs(t, err, helpers.ErrInvalidCredentials)
	assert.ErrorContains(t, err, "and no spec.clusterAgent")

	_, err = helpers.RESTConfigFor(dataplanetest.DataPlane("default", "prod", dataplanetest.V1))
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
	assert.ErrorContains(t, err, "use helpers.ConfigFor")

	_, err = helpers.RESTConfigFor(nil)
	require.EqualError(t, err, "nil data plane")
}

func TestRESTConfigForNamesAFieldThatWasRedacted(t *testing.T) {
	_, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "production-dataplane").Redacted())
	require.ErrorIs(t, err, helpers.ErrSecretsDropped)
	require.ErrorContains(t, err, "spec.kubernetesCluster.credentials.clientKey: ")
}

func TestConfigForServesBothGenerations(t *testing.T) {
	gateway := &rest.Config{Host: "https://gateway"}
	configFor := helpers.ConfigFor(gateway)
	gateway.Host = "https://changed" // which concerns nobody

	old := dataplanetest.DataPlane("acme", "old")
	server := old.Spec.KubernetesCluster.Credentials.APIServerURL
	config, err := configFor(old)
	require.NoError(t, err)
	assert.Equal(t, server, config.Host)

	config, err = configFor(agentDataPlane())
	require.NoError(t, err)
	assert.Equal(t, "https://gateway/api/proxy/dataplane/prod/acme/prod/k8s", config.Host)

	config, err = configFor(dataplanetest.DataPlane("acme", "old", func(dp *v1alpha1.DataPlane) {
		dp.Spec.ClusterAgent = agentDataPlane().Spec.ClusterAgent
	}))
	require.NoError(t, err)
	assert.Equal(t, server, config.Host, "credentials are the shorter way")

	_, err = configFor(&v1alpha1.DataPlane{})
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
	_, err = configFor(nil)
	require.EqualError(t, err, "nil data plane")
	_, err = helpers.ConfigFor(nil)(agentDataPlane())
	require.EqualError(t, err, "gateway: must be set: the data plane is reached through OpenChoreo's cluster gateway")
}

func TestRESTConfigForReportsAllFaultsAtOnce(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.APIServerURL = "http://host"
	creds.CACert = ""
	creds.ClientCert, creds.ClientKey = creds.ClientKey, creds.ClientCert

	_, err := helpers.RESTConfigFor(dp)
	require.ErrorIs(t, err, helpers.ErrInvalidCredentials)
	assert.Regexp(t, `(?s)apiServerURL: InsecureURL.*caCert: Required.*clientCert: InvalidPEM.*swapped\?.*clientKey: InvalidPEM.*swapped\?`, err.Error())
}

// BenchmarkRESTConfigFor compares RESTConfigFor with decoding and parsing the same material.
func BenchmarkRESTConfigFor(b *testing.B) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	b.Run("floor", func(b *testing.B) {
		creds := dp.Spec.KubernetesCluster.Credentials
		for b.Loop() {
			ca, err := base64.StdEncoding.DecodeString(creds.CACert)
			require.NoError(b, err)
			cert, err := base64.StdEncoding.DecodeString(creds.ClientCert)
			require.NoError(b, err)
			key, err := base64.StdEncoding.DecodeString(creds.ClientKey)
			require.NoError(b, err)
			block, _ := pem.Decode(ca)
			_, err = x509.ParseCertificate(block.Bytes)
			require.NoError(b, err)
			_, err = tls.X509KeyPair(cert, key)
			require.NoError(b, err)
		}
	})
	b.Run("sdk", func(b *testing.B) {
		for b.Loop() {
			_, err := helpers.RESTConfigFor(dp)
			require.NoError(b, err)
		}
	})
}
