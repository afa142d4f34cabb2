// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package registry names images and pull secrets for the registry of a DataPlane. Only DataPlanes of
// OpenChoreo v0.3 have one.
//
//	image, err := registry.ImageFor(dp, "team/app:1.2") // docker.io/myorg/team/app:1.2
//	if err != nil {
//		return err
//	}
//	pod.Spec.Containers[0].Image = image
//	pod.Spec.ImagePullSecrets = registry.PullSecretsFor(dp)
//
// It makes no request: it doesn't know whether an image or a Secret exists.
package registry

import (
	_ "crypto/sha256" // Digests are checked only for the algorithms that are linked.
	_ "crypto/sha512"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// ImageFor returns the full name of an image in the registry of dp: spec.registry.prefix,
// a slash, and image. The image may have a tag, a digest, or both. Slashes at the end of
// the prefix make no difference.
//
// It fails if dp is of OpenChoreo v1, if image names a registry itself, or if the prefix or the image isn't valid in an
// image reference, by the rules of container engines.
func ImageFor(dp *v1alpha1.DataPlane, image string) (string, error) {
	if dp == nil {
		return "", dataplane.ErrNil
	}
	prefix := strings.TrimRight(dp.Spec.Registry.Prefix, "/")
	if prefix == "" && dp.Spec.ClusterAgent != nil {
		return "", errors.New("spec.registry: data planes of OpenChoreo v1 have none")
	}
	if err := checkPrefix(prefix); err != nil {
		return "", fmt.Errorf("spec.registry.prefix: %w", err)
	}
	first, _, more := strings.Cut(image, "/")
	if more && (first == "localhost" || strings.ContainsAny(first, ".:")) {
		return "", fmt.Errorf("image %q: must not name a registry; spec.registry.prefix does", image)
	}
	full := prefix + "/" + image
	if _, err := reference.ParseNormalizedNamed(full); err != nil {
		return "", fmt.Errorf("image %q: %w", image, err)
	}
	return full, nil
}

func checkPrefix(prefix string) error {
	switch {
	case prefix == "":
		return errors.New("must be set, for example to docker.io/myorg")
	case strings.Contains(prefix, "://"):
		return errors.New("must not have a scheme; write docker.io/myorg, not https://docker.io/myorg")
	}
	name, err := reference.ParseNormalizedNamed(prefix + "/x")
	if err != nil {
		return err
	}
	if _, port, err := net.SplitHostPort(reference.Domain(name)); err == nil { // else it has none
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("must have a port from 1 to 65535")
		}
	}
	return nil
}

// PullSecretsFor returns the imagePullSecrets of a pod that runs images from the registry
// of dp: the Secret in spec.registry.secretRef, which must be in the pod's namespace. It
// returns nil if dp names none. The caller owns the result.
func PullSecretsFor(dp *v1alpha1.DataPlane) []corev1.LocalObjectReference {
	if dp == nil || dp.Spec.Registry.SecretRef == "" {
		return nil
	}
	return []corev1.LocalObjectReference{{Name: dp.Spec.Registry.SecretRef}}
}
