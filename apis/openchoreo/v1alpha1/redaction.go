// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"log/slog"

	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

// Redacted replaces a secret that is hidden.
const Redacted = redact.Marker

// Redacted returns a deep copy without secrets. Show it or send it elsewhere, but never
// write it back. It replaces these by the constant [Redacted]: the client key and the
// observer's password, user names and passwords in URLs, caCert and clientCert if they hold
// anything but certificates, and the annotations in which kubectl apply, kapp and Rancher
// keep a copy of the object. It removes managed fields, which hold no values and are long.
// Empty fields stay empty. It returns nil for nil.
//
// Package fmt redacts a DataPlane, its spec and every nested type that holds a secret.
// Loggers (slog, logr, klog) show only name, generation and conditions of a DataPlane;
// for a nil *DataPlane, slog shows "LogValue panicked". These still show secrets:
//
//   - JSON and YAML, the wire formats. Loggers such as klog write JSON for a slice or
//     struct that contains a DataPlane: log slices with klog.KObjSlice;
//   - spec.clusterAgent.clientCA.value, which is shown because certificates are public. A private
//     key put there by mistake is shown, too; helpers.Validate reports it;
//   - apply configurations, which loggers write as JSON, except a whole
//     DataPlaneApplyConfiguration;
//   - packages that read fields by reflection, such as go-cmp: compare DataPlanes with
//     helpers/fieldset.Changed;
//   - the verbs %w and %p of a value, and unexported fields of other types, since package
//     fmt calls no method there. go vet reports both verbs.
func (in *DataPlane) Redacted() *DataPlane {
	if in == nil {
		return nil
	}
	out := in.DeepCopy()
	out.ManagedFields = nil
	redact.InAnnotations(out.Annotations)
	out.Spec.KubernetesCluster.Credentials = out.Spec.KubernetesCluster.Credentials.redacted()
	if out.Spec.Observer != nil {
		*out.Spec.Observer = out.Spec.Observer.redacted()
	}
	return out
}

func (in APIServerCredentials) redacted() APIServerCredentials {
	in.APIServerURL = redact.URL(in.APIServerURL)
	in.CACert = redact.UnlessCertificates(in.CACert)
	in.ClientCert = redact.UnlessCertificates(in.ClientCert)
	in.ClientKey = redact.Value(in.ClientKey)
	return in
}

func (in ObserverAPI) redacted() ObserverAPI {
	in.URL = redact.URL(in.URL)
	in.Authentication.BasicAuth = in.Authentication.BasicAuth.redacted()
	return in
}

func (in BasicAuthCredentials) redacted() BasicAuthCredentials {
	in.Password = redact.Value(in.Password)
	return in
}

// Every type that holds a secret, at any depth, has these methods: Format for package fmt,
// String for klog, and the others for zap, logr and slog, which would otherwise write JSON.
// Receivers are values: with pointer receivers, logging a value would show secrets.

// The plain types have no methods, so formatting one doesn't call Format again.
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

// Format implements fmt.Formatter. It shows no secret.
func (in DataPlane) Format(state fmt.State, verb rune) {
	format(state, verb, plainDataPlane(*in.Redacted()))
}

// String returns the name, the generation and the conditions.
func (in DataPlane) String() string { return in.LogValue().String() }

// MarshalLog implements logr.Marshaler. It returns the name, the generation and the
// conditions.
func (in DataPlane) MarshalLog() any {
	return map[string]any{
		"namespace": in.Namespace, "name": in.Name, "generation": in.Generation, "conditions": in.conditions(),
	}
}

// LogValue implements slog.LogValuer. It returns a group of the name, the generation and
// the conditions.
func (in DataPlane) LogValue() slog.Value {
	return slog.GroupValue(slog.String("namespace", in.Namespace), slog.String("name", in.Name),
		slog.Int64("generation", in.Generation), slog.Any("conditions", in.conditions()))
}

func (in DataPlane) conditions() []string {
	conditions := make([]string, 0, len(in.Status.Conditions))
	for _, c := range in.Status.Conditions {
		conditions = append(conditions, c.Type+"="+string(c.Status))
	}
	return conditions
}

