// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// IsReady reports whether dp may accept workloads: its Ready condition is True and not
// stale, and dp is not being deleted. It returns false for nil. A condition without an
// observed generation counts as it is, unless [RequireObserved] is passed; the same holds
// for IsConnected and IsGatewayProvisioned.
//
// The controller that writes Ready weighs the other conditions; IsReady does not. No
// release of OpenChoreo, up to v1.2.3, writes Ready, Connected or GatewayProvisioned: use
// [ReadyFrom], or a controller of your own that writes them.
func IsReady(dp *v1alpha1.DataPlane, opts ...EvaluateOption) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionReady, opts)
}

// IsConnected reports whether the target cluster of dp answers: its Connected condition
// is True and not stale. It returns false for nil.
func IsConnected(dp *v1alpha1.DataPlane, opts ...EvaluateOption) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionConnected, opts)
}

// IsGatewayProvisioned reports whether the gateway of dp is configured: its
// GatewayProvisioned condition is True and not stale. It returns false for nil.
func IsGatewayProvisioned(dp *v1alpha1.DataPlane, opts ...EvaluateOption) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionGatewayProvisioned, opts)
}

// IsOperational reports whether IsReady, IsConnected and IsGatewayProvisioned all hold.
func IsOperational(dp *v1alpha1.DataPlane, opts ...EvaluateOption) bool {
	return IsReady(dp, opts...) && IsConnected(dp, opts...) && IsGatewayProvisioned(dp, opts...)
}

func isTrue(dp *v1alpha1.DataPlane, conditionType string, opts []EvaluateOption) bool {
	return EvaluateCondition(dp, conditionType, opts...).Status == metav1.ConditionTrue
}

// Code says why a [Verdict] has its status.
type Code string

// The codes of a Verdict, in the order in which they are tried. An observed generation of
// 0 means not reported.
const (
	// CodeNoObject means that the DataPlane is nil. Unknown.
	CodeNoObject Code = "NoObject"
	// CodeTerminating means that the object is being deleted. Only Ready gets this code,
	// and is False.
	CodeTerminating Code = "Terminating"
	// CodeNotReported means that there is no condition of the type. Unknown.
	CodeNotReported Code = "NotReported"
	// CodeInvalidStatus means that the condition's status is not True, False or Unknown.
	// API servers refuse that, fakes store it. Unknown.
	CodeInvalidStatus Code = "InvalidStatus"
	// CodeStale means that the condition or status.observedGeneration is of an earlier
	// generation. Unknown, even if the condition says False.
	CodeStale Code = "Stale"
	// CodeGenerationAhead means that one of them is of a later generation than the object,
	// as after a restore from a backup. Unknown.
	CodeGenerationAhead Code = "GenerationAhead"
	// CodeUnsettled means that the condition has not been True for as long as [StableFor]
	// asks. Unknown.
	CodeUnsettled Code = "Unsettled"
	// CodeUnverified means that no observed generation is reported, or that the object has
	// no generation. The condition counts as it is, or is Unknown with [RequireObserved].
	CodeUnverified Code = "Unverified"
	// CodeCurrent means that the present generation was observed. The condition counts as
	// it is.
	CodeCurrent Code = "Current"
)

// Verdict is what the conditions of a DataPlane say about one condition type.
type Verdict struct {
	// Type is the condition type.
	Type string `json:"type"`
	// Status is the answer.
	Status metav1.ConditionStatus `json:"status"`
	// Code says why Status is what it is.
	Code Code `json:"code"`
	// From is the condition type that the rest was read from, if Ready was derived by
	// [ReadyFrom]; empty otherwise.
	From string `json:"from,omitempty"`
	// Reported is the status as the condition has it; empty if there is no condition.
	Reported metav1.ConditionStatus `json:"reported,omitempty"`
	// Reason and Message are the condition's. They are for people; don't decide by them.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// ObservedGeneration is the condition's; 0 if it reports none, or if
	// [StatusGenerationOnly] ignores it.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// LastTransitionTime is the condition's.
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
	// Duplicated means that there are several conditions of the type.
	Duplicated bool `json:"duplicated,omitempty"`
}

// Report is what the conditions of a DataPlane say.
type Report struct {
	// Namespace and Name are those of the DataPlane; empty for nil.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Generation is metadata.generation. Fakes such as client-go's leave it at 0.
	Generation int64 `json:"generation,omitempty"`
	// ObservedGeneration is status.observedGeneration; 0 if not reported.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Ready, Connected and GatewayProvisioned are always there, reported or not.
	Ready              Verdict `json:"ready"`
	Connected          Verdict `json:"connected"`
	GatewayProvisioned Verdict `json:"gatewayProvisioned"`
	// Others are all other reported types, by name.
	Others []Verdict `json:"others,omitempty"`
}

