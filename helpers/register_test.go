// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestCredentialsForIsTheInverseOfRESTConfigFor(t *testing.T) {
	a := pki.New()
	for name, key := range privateKeys(t) {
		t.Run(name, func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "production-dataplane")
			want := &dp.Spec.KubernetesCluster.Credentials
			want.ClientCert, want.ClientKey = pki.Encode(pki.Certificates(a.Issue("alice", key.Signer))), pki.Encode(key.PEM)
			config, err := helpers.RESTConfigFor(dp)
			require.NoError(t, err)
			before := *config
			creds, err := helpers.CredentialsFor(config)
			require.NoError(t, err)
			want.ClientKey = pki.Encode(key.PEM[bytes.LastIndex(key.PEM, []byte("-----BEGIN ")):]) // without EC PARAMETERS
			assert.Equal(t, *want, creds)
			assert.Equal(t, before, *config, "the configuration stays as it is")
		})
	}
}

// kubeadm writes certificate and key to the same file.
func TestCredentialsForKeepsThePrivateKeyOutOfTheCertificate(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	config, err := helpers.RESTConfigFor(dp)
	require.NoError(t, err)
	both := slices.Concat([]byte("a comment\n"), config.CertData, config.KeyData)
	config.CertData, config.KeyData = both, both
	creds, err := helpers.CredentialsFor(config)
	require.NoError(t, err)
	assert.Equal(t, dp.Spec.KubernetesCluster.Credentials, creds)
}

func TestCredentialsForReadsAKubeconfig(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	kubeconfig, err := helpers.KubeconfigFor(dp)
	require.NoError(t, err)
	inline := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*kubeconfig, inline))

	dir := t.TempDir()
	for _, cluster := range kubeconfig.Clusters {
		cluster.CertificateAuthorityData, cluster.CertificateAuthority = nil, writeFile(t, dir, "ca.crt", cluster.CertificateAuthorityData)
	}
	for _, user := range kubeconfig.AuthInfos {
		user.ClientCertificateData, user.ClientCertificate = nil, writeFile(t, dir, "tls.crt", user.ClientCertificateData)
		user.ClientKeyData, user.ClientKey = nil, writeFile(t, dir, "tls.key", user.ClientKeyData)
	}
	files := filepath.Join(dir, "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*kubeconfig, files))

	for name, file := range map[string]string{"with data": inline, "with files": files} {
		t.Run(name, func(t *testing.T) {
			config, err := clientcmd.BuildConfigFromFlags("", file)
			require.NoError(t, err)
			before := *config
			creds, err := helpers.CredentialsFor(config)
			require.NoError(t, err)
			assert.Equal(t, dp.Spec.KubernetesCluster.Credentials, creds)
			assert.Equal(t, before, *config, "the configuration stays as it is")
		})
	}
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return file
}

func TestCredentialsForIgnoresPreferencesOfTheClient(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	config, err := helpers.RESTConfigFor(dp)
	require.NoError(t, err)
	config.QPS, config.Burst, config.Timeout = 1, 2, time.Second
	config.UserAgent, config.ContentType, config.DisableCompression = "tool/v1", "application/json", true
	config.Host = "127.0.0.1:1" // client-go would use https
	creds, err := helpers.CredentialsFor(config)
	require.NoError(t, err)
	assert.Equal(t, dp.Spec.KubernetesCluster.Credentials, creds)
}

