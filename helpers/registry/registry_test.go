// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/registry"
)

func inRegistry(prefix string) *v1alpha1.DataPlane {
	return &v1alpha1.DataPlane{Spec: v1alpha1.DataPlaneSpec{Registry: v1alpha1.Registry{Prefix: prefix}}}
}

func TestImageFor(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	long := strings.Repeat("x", 255)
	for _, test := range []struct{ prefix, image, want string }{
		{"docker.io/myorg", "team/app:1.2", "docker.io/myorg/team/app:1.2"},
		{"docker.io/myorg/", "app", "docker.io/myorg/app"},
		{"docker.io/myorg//", "app", "docker.io/myorg/app"},
		{"docker.io", "app", "docker.io/app"},
		{"myorg", "app", "myorg/app"},
		{"localhost", "app", "localhost/app"},
		{"localhost:5000", "app:v1", "localhost:5000/app:v1"},
		{"ghcr.io", long, "ghcr.io/" + long},
		{"registry.example.com:5000/a/b", "c/d__e/f-g:V_1.x-y", "registry.example.com:5000/a/b/c/d__e/f-g:V_1.x-y"},
		{"[::1]", "app", "[::1]/app"},
		{"[::1]:65535/x", "app", "[::1]:65535/x/app"},
		{"10.0.0.1:5000", "app@" + digest, "10.0.0.1:5000/app@" + digest},
		{"docker.io/myorg", "app:1.2@" + digest, "docker.io/myorg/app:1.2@" + digest},
		{"docker.io", "app@sha512:" + strings.Repeat("0", 128), "docker.io/app@sha512:" + strings.Repeat("0", 128)},
	} {
		got, err := registry.ImageFor(inRegistry(test.prefix), test.image)
		require.NoError(t, err, test)
		assert.Equal(t, test.want, got)
	}
}

func TestImageForRefuses(t *testing.T) {
	const prefix, image = "spec.registry.prefix: ", "image "
	for _, test := range []struct{ prefix, image, says string }{
		{"", "app", prefix + "must be set"},
		{"/", "app", prefix + "must be set"},
		{"https://docker.io/myorg", "app", prefix + "must not have a scheme"},
		{"docker.io/MyOrg", "app", prefix},
		{"docker.io//myorg", "app", prefix},
		{"docker.io/myorg:1.2", "app", prefix},
		{"docker.io/myorg@sha256:" + strings.Repeat("0", 64), "app", prefix},
		{"-docker.io", "app", prefix},
		{"my org", "app", prefix},
		{"docker.io:0", "app", prefix + "must have a port from 1 to 65535"},
		{"docker.io:99999", "app", prefix + "must have a port from 1 to 65535"},
		{"[::1]:99999", "app", prefix + "must have a port from 1 to 65535"},
		{"ghcr.io/" + strings.Repeat("x", 256), "app", prefix},
		{"docker.io", "", image},
		{"docker.io", "ghcr.io/team/app", "must not name a registry"},
		{"docker.io", "localhost/app", "must not name a registry"},
		{"docker.io", "host:5000/app", "must not name a registry"},
		{"docker.io", "docker.io/myorg/app:1.2", "must not name a registry"},
		{"docker.io", "../app", "must not name a registry"},
		{"docker.io", "/app", image},
		{"docker.io", "app/", image},
		{"docker.io", "a//b", image},
		{"docker.io", "App", image},
		{"docker.io", "Host/app", image},
		{"docker.io", "app:", image},
		{"docker.io", "app:a:b", image},
		{"docker.io", "app:" + strings.Repeat("x", 129), image},
		{"docker.io", "app@sha256:" + strings.Repeat("0", 32), image},
		{"docker.io", "app@sha256:" + strings.Repeat("0", 63), image},
		{"docker.io", "app@md5:" + strings.Repeat("0", 32), image},
		{"ghcr.io/" + strings.Repeat("x", 250), "app/app", image},
		{"myorg", strings.Repeat("x", 255), image}, // 261 characters on docker.io
	} {
		_, err := registry.ImageFor(inRegistry(test.prefix), test.image)
		require.ErrorContains(t, err, test.says, test)
	}
	_, err := registry.ImageFor(nil, "app")
	require.ErrorContains(t, err, "nil data plane")
	_, err = registry.ImageFor(&v1alpha1.DataPlane{Spec: v1alpha1.DataPlaneSpec{ClusterAgent: &v1alpha1.ClusterAgentConfig{}}}, "app")
	require.EqualError(t, err, "spec.registry: data planes of OpenChoreo v1 have none")
	_, err = registry.ImageFor(inRegistry("myorg"), strings.Repeat("x", 255))
	require.ErrorIs(t, err, reference.ErrNameTooLong)
}

func TestPullSecretsFor(t *testing.T) {
	assert.Nil(t, registry.PullSecretsFor(nil))
	assert.Nil(t, registry.PullSecretsFor(inRegistry("docker.io")))
	dp := inRegistry("docker.io")
	dp.Spec.Registry.SecretRef = "registry-credentials"
	assert.Equal(t, []corev1.LocalObjectReference{{Name: "registry-credentials"}}, registry.PullSecretsFor(dp))
}
