// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"log/slog"
)

// IsApplyConfiguration marks the type as an apply configuration, as
// runtime.ApplyConfiguration of k8s.io/apimachinery 0.34 and later asks.
func (b DataPlaneApplyConfiguration) IsApplyConfiguration() {}

// GetKind retrieves the value of the Kind field in the declarative configuration.
func (b *DataPlaneApplyConfiguration) GetKind() *string {
	return b.Kind
}

// GetAPIVersion retrieves the value of the APIVersion field in the declarative configuration.
func (b *DataPlaneApplyConfiguration) GetAPIVersion() *string {
	return b.APIVersion
}

// GetNamespace retrieves the value of the Namespace field in the declarative configuration.
func (b *DataPlaneApplyConfiguration) GetNamespace() *string {
	b.ensureObjectMetaApplyConfigurationExists()
	return b.Namespace
}

// MarshalLog implements logr.Marshaler. It returns the namespace and the name.
func (b DataPlaneApplyConfiguration) MarshalLog() any {
	return map[string]any{"namespace": value(b.GetNamespace()), "name": value(b.GetName())}
}

// LogValue implements slog.LogValuer. It returns a group of the namespace and the name.
func (b DataPlaneApplyConfiguration) LogValue() slog.Value {
	return slog.GroupValue(slog.String("namespace", value(b.GetNamespace())), slog.String("name", value(b.GetName())))
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// IsApplyConfiguration marks the type as an apply configuration, as
// runtime.ApplyConfiguration of k8s.io/apimachinery 0.34 and later asks.
func (b ClusterDataPlaneApplyConfiguration) IsApplyConfiguration() {}

// GetKind retrieves the value of the Kind field in the declarative configuration.
func (b *ClusterDataPlaneApplyConfiguration) GetKind() *string {
	return b.Kind
}

// GetAPIVersion retrieves the value of the APIVersion field in the declarative configuration.
func (b *ClusterDataPlaneApplyConfiguration) GetAPIVersion() *string {
	return b.APIVersion
}

// GetNamespace retrieves the value of the Namespace field in the declarative configuration.
func (b *ClusterDataPlaneApplyConfiguration) GetNamespace() *string {
	b.ensureObjectMetaApplyConfigurationExists()
	return b.Namespace
}
