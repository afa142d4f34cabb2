// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types of a DataPlane. True is the healthy state of each. Reasons and
// messages are for people; programs should not depend on them.
//
// OpenChoreo itself writes only Created. If no controller of yours writes Ready, for
// example with helpers.PatchConditions, pass helpers.Stock to the functions of helpers; see
// https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/conditions.md
const (
	// DataPlaneConditionReady is True when the data plane may accept workloads.
	// The controller that writes it weighs the other conditions; readers need not.
	DataPlaneConditionReady = "Ready"

	// DataPlaneConditionConnected is True when the API server of the target
	// cluster answers with the credentials in the spec (v0.3), or when its agent
	// is connected (v1).
	DataPlaneConditionConnected = "Connected"

	// DataPlaneConditionGatewayProvisioned is True when the gateway of the target
	// cluster is configured for the virtual hosts in the spec.
	DataPlaneConditionGatewayProvisioned = "GatewayProvisioned"

	// DataPlaneConditionCreated is True when OpenChoreo, which writes it, has
	// accepted the DataPlane. It says nothing about the target cluster.
	DataPlaneConditionCreated = "Created"
)

// Annotations of OpenChoreo's resources, for people to read.
const (
	// AnnotationDisplayName is shown instead of metadata.name.
	AnnotationDisplayName = "openchoreo.dev/display-name"

	// AnnotationDescription describes the resource in a sentence or two.
	AnnotationDescription = "openchoreo.dev/description"
)