// Format implements fmt.Formatter. It shows no secret.
func (in DataPlaneList) Format(state fmt.State, verb rune) {
	format(state, verb, plainDataPlaneList(in))
}

// String returns the names.
func (in DataPlaneList) String() string { return in.LogValue().String() }

// MarshalLog implements logr.Marshaler. It returns the names.
func (in DataPlaneList) MarshalLog() any {
	names := make([]string, 0, len(in.Items))
	for i := range in.Items {
		names = append(names, in.Items[i].Namespace+"/"+in.Items[i].Name)
	}
	return names
}

// LogValue implements slog.LogValuer. It returns the names.
func (in DataPlaneList) LogValue() slog.Value { return slog.AnyValue(in.MarshalLog()) }

// Format implements fmt.Formatter. It shows no secret.
func (in DataPlaneSpec) Format(state fmt.State, verb rune) {
	format(state, verb, plainDataPlaneSpec(in))
}

func (in DataPlaneSpec) String() string { return fmt.Sprintf("%+v", in) }

// MarshalLog implements logr.Marshaler. It shows no secret.
func (in DataPlaneSpec) MarshalLog() any { return in.String() }

// LogValue implements slog.LogValuer. It shows no secret.
func (in DataPlaneSpec) LogValue() slog.Value { return slog.StringValue(in.String()) }

// Format implements fmt.Formatter. It shows no secret.
func (in KubernetesClusterSpec) Format(state fmt.State, verb rune) {
	format(state, verb, plainKubernetesClusterSpec(in))
}

func (in KubernetesClusterSpec) String() string { return fmt.Sprintf("%+v", in) }

// MarshalLog implements logr.Marshaler. It shows no secret.
func (in KubernetesClusterSpec) MarshalLog() any { return in.String() }

// LogValue implements slog.LogValuer. It shows no secret.
func (in KubernetesClusterSpec) LogValue() slog.Value { return slog.StringValue(in.String()) }

// Format implements fmt.Formatter. It shows no secret.
func (in APIServerCredentials) Format(state fmt.State, verb rune) {
	format(state, verb, plainAPIServerCredentials(in.redacted()))
}

func (in APIServerCredentials) String() string { return fmt.Sprintf("%+v", in) }

// MarshalLog implements logr.Marshaler. It shows no secret.
func (in APIServerCredentials) MarshalLog() any { return in.String() }

// LogValue implements slog.LogValuer. It shows no secret.
func (in APIServerCredentials) LogValue() slog.Value { return slog.StringValue(in.String()) }

// Format implements fmt.Formatter. It shows no secret.
func (in ObserverAPI) Format(state fmt.State, verb rune) {
	format(state, verb, plainObserverAPI(in.redacted()))
}

func (in ObserverAPI) String() string { return fmt.Sprintf("%+v", in) }

// MarshalLog implements logr.Marshaler. It shows no secret.
func (in ObserverAPI) MarshalLog() any { return in.String() }

// LogValue implements slog.LogValuer. It shows no secret.
func (in ObserverAPI) LogValue() slog.Value { return slog.StringValue(in.String()) }

// Format implements fmt.Formatter. It shows no secret.
func (in ObserverAuthentication) Format(state fmt.State, verb rune) {
	format(state, verb, plainObserverAuthentication(in))
}

func (in ObserverAuthentication) String() string { return fmt.Sprintf("%+v", in) }

// MarshalLog implements logr.Marshaler. It shows no secret.
func (in ObserverAuthentication) MarshalLog() any { return in.String() }

// LogValue implements slog.LogValuer. It shows no secret.
func (in ObserverAuthentication) LogValue() slog.Value { return slog.StringValue(in.String()) }

// Format implements fmt.Formatter. It shows no secret.
func (in BasicAuthCredentials) Format(state fmt.State, verb rune) {
	format(state, verb, plainBasicAuthCredentials(in.redacted()))
}

func (in BasicAuthCredentials) String() string { return fmt.Sprintf("%+v", in) }

// MarshalLog implements logr.Marshaler. It shows no secret.
func (in BasicAuthCredentials) MarshalLog() any { return in.String() }

// LogValue implements slog.LogValuer. It shows no secret.
func (in BasicAuthCredentials) LogValue() slog.Value { return slog.StringValue(in.String()) }
