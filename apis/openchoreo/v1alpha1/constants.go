// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types of a DataPlane. All three are of positive polarity: True is the
// healthy state. Which controller writes them, and with which reasons, is up to
// the installation; a reason or message is for people and never decides anything.
const (
	// DataPlaneConditionReady is True when the data plane may accept workloads.
	// Its writer weighs everything that matters for that; readers do not
	// derive it from the other two conditions.
	DataPlaneConditionReady = "Ready"

	// DataPlaneConditionConnected is True when the API server of the target
	// cluster answers with the credentials in the spec.
	DataPlaneConditionConnected = "Connected"

	// DataPlaneConditionGatewayProvisioned is True when the gateway of the target
	// cluster is configured for the virtual hosts in the spec.
	DataPlaneConditionGatewayProvisioned = "GatewayProvisioned"
)

// Annotations that OpenChoreo sets on its resources for people to read.
const (
	// AnnotationDisplayName holds the name to show in place of metadata.name.
	AnnotationDisplayName = "openchoreo.dev/display-name"

	// AnnotationDescription holds a sentence or two on what the resource is for.
	AnnotationDescription = "openchoreo.dev/description"
)
