// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package redact replaces secrets by a marker, and finds it.
package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"slices"
	"strings"
)

// Marker stands in the place of a secret.
const Marker = "REDACTED"

// Annotations are those in which kubectl apply, kapp and Rancher keep a copy of the object.
var Annotations = []string{"kubectl.kubernetes.io/last-applied-configuration", "kapp.k14s.io/original", "objectset.rio.cattle.io/applied"}

// InAnnotations replaces the values of Annotations.
func InAnnotations(annotations map[string]string) {
	for key, value := range annotations {
		if slices.Contains(Annotations, key) {
			annotations[key] = Value(value)
		}
	}
}

// Value replaces a value unless it is empty.
func Value(value string) string {
	if value == "" {
		return ""
	}
	return Marker
}

// URL replaces a user name and password, and the whole text if one may be elsewhere in it too: in
// another URL, or behind a slash within the password.
func URL(value string) string {
	if !strings.Contains(value, "@") {
		return value
	}
	u, err := url.Parse(value)
	if err != nil || u.User == nil || strings.Count(value, "@") > 1 {
		return Marker
	}
	u.User = url.User(Marker)
	return u.String()
}

// UnlessCertificates replaces base64 that holds anything but PEM certificates, since a private key
// may be in their place: it compares the value with what it decodes, written anew.
func UnlessCertificates(value string) string {
	data, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return Marker
	}
	var certificates []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			block.Headers = nil
			certificates = append(certificates, pem.EncodeToMemory(block)...)
		}
	}
	if !bytes.Equal(withoutSpace(data), withoutSpace(certificates)) {
		return Marker
	}
	return value
}

func withoutSpace(data []byte) []byte { return bytes.Join(bytes.Fields(data), nil) }

// IsMarked reports whether Value or URL has replaced something in a value.
func IsMarked(value string) bool {
	return value == Marker || strings.Contains(value, "//"+Marker+"@")
}
