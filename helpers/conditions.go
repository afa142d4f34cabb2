// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// IsReady reports whether dp may accept workloads: its Ready condition is True and not
// stale, and dp is not being deleted. It returns false for nil. Like IsConnected and
// IsGatewayProvisioned, it accepts a condition without an observed generation, unless
// [RequireObserved] is passed.
//
// The controller that writes Ready weighs the other conditions; IsReady does not. OpenChoreo
// itself never writes Ready, Connected or GatewayProvisioned: pass [Stock], or write them in
// your own controller.
func IsReady(dp *v1alpha1.DataPlane, opts ...EvaluateOption) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionReady, opts)
}

// IsConnected reports whether the target cluster of dp answers: its Connected condition
// is True and not stale. If no such condition is reported, a connected agent in the status
// (OpenChoreo v1) counts instead; see [HeartbeatWithin]. It returns false for nil.
func IsConnected(dp *v1alpha1.DataPlane, opts ...EvaluateOption) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionConnected, opts)
}

// IsGatewayProvisioned reports whether the gateway of dp is configured: its
// GatewayProvisioned condition is True and not stale. It returns false for nil.
func IsGatewayProvisioned(dp *v1alpha1.DataPlane, opts ...EvaluateOption) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionGatewayProvisioned, opts)
}

func isTrue(dp *v1alpha1.DataPlane, conditionType string, opts []EvaluateOption) bool {
	return EvaluateCondition(dp, conditionType, opts...).Status == metav1.ConditionTrue
}

// Code says why a [Verdict] has its status.
type Code string

// The codes of a Verdict, in order of precedence. An observed generation of 0 means not
// reported.
const (
	// CodeNoObject means that the DataPlane is nil. Unknown.
	CodeNoObject Code = "NoObject"
	// CodeTerminating means that the object is being deleted. Only Ready gets this code.
	// False.
	CodeTerminating Code = "Terminating"
	// CodeNotReported means that there is no condition of the type. Unknown.
	CodeNotReported Code = "NotReported"
	// CodeInvalidStatus means that the condition's status is not True, False or Unknown.
	// API servers reject such a status, fakes store it. Unknown.
	CodeInvalidStatus Code = "InvalidStatus"
	// CodeStale means that the observed generation of the condition or of the status is
	// lower than the object's, or that the agent's heartbeat is too old for
	// [HeartbeatWithin]. Unknown, even if the condition is False.
	CodeStale Code = "Stale"
	// CodeGenerationAhead means that one of these observed generations is higher than the
	// object's, as after a restore from a backup. Unknown.
	CodeGenerationAhead Code = "GenerationAhead"
	// CodeUnsettled means that the condition has been True for less time than [StableFor]
	// requires. Unknown.
	CodeUnsettled Code = "Unsettled"
	// CodeUnverified means that no observed generation is reported, or that the object has
	// no generation. The reported status, or Unknown with [RequireObserved].
	CodeUnverified Code = "Unverified"
	// CodeCurrent means that the current generation was observed, or that Connected comes
	// from status.agentConnection, which has no generation. The reported status.
	CodeCurrent Code = "Current"
)

// FromAgentConnection is the From of a [Verdict] on Connected that comes from the state of
// the agent's connection, which OpenChoreo v1 reports instead of a condition.
const FromAgentConnection = "status.agentConnection"

// Verdict is the judgment on one condition type of a DataPlane.
type Verdict struct {
	// Type is the condition type.
	Type string `json:"type"`
	// Status is the verdict: True, False or Unknown.
	Status metav1.ConditionStatus `json:"status"`
	// Code explains Status.
	Code Code `json:"code"`
	// From is the source of the verdict if no condition of the type is reported: for Ready,
	// the type that [Stock] or [ReadyFrom] chose; for Connected, [FromAgentConnection].
	// Empty otherwise.
	From string `json:"from,omitempty"`
	// Reported is the status as reported; empty if not reported.
	Reported metav1.ConditionStatus `json:"reported,omitempty"`
	// Reason and Message are the condition's, for people; programs should not depend on
	// them. Message can contradict Status: if the agent's heartbeat is too old, Status is
	// Unknown beside the message "1 agent connected". Print [Report.Summary] instead.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// ObservedGeneration is the condition's; 0 if not reported, or ignored by
	// [StatusGenerationOnly] or [Stock].
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// LastTransitionTime is the condition's, or when the agent connected or disconnected.
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
	// LastHeartbeatTime is the agent's last heartbeat, if the verdict comes from
	// status.agentConnection.
	LastHeartbeatTime metav1.Time `json:"lastHeartbeatTime,omitzero"`
	// Duplicated means that there are several conditions of the type.
	Duplicated bool `json:"duplicated,omitempty"`
}

// Report holds the verdicts on the condition types of a DataPlane.
type Report struct {
	// Namespace and Name are the DataPlane's; empty for nil.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Generation is metadata.generation. Fakes such as client-go's leave it at 0.
	Generation int64 `json:"generation,omitempty"`
	// ObservedGeneration is status.observedGeneration; 0 if not reported.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// The verdicts on the four types that the API defines are always set, reported or not.
	Ready              Verdict `json:"ready"`
	Connected          Verdict `json:"connected"`
	GatewayProvisioned Verdict `json:"gatewayProvisioned"`
	Created            Verdict `json:"created"`
	// Others are the verdicts on all other reported types, sorted by type.
	Others []Verdict `json:"others,omitempty"`
}

