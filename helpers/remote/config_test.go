// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestWhatConfigForSetsTakesEffectAtOnce(t *testing.T) {
	server := testserver.New(t, echoHeader)
	tokens := t.TempDir()
	for name, test := range map[string]struct {
		set    func(config *rest.Config, value string)
		header string
		prefix string
	}{
		"bearer token": {
			func(config *rest.Config, value string) { config.BearerToken = value }, "Authorization", "Bearer ",
		},
		"bearer token file": {
			func(config *rest.Config, value string) {
				config.BearerTokenFile = filepath.Join(tokens, value)
				assert.NoError(t, os.WriteFile(config.BearerTokenFile, []byte(value), 0o600))
			}, "Authorization", "Bearer ",
		},
		"impersonated user": {
			func(config *rest.Config, value string) { config.Impersonate.UserName = value }, "Impersonate-User", "",
		},
		"impersonated group": {
			func(config *rest.Config, value string) {
				config.Impersonate = rest.ImpersonationConfig{UserName: "x", Groups: []string{value}}
			}, "Impersonate-Group", "",
		},
		"user agent": {func(config *rest.Config, value string) { config.UserAgent = value }, "User-Agent", ""},
		"WrapTransport, with something else": {
			func(config *rest.Config, value string) {
				config.UserAgent = value
				config.Wrap(func(next http.RoundTripper) http.RoundTripper {
					return roundTripper(func(req *http.Request) (*http.Response, error) {
						req = req.Clone(req.Context())
						req.Header.Set("X-Wrapped", value)
						return next.RoundTrip(req)
					})
				})
			}, "X-Wrapped", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			value := "first"
			dp := server.DataPlane("prod", "alice")
			c := newCluster(t, dp, editConfig(func(config *rest.Config) { test.set(config, value) }))
			for _, value = range []string{"first", "second", "third"} {
				require.NoError(t, c.Update(dp))
				sent, err := get(t.Context(), c, "/"+test.header)
				require.NoError(t, err)
				assert.Equal(t, test.prefix+value, sent)
			}
		})
	}
}

func TestWhatAClusterCannotHonourIsRefusedByName(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("x") }
	for field, edit := range map[string]func(*rest.Config){
		"ExecProvider": func(config *rest.Config) { config.ExecProvider = &clientcmdapi.ExecConfig{Command: "x"} },
		"AuthProvider": func(config *rest.Config) { config.AuthProvider = &clientcmdapi.AuthProviderConfig{Name: "x"} },
		"Transport":    func(config *rest.Config) { config.Transport = http.DefaultTransport },
		"Timeout":      func(config *rest.Config) { config.Timeout = time.Second },
		"Dial":         func(config *rest.Config) { config.Dial = dial },
	} {
		t.Run(field, func(t *testing.T) {
			options := editConfig(edit)
			options.DialControl = denyAddress
			_, err := remote.NewCluster(dp, options)
			require.ErrorContains(t, err, "data plane default/production-dataplane: rest.Config field "+field+": ")
		})
	}
	_, err := remote.NewCluster(dp, remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) { return nil, nil }})
	require.ErrorContains(t, err, "ConfigFor returned no configuration")
}

func TestHostsThatCannotBeUsedAreRefusedWithoutShowingThem(t *testing.T) {
	for name, host := range map[string]string{
		"a user name and a password": "https://user:hunter2@api.example.com",
		"a user name":                "https://hunter2@api.example.com",
		"both, and no URL":           "https://user:hunter2@[::1",
		"both, and no scheme":        "user:hunter2@api.example.com",
		"a query":                    "https://api.example.com?token=hunter2",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod"), editConfig(func(config *rest.Config) { config.Host = host }))
			require.ErrorContains(t, err, "data plane default/prod: rest.Config field Host: ")
			assert.NotContains(t, err.Error(), "hunter2")

			used := "https://api.example.com"
			c := newCluster(t, dataplanetest.DataPlane("default", "prod"), editConfig(func(config *rest.Config) { config.Host = used }))
			used = host
			err = c.Update(dataplanetest.DataPlane("default", "prod"))
			require.Error(t, err)
			for _, text := range []string{err.Error(), c.String(), c.Config().Host} {
				assert.NotContains(t, text, "hunter2")
			}
		})
	}
}

func TestAnotherSpellingOfTheAddressIsTheSameServer(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"trailing slash":           {"https://host:6443", "https://host:6443/"},
		"trailing slash of a path": {"https://host/clusters/a/", "https://host/clusters/a"},
		"doubled slash":            {"https://host/clusters/a", "https://host//clusters//a"},
		"default port":             {"https://host", "https://host:443"},
		"empty port":               {"https://host", "https://host:"},
		"default port of http":     {"http://host:80", "http://host"},
		"upper-case host":          {"https://host.example.org", "https://Host.Example.ORG"},
		"upper-case scheme":        {"https://host", "HTTPS://host"},
		"no scheme":                {"https://host:6443", "host:6443"},
		"long IPv6":                {"https://[2001:db8::1]:6443", "https://[2001:0DB8:0:0:0:0:0:1]:6443"},
		"IPv4 written as IPv6":     {"https://192.0.2.1", "https://[::ffff:192.0.2.1]"},
		"dots in the path":         {"https://host/b", "https://host/./a/../b"},
		"escaped path":             {"https://host/a~b", "https://host/a%7Eb"},
	} {
		t.Run(name, func(t *testing.T) {
			host, rotations := test.before, 0
			options := editConfig(func(config *rest.Config) { config.Host = host })
			options.OnRotate = func(types.NamespacedName) { rotations++ }
			dp := dataplanetest.DataPlane("default", "prod")
			c := newCluster(t, dp, options)
			for _, host = range []string{test.after, test.before, test.after} {
				require.NoError(t, c.Update(dp), host)
			}
			assert.Zero(t, rotations)
		})
	}
}

func TestAnotherAddressIsAnotherServer(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"host":               {"https://host", "https://host2"},
		"name of the host":   {"https://host.example.org", "https://host.example.org."},
		"port":               {"https://host:6443", "https://host:6444"},
		"scheme":             {"https://host:443", "http://host:443"},
		"path":               {"https://host/clusters/a", "https://host/clusters/b"},
		"upper-case path":    {"https://host/clusters/a", "https://host/clusters/A"},
		"more of a path":     {"https://host", "https://host/clusters"},
		"IPv6":               {"https://[2001:db8::1]", "https://[2001:db8::1:1]"},
		"zone of an address": {"https://[fe80::1%25eth0]", "https://[fe80::1%25eth1]"},
	} {
		t.Run(name, func(t *testing.T) {
			host := test.before
			dp := dataplanetest.DataPlane("default", "prod")
			c := newCluster(t, dp, editConfig(func(config *rest.Config) { config.Host = host }))
			host = test.after
			require.ErrorIs(t, c.Update(dp), remote.ErrServerChanged)
		})
	}
}

func TestFilesOfCredentialsAreReadAgainByUpdate(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	files := t.TempDir()
	ca, cert, key := filepath.Join(files, "ca"), filepath.Join(files, "cert"), filepath.Join(files, "key")
	write := func(file, data string) { require.NoError(t, os.WriteFile(file, pki.Decode(data), 0o600)) }
	dp := server.DataPlane("prod", "alice")
	alice, bob := dp.Spec.KubernetesCluster.Credentials, server.DataPlane("prod", "bob").Spec.KubernetesCluster.Credentials
	write(ca, dataplanetest.DataPlane("default", "production-dataplane").Spec.KubernetesCluster.Credentials.CACert)
	write(cert, alice.ClientCert)
	write(key, alice.ClientKey)
	c := newCluster(t, dp, editConfig(func(config *rest.Config) {
		config.TLSClientConfig = rest.TLSClientConfig{CAFile: ca, CertFile: cert, KeyFile: key}
	}))
	assertClassified(t, remote.ReachabilityTLSFailure, c.Probe(t.Context()))

	write(ca, alice.CACert)
	require.NoError(t, c.Update(dp))
	user, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	assert.Equal(t, "alice", user)

	write(cert, bob.ClientCert)
	write(key, bob.ClientKey)
	require.NoError(t, c.Update(dp))
	user, err = get(t.Context(), c, "/")
	require.NoError(t, err)
	assert.Equal(t, "bob", user)
}

