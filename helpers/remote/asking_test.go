// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"errors"
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

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// A file is empty for a moment when it is written in place.
func TestEmptyFilesOfCredentialsAreNotTaken(t *testing.T) {
	for name, empty := range map[string][]string{
		"the CA, without which the system's would be trusted":            {"ca"},
		"certificate and key, without which the user would be anonymous": {"cert", "key"},
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
			for _, name := range empty {
				write(name, nil)
			}
			user, err := get(t.Context(), c, "/")
			require.NoError(t, err)
			assert.Equal(t, "alice", user)
			assert.Zero(t, rotations.Load())
			require.Error(t, c.Update(dp))
		})
	}
}

func TestASerializerThatIsMadeAnewIsNoRotation(t *testing.T) {
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

// The last refusal's error is of credentials that were replaced since.
func TestAnErrorOfConfigForIsForgottenWithItsCredentials(t *testing.T) {
	server := testserver.New(t, unauthorized)
	secret := &tokens{token: "one"}
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, remote.Options{ConfigFor: secret.configFor}.WithAsking(never, never))
	secret.set("", errors.New("no such Secret"))
	body, err := get(t.Context(), c, "/")
	require.ErrorContains(t, err, "401")
	require.Contains(t, body, "no such Secret")
	secret.set("two", nil)
	require.NoError(t, c.Update(dp))
	body, err = get(t.Context(), c, "/")
	require.ErrorContains(t, err, "401")
	assert.NotContains(t, body, "no such Secret")
}