// Evaluate reads all conditions of dp. For nil, every verdict is Unknown with
// [CodeNoObject]. Types other than the three that the API defines decide nothing, except
// for [ReadyFrom].
func Evaluate(dp *v1alpha1.DataPlane, opts ...EvaluateOption) (report Report) {
	o := newEvaluateOptions(opts)
	report.Ready.reset(dp, v1alpha1.DataPlaneConditionReady)
	report.Connected.reset(dp, v1alpha1.DataPlaneConditionConnected)
	report.GatewayProvisioned.reset(dp, v1alpha1.DataPlaneConditionGatewayProvisioned)
	if dp == nil {
		return report
	}
	report.Namespace, report.Name = dp.Namespace, dp.Name
	report.Generation, report.ObservedGeneration = dp.Generation, dp.Status.ObservedGeneration
	for i := range dp.Status.Conditions {
		c := &dp.Status.Conditions[i]
		switch c.Type {
		case v1alpha1.DataPlaneConditionReady:
			o.add(&report.Ready, dp, c)
		case v1alpha1.DataPlaneConditionConnected:
			o.add(&report.Connected, dp, c)
		case v1alpha1.DataPlaneConditionGatewayProvisioned:
			o.add(&report.GatewayProvisioned, dp, c)
		default:
			report.Others = append(report.Others, Verdict{Type: c.Type, Code: CodeNotReported})
			o.add(&report.Others[len(report.Others)-1], dp, c)
		}
	}
	report.Others = mergeByType(report.Others)
	o.conclude(&report.Ready, dp)
	return report
}

// mergeByType sorts verdicts, and leaves one of each type.
func mergeByType(verdicts []Verdict) []Verdict {
	slices.SortStableFunc(verdicts, func(a, b Verdict) int { return cmp.Compare(a.Type, b.Type) })
	merged := verdicts[:0]
	for i := range verdicts {
		if last := len(merged) - 1; last >= 0 && merged[last].Type == verdicts[i].Type {
			merged[last].merge(verdicts[i])
		} else {
			merged = append(merged, verdicts[i])
		}
	}
	return merged
}

// Verdicts returns all verdicts: Ready, Connected, GatewayProvisioned, and the others.
func (r Report) Verdicts() []Verdict {
	return append([]Verdict{r.Ready, r.Connected, r.GatewayProvisioned}, r.Others...)
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
	switch conditionType {
	case r.Ready.Type:
		return &r.Ready
	case r.Connected.Type:
		return &r.Connected
	case r.GatewayProvisioned.Type:
		return &r.GatewayProvisioned
	}
	for i := range r.Others {
		if r.Others[i].Type == conditionType {
			return &r.Others[i]
		}
	}
	return nil
}

// EvaluateCondition reads the conditions of one type of dp, which may be nil. The codes
// of a [Verdict] are its rules, and the first that applies decides.
//
// Of several conditions of the type, which a CRD with an atomic list allows, the one with
// the worst verdict counts: False before Unknown before True.
func EvaluateCondition(dp *v1alpha1.DataPlane, conditionType string, opts ...EvaluateOption) (v Verdict) {
	o := newEvaluateOptions(opts)
	o.read(&v, dp, conditionType)
	if dp != nil {
		o.conclude(&v, dp)
	}
	return v
}

// read sets v to what the conditions of a type say.
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

// reset sets v to the verdict on a type that is not reported.
func (v *Verdict) reset(dp *v1alpha1.DataPlane, conditionType string) {
	*v = Verdict{Type: conditionType, Status: metav1.ConditionUnknown, Code: CodeNotReported}
	if dp == nil {
		v.Code = CodeNoObject
	}
}

// add judges a condition, and leaves in v the worst of its type.
func (o *evaluateOptions) add(v *Verdict, dp *v1alpha1.DataPlane, c *metav1.Condition) {
	status, code := o.judge(dp, c)
	v.merge(Verdict{
		Type: c.Type, Status: status, Code: code, Reported: c.Status, Reason: c.Reason, Message: c.Message,
		ObservedGeneration: o.observed(c), LastTransitionTime: c.LastTransitionTime,
	})
}

// merge leaves in v the worse of two verdicts on one type, the first if they are alike.
func (v *Verdict) merge(other Verdict) {
	duplicated := v.Code != CodeNotReported
	if !duplicated || worse(other.Status, v.Status) {
		*v = other
	}
	v.Duplicated = duplicated
}

