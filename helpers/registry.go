// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

const fieldRegistryPrefix = "spec.registry.prefix"

// ImageFor returns the full name of an image in the registry of dp: the prefix in its
// spec, a slash, and image, such as "docker.io/myorg/team/app:1.2" for "team/app:1.2".
// The image may have a tag, a digest, or both. A slash at the end of the prefix makes
// no difference.
//
// It is an error when image names a registry itself, or when either part is not what
// the grammar of image references allows (the OCI distribution specification, "pulling
// manifests"). ImageFor does not ask whether the image exists.
func ImageFor(dp *v1alpha1.DataPlane, image string) (string, error) {
	if dp == nil {
		return "", errors.New("nil data plane")
	}
	prefix := dp.Spec.Registry.Prefix
	if err := checkRegistryPrefix(prefix); err != nil {
		return "", fmt.Errorf("%s: %w", fieldRegistryPrefix, err)
	}
	name, isReference := referenceName(image)
	switch first, _, _ := strings.Cut(image, "/"); {
	case image == "":
		return "", errors.New("image: must be set")
	case strings.Contains(image, "/") && isHost(first):
		return "", fmt.Errorf("image %q: names a registry, which is what the data plane's prefix is for", image)
	case !isReference:
		return "", fmt.Errorf("image %q: want a name such as team/app, and a :tag or @digest if need be, in lower case", image)
	}
	prefix = strings.TrimRight(prefix, "/")
	if _, path, _ := strings.Cut(prefix+"/"+name, "/"); len(path) > maxRepository {
		return "", fmt.Errorf("image %q: longer than %d characters with the prefix", image, maxRepository)
	}
	return prefix + "/" + image, nil
}

// ImagePullSecretsFor returns what goes into the imagePullSecrets of a pod spec to pull
// images of dp: the Secret that its spec names, which must be in the namespace of the
// pod. It returns nil when there is none. The caller owns the result.
func ImagePullSecretsFor(dp *v1alpha1.DataPlane) []corev1.LocalObjectReference {
	if dp == nil || dp.Spec.Registry.SecretRef == "" {
		return nil
	}
	return []corev1.LocalObjectReference{{Name: dp.Spec.Registry.SecretRef}}
}

// maxRepository is how long a repository's name may be.
const maxRepository = 255

const (
	pathComponent = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	hostComponent = `(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])`
	host          = `(?:` + hostComponent + `(?:\.` + hostComponent + `)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?`
	path          = pathComponent + `(?:/` + pathComponent + `)*`
	tag           = `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
	digest        = `[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}`
)

var (
	hostPattern      = regexp.MustCompile(`^` + host + `$`)
	pathPattern      = regexp.MustCompile(`^` + path + `$`)
	referencePattern = regexp.MustCompile(`^(` + path + `)(?::` + tag + `)?(?:@` + digest + `)?$`)
)

func referenceName(image string) (name string, ok bool) {
	match := referencePattern.FindStringSubmatch(image)
	if match == nil {
		return "", false
	}
	return match[1], true
}

// isHost says whether the first part of a reference is a host, as container engines
// tell it from a path.
func isHost(first string) bool {
	return strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first
}

func checkRegistryPrefix(prefix string) error {
	trimmed := strings.TrimRight(prefix, "/")
	first, rest, more := strings.Cut(trimmed, "/")
	switch {
	case trimmed == "":
		return errors.New("must be set, to a registry such as docker.io/myorg")
	case strings.Contains(prefix, "://"):
		return errors.New("must not have a scheme: write docker.io/myorg, not https://docker.io/myorg")
	case isHost(first):
		if !hostPattern.MatchString(first) {
			return errors.New("does not begin with a host name and an optional port")
		}
	case !pathPattern.MatchString(first):
		return errors.New("has a part that is no part of an image's name, which is in lower case")
	}
	if more && !pathPattern.MatchString(rest) {
		return errors.New("has a path that is no part of an image's name, which is in lower case without tag")
	}
	return nil
}