func TestCredentialsForRefusesWhatADataPlaneCannotHold(t *testing.T) {
	const refused = ": can't be stored in a DataPlane"
	same := func(rt http.RoundTripper) http.RoundTripper { return rt }
	for name, test := range map[string]struct {
		edit func(*rest.Config)
		want string
	}{
		"Username":           {func(c *rest.Config) { c.Username = "hunter2" }, "Username" + refused},
		"Password":           {func(c *rest.Config) { c.Password = "hunter2" }, "Password" + refused},
		"BearerToken":        {func(c *rest.Config) { c.BearerToken = "hunter2" }, "BearerToken" + refused},
		"BearerTokenFile":    {func(c *rest.Config) { c.BearerTokenFile = "/token" }, "BearerTokenFile" + refused},
		"user impersonated":  {func(c *rest.Config) { c.Impersonate.UserName = "root" }, "Impersonate" + refused},
		"UID impersonated":   {func(c *rest.Config) { c.Impersonate.UID = "0" }, "Impersonate" + refused},
		"group impersonated": {func(c *rest.Config) { c.Impersonate.Groups = []string{"wheel"} }, "Impersonate" + refused},
		"extra impersonated": {func(c *rest.Config) { c.Impersonate.Extra = map[string][]string{"a": nil} }, "Impersonate" + refused},
		"AuthProvider":       {func(c *rest.Config) { c.AuthProvider = &clientcmdapi.AuthProviderConfig{} }, "AuthProvider" + refused},
		"ExecProvider":       {func(c *rest.Config) { c.ExecProvider = &clientcmdapi.ExecConfig{} }, "ExecProvider" + refused},
		"Insecure":           {func(c *rest.Config) { c.Insecure = true }, "TLSClientConfig.Insecure" + refused},
		"ServerName":         {func(c *rest.Config) { c.ServerName = "other" }, "TLSClientConfig.ServerName" + refused},
		"Transport":          {func(c *rest.Config) { c.Transport = http.DefaultTransport }, "Transport" + refused},
		"WrapTransport":      {func(c *rest.Config) { c.WrapTransport = same }, "WrapTransport" + refused},
		"Dial": {func(c *rest.Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, nil }
		}, "Dial" + refused},
		"Proxy":       {func(c *rest.Config) { c.Proxy = http.ProxyURL(&url.URL{}) }, "Proxy" + refused},
		"no host":     {func(c *rest.Config) { c.Host = "" }, "Host: must be set, to a URL such as https://host:6443"},
		"http":        {func(c *rest.Config) { c.Host = "http://hunter2" }, "Host: must use https: credentials are sent only over TLS"},
		"a user name": {func(c *rest.Config) { c.Host = "https://hunter2@host" }, "Host: must not contain a user name or password"},
		"an address with a path and no scheme": {
			func(c *rest.Config) { c.Host = "10.0.0.1:6443/hunter2" }, "Host: must be a URL or host:port",
		},
		"half a scheme":                    {func(c *rest.Config) { c.Host = "https//hunter2" }, "Host: must be a URL or host:port"},
		"a path that client-go can't send": {func(c *rest.Config) { c.Host = "https://host/a%2Fhunter2" }, "Host: must not contain an escaped slash (%2F): client-go would send it as a slash"},
		"a certificate too long when its lines are wrapped": {
			func(c *rest.Config) { c.CertData = onOneLine(t, c.CertData, 384<<10) },
			"TLSClientConfig.CertData: must not be longer than 512 KiB of base64",
		},
		"no CA":        {func(c *rest.Config) { c.CAData = nil }, "TLSClientConfig.CAData: must be set"},
		"no cert":      {func(c *rest.Config) { c.CertData = nil }, "TLSClientConfig.CertData: must be set"},
		"no key":       {func(c *rest.Config) { c.KeyData = nil }, "TLSClientConfig.KeyData: must be set"},
		"a broken key": {func(c *rest.Config) { c.KeyData = []byte("hunter2") }, "TLSClientConfig.KeyData: contains no PEM block PRIVATE KEY"},
		"a missing file": {
			func(c *rest.Config) { c.KeyData, c.KeyFile = nil, "/nonexistent/tls.key" },
			"TLSClientConfig: open /nonexistent/tls.key: no such file or directory",
		},
		"PEM in place of a file's name": {
			func(c *rest.Config) { c.KeyFile, c.KeyData = string(c.KeyData), nil },
			"TLSClientConfig: the name of a file is PEM; set CAData, CertData or KeyData to PEM",
		},
		"base64 of PEM in place of a file's name": {
			func(c *rest.Config) { c.KeyFile, c.KeyData = pki.Encode(c.KeyData), nil },
			"TLSClientConfig: the name of a file is PEM; set CAData, CertData or KeyData to PEM",
		},
		"several": {
			func(c *rest.Config) { *c = rest.Config{Host: "http://host", BearerToken: "hunter2"} },
			"BearerToken" + refused + "\nHost: must use https: credentials are sent only over TLS\n" +
				"TLSClientConfig.CAData: must be set\nTLSClientConfig.CertData: must be set\nTLSClientConfig.KeyData: must be set",
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "production-dataplane"))
			require.NoError(t, err)
			test.edit(config)
			creds, err := helpers.CredentialsFor(config)
			require.EqualError(t, err, test.want)
			assert.Equal(t, v1alpha1.APIServerCredentials{}, creds)
		})
	}
	_, err := helpers.CredentialsFor(nil)
	require.EqualError(t, err, "nil rest.Config")
}

// onOneLine returns PEM of a certificate with its base64 on one line, repeated up to a size.
func onOneLine(t *testing.T, certificate []byte, size int) []byte {
	t.Helper()
	block, _ := pem.Decode(certificate)
	require.NotNil(t, block)
	one := []byte("-----BEGIN CERTIFICATE-----\n" + pki.Encode(block.Bytes) + "\n-----END CERTIFICATE-----\n")
	return bytes.Repeat(one, size/len(one))
}