// conclude applies the rules that only Ready has.
func (o *evaluateOptions) conclude(v *Verdict, dp *v1alpha1.DataPlane) {
	switch {
	case v.Type != v1alpha1.DataPlaneConditionReady:
	case dp.DeletionTimestamp != nil:
		v.Status, v.Code = metav1.ConditionFalse, CodeTerminating
	case v.Code == CodeNotReported:
		for i, from := range o.readyFrom {
			var other Verdict
			if o.read(&other, dp, from); i == 0 || worse(other.Status, v.Status) {
				*v, v.From = other, from
			}
		}
		v.Type = v1alpha1.DataPlaneConditionReady
	}
}

func (o *evaluateOptions) judge(dp *v1alpha1.DataPlane, c *metav1.Condition) (metav1.ConditionStatus, Code) {
	generation, ofCondition, ofStatus := dp.Generation, o.observed(c), dp.Status.ObservedGeneration
	switch {
	case c.Status != metav1.ConditionTrue && c.Status != metav1.ConditionFalse && c.Status != metav1.ConditionUnknown:
		return metav1.ConditionUnknown, CodeInvalidStatus
	case 0 < ofCondition && ofCondition < generation || 0 < ofStatus && ofStatus < generation:
		return metav1.ConditionUnknown, CodeStale
	case generation > 0 && max(ofCondition, ofStatus) > generation:
		return metav1.ConditionUnknown, CodeGenerationAhead
	case o.stableFor > 0 && c.Status == metav1.ConditionTrue && age(c.LastTransitionTime, o.clock()) < o.stableFor:
		return metav1.ConditionUnknown, CodeUnsettled
	case generation > 0 && max(ofCondition, ofStatus) > 0:
		return c.Status, CodeCurrent
	case o.requireObserved:
		return metav1.ConditionUnknown, CodeUnverified
	default:
		return c.Status, CodeUnverified
	}
}

func (o *evaluateOptions) observed(c *metav1.Condition) int64 {
	if o.statusOnly {
		return 0
	}
	return c.ObservedGeneration
}

// worse orders False before Unknown before True.
func worse(a, b metav1.ConditionStatus) bool {
	return a != b && (a == metav1.ConditionFalse || b == metav1.ConditionTrue)
}

// age is 0 if the time is not known or in the future.
func age(since metav1.Time, now time.Time) time.Duration {
	if since.IsZero() {
		return 0
	}
	return max(now.Sub(since.Time), 0)
}

// EvaluateOption changes how conditions are read. The options are [ReadyFrom],
// [RequireObserved], [StatusGenerationOnly] and [StableFor].
type EvaluateOption func(evaluateOptions) evaluateOptions

type evaluateOptions struct {
	requireObserved, statusOnly bool

	readyFrom []string
	stableFor time.Duration
	clock     func() time.Time // not nil if stableFor is set
}

func newEvaluateOptions(opts []EvaluateOption) (o evaluateOptions) {
	for _, opt := range opts {
		if opt != nil {
			o = opt(o)
		}
	}
	return o
}

// ReadyFrom derives Ready from other condition types while no Ready condition is
// reported. Ready is then as the worst of them, False before Unknown before True; a type
// that is not reported is Unknown. [Verdict].From names the type that decided.
//
// OpenChoreo itself writes no Ready: use ReadyFrom(v1alpha1.DataPlaneConditionCreated)
// there, with [StatusGenerationOnly] from v0.14 on. Created means that OpenChoreo has
// accepted the DataPlane, not that its cluster answers; remote.Cluster.Probe asks that.
func ReadyFrom(conditionTypes ...string) EvaluateOption {
	return func(o evaluateOptions) evaluateOptions {
		o.readyFrom = conditionTypes
		return o
	}
}

// RequireObserved makes a condition Unknown if no observed generation is reported. Its
// code remains [CodeUnverified].
func RequireObserved() EvaluateOption {
	return func(o evaluateOptions) evaluateOptions {
		o.requireObserved = true
		return o
	}
}

// StatusGenerationOnly ignores the observed generation of each condition and reads only
// status.observedGeneration. Use it for controllers that keep only the latter up to date,
// as OpenChoreo does from v0.14 on. Don't use it with OpenChoreo v0.3 to v0.11, which keeps
// only the former.
func StatusGenerationOnly() EvaluateOption {
	return func(o evaluateOptions) evaluateOptions {
		o.statusOnly = true
		return o
	}
}

// StableFor makes a True condition Unknown until it has been True for d, by its
// lastTransitionTime and the clock; a nil clock is time.Now. A transition time that is
// missing or in the future counts as now. Conditions store whole seconds, so the wait can
// be up to a second short. A d of 0 or less has no effect.
func StableFor(d time.Duration, clock func() time.Time) EvaluateOption {
	if clock == nil {
		clock = time.Now
	}
	return func(o evaluateOptions) evaluateOptions {
		o.stableFor, o.clock = d, clock
		return o
	}
}
