// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func inRegistry(prefix string) *v1alpha1.DataPlane {
	return &v1alpha1.DataPlane{Spec: v1alpha1.DataPlaneSpec{Registry: v1alpha1.Registry{Prefix: prefix}}}
}

func TestImageFor(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	for _, test := range []struct{ prefix, image, want string }{
		{"docker.io/myorg", "team/app:1.2", "docker.io/myorg/team/app:1.2"},
		{"docker.io/myorg/", "app", "docker.io/myorg/app"},
		{"docker.io/myorg//", "app", "docker.io/myorg/app"},
		{"docker.io", "app", "docker.io/app"},
		{"myorg", "app", "myorg/app"},
		{"localhost:5000", "app:v1", "localhost:5000/app:v1"},
		{"registry.example.com:5000/a/b", "c/d__e/f-g:V_1.x-y", "registry.example.com:5000/a/b/c/d__e/f-g:V_1.x-y"},
		{"[::1]:5000/x", "app", "[::1]:5000/x/app"},
		{"10.0.0.1:5000", "app@" + digest, "10.0.0.1:5000/app@" + digest},
		{"docker.io/myorg", "app:1.2@" + digest, "docker.io/myorg/app:1.2@" + digest},
	} {
		got, err := ImageFor(inRegistry(test.prefix), test.image)
		require.NoError(t, err, test)
		assert.Equal(t, test.want, got)
	}
}

func TestImageForRefuses(t *testing.T) {
	for _, test := range []struct{ prefix, image, says string }{
		{"", "app", "spec.registry.prefix: must be set"},
		{"/", "app", "spec.registry.prefix: must be set"},
		{"https://docker.io/myorg", "app", "spec.registry.prefix: must not have a scheme"},
		{"docker.io/MyOrg", "app", "spec.registry.prefix: has a path"},
		{"docker.io//myorg", "app", "spec.registry.prefix: has a path"},
		{"docker.io/myorg:1.2", "app", "spec.registry.prefix: has a path"},
		{"-docker.io", "app", "spec.registry.prefix: does not begin with a host"},
		{"my org", "app", "spec.registry.prefix: has a part"},
		{"docker.io", "", "image: must be set"},
		{"docker.io", "ghcr.io/team/app", "names a registry"},
		{"docker.io", "localhost/app", "names a registry"},
		{"docker.io", "host:5000/app", "names a registry"},
		{"docker.io", "docker.io/myorg/app:1.2", "names a registry"},
		{"docker.io", "/app", "want a name"},
		{"docker.io", "app/", "want a name"},
		{"docker.io", "a//b", "want a name"},
		{"docker.io", "App", "want a name"},
		{"docker.io", "app:", "want a name"},
		{"docker.io", "app:a:b", "want a name"},
		{"docker.io", "app@sha256:123", "want a name"},
		{"docker.io", "../app", "names a registry"},
		{"docker.io", "app:" + strings.Repeat("x", 129), "want a name"},
		{"docker.io/" + strings.Repeat("x", 250), "app/app", "longer than 255"},
	} {
		_, err := ImageFor(inRegistry(test.prefix), test.image)
		require.ErrorContains(t, err, test.says, test)
	}
	_, err := ImageFor(nil, "app")
	require.Error(t, err)
}

func TestImagePullSecretsFor(t *testing.T) {
	assert.Nil(t, ImagePullSecretsFor(nil))
	assert.Nil(t, ImagePullSecretsFor(inRegistry("docker.io")))
	dp := inRegistry("docker.io")
	dp.Spec.Registry.SecretRef = "registry-credentials"
	assert.Equal(t, []corev1.LocalObjectReference{{Name: "registry-credentials"}}, ImagePullSecretsFor(dp))
}

// FuzzImageFor checks that an image never ends up in another registry or repository than
// the prefix names.
func FuzzImageFor(f *testing.F) {
	f.Add("docker.io/myorg", "team/app:1.2")
	f.Add("localhost:5000/", "../x@sha256:00")
	f.Fuzz(func(t *testing.T, prefix, image string) {
		got, err := ImageFor(inRegistry(prefix), image)
		if err != nil {
			return
		}
		assert.True(t, strings.HasPrefix(got, strings.TrimRight(prefix, "/")+"/"), got)
		assert.NotContains(t, got, "..")
		assert.NotContains(t, strings.TrimPrefix(got, prefix), "//")
		assert.Equal(t, 0, strings.Count(got, " "))
	})
}