// Evaluate judges all conditions of dp. For nil, every verdict is Unknown with
// [CodeNoObject]. No verdict depends on conditions of another type, except for Ready with
// [Stock] or [ReadyFrom].
func Evaluate(dp *v1alpha1.DataPlane, opts ...EvaluateOption) (report Report) {
	o := newEvaluateOptions(opts)
	report.Ready.reset(dp, v1alpha1.DataPlaneConditionReady)
	report.Connected.reset(dp, v1alpha1.DataPlaneConditionConnected)
	report.GatewayProvisioned.reset(dp, v1alpha1.DataPlaneConditionGatewayProvisioned)
	report.Created.reset(dp, v1alpha1.DataPlaneConditionCreated)
	if dp == nil {
		return report
	}
	report.Namespace, report.Name = dp.Namespace, dp.Name
	report.Generation, report.ObservedGeneration = dp.Generation, dp.Status.ObservedGeneration
	others := make([]*metav1.Condition, 0, 8)
	for i := range dp.Status.Conditions {
		c := &dp.Status.Conditions[i]
		if v := report.defined(c.Type); v != nil {
			o.add(v, dp, c)
		} else {
			others = append(others, c)
		}
	}
	if len(others) > 0 {
		report.Others = o.readAll(dp, others)
	}
	o.conclude(&report.Connected, dp)
	o.conclude(&report.Ready, dp)
	return report
}

// readAll sorts conditions, and returns a verdict on each of their types.
func (o *evaluateOptions) readAll(dp *v1alpha1.DataPlane, conditions []*metav1.Condition) []Verdict {
	slices.SortStableFunc(conditions, func(a, b *metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
	verdicts := make([]Verdict, 0, len(conditions))
	for i, c := range conditions {
		if i == 0 || c.Type != conditions[i-1].Type {
			verdicts = append(verdicts, Verdict{Type: c.Type, Code: CodeNotReported})
		}
		o.add(&verdicts[len(verdicts)-1], dp, c)
	}
	return verdicts
}

// Verdicts returns all verdicts: Ready, Connected, GatewayProvisioned, Created, and the
// others.
func (r Report) Verdicts() []Verdict {
	return append([]Verdict{r.Ready, r.Connected, r.GatewayProvisioned, r.Created}, r.Others...)
}

// Verdict returns the verdict on a condition type. A type that is not in the report is
// Unknown with [CodeNotReported].
func (r Report) Verdict(conditionType string) Verdict {
	if v := r.find(conditionType); v != nil {
		return *v
	}
	return Verdict{Type: conditionType, Status: metav1.ConditionUnknown, Code: CodeNotReported}
}

func (r *Report) find(conditionType string) *Verdict {
	if v := r.defined(conditionType); v != nil {
		return v
	}
	for i := range r.Others {
		if r.Others[i].Type == conditionType {
			return &r.Others[i]
		}
	}
	return nil
}

// defined returns the verdict on a type that the API defines, and nil for others.
func (r *Report) defined(conditionType string) *Verdict {
	switch conditionType {
	case r.Ready.Type:
		return &r.Ready
	case r.Connected.Type:
		return &r.Connected
	case r.GatewayProvisioned.Type:
		return &r.GatewayProvisioned
	case r.Created.Type:
		return &r.Created
	}
	return nil
}

// EvaluateCondition judges one condition type of dp, which may be nil. The first [Code]
// that applies decides.
//
// A CRD with an atomic list allows several conditions of the type. The one with the worst
// verdict counts: False before Unknown before True.
func EvaluateCondition(dp *v1alpha1.DataPlane, conditionType string, opts ...EvaluateOption) (v Verdict) {
	o := newEvaluateOptions(opts)
	o.read(&v, dp, conditionType)
	if dp != nil {
		o.conclude(&v, dp)
	}
	return v
}

// read sets v to the verdict on the conditions of a type.
func (o *evaluateOptions) read(v *Verdict, dp *v1alpha1.DataPlane, conditionType string) {
	v.reset(dp, conditionType)
	if dp == nil {
		return
	}
	for i := range dp.Status.Conditions {
		if c := &dp.Status.Conditions[i]; c.Type == conditionType {
			o.add(v, dp, c)
		}
	}
}

// reset sets v to the verdict on a type that is not reported. It assigns fields, since
// copying a literal would take most of Evaluate's time.
func (v *Verdict) reset(dp *v1alpha1.DataPlane, conditionType string) {
	*v = Verdict{}
	v.Type, v.Status, v.Code = conditionType, metav1.ConditionUnknown, CodeNotReported
	if dp == nil {
		v.Code = CodeNoObject
	}
}

// add judges a condition, and keeps the worst verdict of the type in v, the first of equals.
func (o *evaluateOptions) add(v *Verdict, dp *v1alpha1.DataPlane, c *metav1.Condition) {
	status, code := o.judge(dp, c)
	v.Duplicated = v.Code != CodeNotReported
	if v.Duplicated && !worse(status, v.Status) {
		return
	}
	v.Status, v.Code, v.Reported, v.Reason, v.Message = status, code, c.Status, c.Reason, c.Message
	v.ObservedGeneration, v.LastTransitionTime = o.observed(dp, c), c.LastTransitionTime
}
