// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
)

// Redacted stands in the place of a secret that is not shown.
const Redacted = "REDACTED"

// copyAnnotations are where kubectl apply and kapp keep the whole object, secrets
// included.
var copyAnnotations = [...]string{
	"kubectl.kubernetes.io/last-applied-configuration",
	"kapp.k14s.io/original",
}

// Redacted returns a deep copy without secrets. The client key and the observer's
// password are replaced by [Redacted], and so is what may hold a secret where none
// belongs: a user name or password in a URL, whatever is in place of a certificate and is
// none, and the copies of the object that kubectl apply and kapp keep in annotations. What
// is empty stays empty. Managed fields are left out: they hold no values and are long.
//
// It is what is shown when a DataPlane is formatted or logged. It is not fit to be
// written back. It returns nil for nil.
//
// Two things show secrets all the same. JSON and YAML are the wire format, also where a
// logger marshals something that a DataPlane is inside of, as slog's JSON handler and
// klog do with a slice of them. And package fmt can't ask a DataPlane that is in an
// unexported field of another type how to show it.
func (in *DataPlane) Redacted() *DataPlane {
	if in == nil {
		return nil
	}
	out := in.DeepCopy()
	out.ManagedFields = nil
	for _, annotation := range copyAnnotations {
		if out.Annotations[annotation] != "" {
			out.Annotations[annotation] = Redacted
		}
	}
	out.Spec = out.Spec.redacted()
	return out
}

// The types below all hold a secret somewhere, and each may be formatted or logged on
// its own. Format covers every verb of package fmt, also those that don't ask for a
// string. The methods have value receivers, so that values and pointers are covered.

func (in DataPlane) redacted() DataPlane { return *in.Redacted() }

func (in DataPlaneList) redacted() DataPlaneList {
	out := DataPlaneList{TypeMeta: in.TypeMeta, ListMeta: in.ListMeta, Items: make([]DataPlane, len(in.Items))}
	for i := range in.Items {
		out.Items[i] = in.Items[i].redacted()
	}
	return out
}

func (in DataPlaneSpec) redacted() DataPlaneSpec {
	in.KubernetesCluster = in.KubernetesCluster.redacted()
	if in.Observer != nil {
		observer := in.Observer.redacted()
		in.Observer = &observer
	}
	return in
}

func (in KubernetesClusterSpec) redacted() KubernetesClusterSpec {
	in.Credentials = in.Credentials.redacted()
	return in
}

func (in APIServerCredentials) redacted() APIServerCredentials {
	in.APIServerURL = redactURL(in.APIServerURL)
	in.CACert = redactUnlessCertificates(in.CACert)
	in.ClientCert = redactUnlessCertificates(in.ClientCert)
	in.ClientKey = redactValue(in.ClientKey)
	return in
}

func (in ObserverAPI) redacted() ObserverAPI {
	in.URL = redactURL(in.URL)
	in.Authentication = in.Authentication.redacted()
	return in
}

func (in ObserverAuthentication) redacted() ObserverAuthentication {
	in.BasicAuth = in.BasicAuth.redacted()
	return in
}

func (in BasicAuthCredentials) redacted() BasicAuthCredentials {
	in.Password = redactValue(in.Password)
	return in
}

func redactValue(value string) string {
	if value == "" {
		return ""
	}
	return Redacted
}

// redactUnlessCertificates shows certificates and nothing else, since a private key may
// have got into their place, in whatever form.
func redactUnlessCertificates(value string) string {
	rest, err := base64.StdEncoding.DecodeString(value)
	if value == "" || err != nil || bytes.Contains(rest, []byte("PRIVATE")) {
		return redactValue(value)
	}
	for certificates := 0; ; certificates++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && certificates > 0 && len(bytes.TrimSpace(rest)) == 0:
			return value
		case block == nil || block.Type != "CERTIFICATE":
			return Redacted
		}
	}
}

// redactURL hides a user name and password, which don't belong into the URL but can
// be stored in it.
func redactURL(value string) string {
	if !strings.Contains(value, "@") {
		return value
	}
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return Redacted
	}
	u.User = url.User(Redacted)
	return u.String()
}

// plain types have the fields of the types that they are made of and none of their
// methods, so that formatting one does not end in itself.
type (
	plainDataPlane              DataPlane
	plainDataPlaneList          DataPlaneList
	plainDataPlaneSpec          DataPlaneSpec
	plainKubernetesClusterSpec  KubernetesClusterSpec
	plainAPIServerCredentials   APIServerCredentials
	plainObserverAPI            ObserverAPI
	plainObserverAuthentication ObserverAuthentication
	plainBasicAuthCredentials   BasicAuthCredentials
)

func format(state fmt.State, verb rune, plain any) {
	fmt.Fprintf(state, fmt.FormatString(state, verb), plain)
}

// Format implements fmt.Formatter; it shows no secret, whatever the verb.
func (in DataPlane) Format(state fmt.State, verb rune) {
	format(state, verb, plainDataPlane(in.redacted()))
}

// String returns the fields without secrets.
func (in DataPlane) String() string { return fmt.Sprintf("%+v", in) }

// GoString returns the fields in Go syntax without secrets.
func (in DataPlane) GoString() string { return fmt.Sprintf("%#v", in) }

// MarshalLog implements logr.Marshaler; it returns the fields without secrets.
func (in DataPlane) MarshalLog() any { return plainDataPlane(in.redacted()) }

// LogValue implements slog.LogValuer; it returns the fields without secrets.
func (in DataPlane) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }

// Format implements fmt.Formatter; it shows no secret, whatever the verb.
func (in DataPlaneList) Format(state fmt.State, verb rune) {
	format(state, verb, plainDataPlaneList(in.redacted()))
}

// String returns the fields without secrets.
func (in DataPlaneList) String() string { return fmt.Sprintf("%+v", in) }

// GoString returns the fields in Go syntax without secrets.
func (in DataPlaneList) GoString() string { return fmt.Sprintf("%#v", in) }

// MarshalLog implements logr.Marshaler; it returns the fields without secrets.
func (in DataPlaneList) MarshalLog() any { return plainDataPlaneList(in.redacted()) }

// LogValue implements slog.LogValuer; it returns the fields without secrets.
func (in DataPlaneList) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }

// Format implements fmt.Formatter; it shows no secret, whatever the verb.
func (in DataPlaneSpec) Format(state fmt.State, verb rune) {
	format(state, verb, plainDataPlaneSpec(in.redacted()))
}

// String returns the fields without secrets.
func (in DataPlaneSpec) String() string { return fmt.Sprintf("%+v", in) }

// GoString returns the fields in Go syntax without secrets.
func (in DataPlaneSpec) GoString() string { return fmt.Sprintf("%#v", in) }

// MarshalLog implements logr.Marshaler; it returns the fields without secrets.
func (in DataPlaneSpec) MarshalLog() any { return plainDataPlaneSpec(in.redacted()) }

// LogValue implements slog.LogValuer; it returns the fields without secrets.
func (in DataPlaneSpec) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }

// Format implements fmt.Formatter; it shows no secret, whatever the verb.
func (in KubernetesClusterSpec) Format(state fmt.State, verb rune) {
	format(state, verb, plainKubernetesClusterSpec(in.redacted()))
}

// String returns the fields without secrets.
func (in KubernetesClusterSpec) String() string { return fmt.Sprintf("%+v", in) }

// GoString returns the fields in Go syntax without secrets.
func (in KubernetesClusterSpec) GoString() string { return fmt.Sprintf("%#v", in) }

// MarshalLog implements logr.Marshaler; it returns the fields without secrets.
func (in KubernetesClusterSpec) MarshalLog() any { return plainKubernetesClusterSpec(in.redacted()) }

// LogValue implements slog.LogValuer; it returns the fields without secrets.
func (in KubernetesClusterSpec) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }

// Format implements fmt.Formatter; it shows no secret, whatever the verb.
func (in APIServerCredentials) Format(state fmt.State, verb rune) {
	format(state, verb, plainAPIServerCredentials(in.redacted()))
}

// String returns the fields without secrets.
func (in APIServerCredentials) String() string { return fmt.Sprintf("%+v", in) }

// GoString returns the fields in Go syntax without secrets.
func (in APIServerCredentials) GoString() string { return fmt.Sprintf("%#v", in) }

// MarshalLog implements logr.Marshaler; it returns the fields without secrets.
func (in APIServerCredentials) MarshalLog() any { return plainAPIServerCredentials(in.redacted()) }

// LogValue implements slog.LogValuer; it returns the fields without secrets.
func (in APIServerCredentials) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }

// Format implements fmt.Formatter; it shows no secret, whatever the verb.
func (in ObserverAPI) Format(state fmt.State, verb rune) {
	format(state, verb, plainObserverAPI(in.redacted()))
}

// String returns the fields without secrets.
func (in ObserverAPI) String() string { return fmt.Sprintf("%+v", in) }

// GoString returns the fields in Go syntax without secrets.
func (in ObserverAPI) GoString() string { return fmt.Sprintf("%#v", in) }

// MarshalLog implements logr.Marshaler; it returns the fields without secrets.
func (in ObserverAPI) MarshalLog() any { return plainObserverAPI(in.redacted()) }

// LogValue implements slog.LogValuer; it returns the fields without secrets.
func (in ObserverAPI) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }

// Format implements fmt.Formatter; it shows no secret, whatever the verb.
func (in ObserverAuthentication) Format(state fmt.State, verb rune) {
	format(state, verb, plainObserverAuthentication(in.redacted()))
}

// String returns the fields without secrets.
func (in ObserverAuthentication) String() string { return fmt.Sprintf("%+v", in) }

// GoString returns the fields in Go syntax without secrets.
func (in ObserverAuthentication) GoString() string { return fmt.Sprintf("%#v", in) }

// MarshalLog implements logr.Marshaler; it returns the fields without secrets.
func (in ObserverAuthentication) MarshalLog() any { return plainObserverAuthentication(in.redacted()) }

// LogValue implements slog.LogValuer; it returns the fields without secrets.
func (in ObserverAuthentication) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }

// Format implements fmt.Formatter; it shows no secret, whatever the verb.
func (in BasicAuthCredentials) Format(state fmt.State, verb rune) {
	format(state, verb, plainBasicAuthCredentials(in.redacted()))
}

// String returns the fields without secrets.
func (in BasicAuthCredentials) String() string { return fmt.Sprintf("%+v", in) }

// GoString returns the fields in Go syntax without secrets.
func (in BasicAuthCredentials) GoString() string { return fmt.Sprintf("%#v", in) }

// MarshalLog implements logr.Marshaler; it returns the fields without secrets.
func (in BasicAuthCredentials) MarshalLog() any { return plainBasicAuthCredentials(in.redacted()) }

// LogValue implements slog.LogValuer; it returns the fields without secrets.
func (in BasicAuthCredentials) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }
