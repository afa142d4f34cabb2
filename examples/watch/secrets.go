// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"

	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// hideSecrets returns a transform that replaces each secret by a digest. Use it in place of
// informer.DropSecrets if the informer must see that a secret has changed, or needs managed
// fields. The digest has a random key that never leaves the process, so nobody can check
// guesses against it. Annotations are replaced too, because tools keep copies of the whole
// object there.
func hideSecrets() (cache.TransformFunc, error) {
	key := make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	hide := func(secret string) string {
		if secret == "" {
			return ""
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(secret))
		return hex.EncodeToString(mac.Sum(nil))
	}
	return func(obj any) (any, error) {
		dp, ok := obj.(*openchoreov1alpha1.DataPlane)
		if !ok {
			return obj, nil
		}
		creds := &dp.Spec.KubernetesCluster.Credentials
		creds.ClientKey = hide(creds.ClientKey)
		if observer := dp.Spec.Observer; observer != nil {
			observer.Authentication.BasicAuth.Password = hide(observer.Authentication.BasicAuth.Password)
		}
		for name, value := range dp.Annotations {
			dp.Annotations[name] = hide(value)
		}
		return dp, nil
	}, nil
}