// A file is empty for a moment when it is written in place.
func TestEmptyFilesOfCredentialsAreNotTaken(t *testing.T) {
	for name, test := range map[string]struct {
		empty []string
		field string
	}{
		"the CA, without which the system's would be trusted":            {[]string{"ca"}, "CAFile"},
		"certificate and key, without which the user would be anonymous": {[]string{"cert", "key"}, "CertFile"},
	} {
		t.Run(name, func(t *testing.T) {
			server := testserver.New(t, testserver.WhoAmI)
			dp, files := server.DataPlane("prod", "alice"), t.TempDir()
			creds := dp.Spec.KubernetesCluster.Credentials
			file := func(name string) string { return filepath.Join(files, name) }
			write := func(name string, data []byte) { require.NoError(t, os.WriteFile(file(name), data, 0o600)) }
			write("ca", pki.Decode(creds.CACert))
			write("cert", pki.Decode(creds.ClientCert))
			write("key", pki.Decode(creds.ClientKey))
			var rotations atomic.Int32
			options := editConfig(func(config *rest.Config) {
				config.TLSClientConfig = rest.TLSClientConfig{CAFile: file("ca"), CertFile: file("cert"), KeyFile: file("key")}
			})
			options.OnRotate = func(types.NamespacedName) { rotations.Add(1) }
			c := newCluster(t, dp, options.WithAsking(time.Nanosecond, never))
			for _, name := range test.empty {
				write(name, nil)
			}
			user, err := get(t.Context(), c, "/")
			require.NoError(t, err)
			assert.Equal(t, "alice", user)
			assert.Zero(t, rotations.Load())
			err = c.Update(dp)
			assertClassified(t, remote.ReachabilityInvalidCredentials, err)
			assert.ErrorContains(t, err, "rest.Config field "+test.field+": the file is empty")
		})
	}
}

func TestAFaultInTheTLSConfigurationNamesItsField(t *testing.T) {
	_, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod"), editConfig(func(config *rest.Config) {
		config.KeyData = []byte("no PEM")
	}))
	assertClassified(t, remote.ReachabilityInvalidCredentials, err)
	require.ErrorContains(t, err, "data plane default/prod: rest.Config field TLSClientConfig: ")
}

// KeyFile takes a string, and KeyData bytes, so a program can confuse them without an error of the compiler.
func TestAKeyInPlaceOfAFileIsNotShown(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "prod")
	key := dp.Spec.KubernetesCluster.Credentials.ClientKey
	for name, file := range map[string]string{"PEM": string(pki.Decode(key)), "base64 of PEM": key} {
		t.Run(name, func(t *testing.T) {
			_, err := remote.NewCluster(dp, editConfig(func(config *rest.Config) { config.KeyFile, config.KeyData = file, nil }))
			require.EqualError(t, err, "data plane default/prod: rest.Config field CAFile, CertFile or KeyFile: "+
				"the name of a file is PEM; set CAData, CertData or KeyData to PEM")
		})
	}
}

func TestATokenInPlaceOfAFileIsNotShown(t *testing.T) {
	_, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod"), editConfig(func(config *rest.Config) {
		config.BearerTokenFile = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.c2ln"
	}))
	require.EqualError(t, err, "data plane default/prod: HTTP transport: the name of a file is a token; set BearerToken to a token")
}

func TestANewSerializerIsNoRotation(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	rotations := 0
	options := editConfig(func(config *rest.Config) {
		config.NegotiatedSerializer = serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion()
	})
	options.OnRotate = func(types.NamespacedName) { rotations++ }
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, options)
	require.NoError(t, c.Update(dp))
	assert.Zero(t, rotations)
}
