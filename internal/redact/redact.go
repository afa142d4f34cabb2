// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package redact replaces secrets by a marker, and detects the marker.
package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/url"
	"slices"
	"strings"
)

// Marker replaces a secret.
const Marker = "REDACTED"

// Annotations hold a copy of the object, which kubectl apply, kapp and Rancher keep there.
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

// URL replaces a URL's user name and password. It replaces the whole text if another password, or
// the rest of one, may be elsewhere: in a second URL, or after a slash in the password.
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

// UnlessCertificates replaces a value unless it is base64 of PEM certificates and nothing else: it
// may hold a private key by mistake. It encodes the decoded certificates and compares the results.
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

// Error returns err, or another error if the text of err shows PEM or a JSON Web Token: a program may
// set the name of a file to the secret itself, since both are strings, and errors about files show
// their names.
func Error(err error) error {
	const begin, beginInBase64, token = "-----BEGIN ", "LS0tLS1CRUdJTi", "eyJhbGciOi" // {"alg": in base64
	if err == nil {
		return nil
	}
	switch text := err.Error(); {
	case strings.Contains(text, begin), strings.Contains(text, beginInBase64):
		return errors.New("the name of a file is PEM; set CAData, CertData or KeyData to PEM")
	case strings.Contains(text, token):
		return errors.New("the name of a file is a token; set BearerToken to a token")
	}
	return err
}

// IsMarked reports whether Value or URL has replaced something in a value.
func IsMarked(value string) bool {
	return value == Marker || strings.Contains(value, "//"+Marker+"@")
}
