// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// IsReady reports whether dp may accept workloads: whether its Ready condition is
// True, not out of date, and dp is not being deleted. It is false for nil.
//
// The writer of Ready weighs the other conditions; IsReady does not.
func IsReady(dp *v1alpha1.DataPlane) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionReady)
}

// IsConnected reports whether the target cluster of dp answers: whether its
// Connected condition is True and not out of date. It is false for nil.
func IsConnected(dp *v1alpha1.DataPlane) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionConnected)
}

// IsGatewayProvisioned reports whether the gateway of dp is configured: whether its
// GatewayProvisioned condition is True and not out of date. It is false for nil.
func IsGatewayProvisioned(dp *v1alpha1.DataPlane) bool {
	return isTrue(dp, v1alpha1.DataPlaneConditionGatewayProvisioned)
}

// IsOperational reports whether Ready, Connected and GatewayProvisioned are all True and
// not out of date. It is false for nil.
func IsOperational(dp *v1alpha1.DataPlane) bool {
	if dp == nil || len(dp.Status.Conditions) < len(definedConditions) {
		return false
	}
	var found [len(definedConditions)]*metav1.Condition
	if !findDefined(dp, &found) {
		return isTrue(dp, definedConditions[0]) && isTrue(dp, definedConditions[1]) && isTrue(dp, definedConditions[2])
	}
	for _, condition := range found {
		if condition == nil {
			return false
		}
		if status, _ := judge(dp, condition, &noOptions); status != metav1.ConditionTrue {
			return false
		}
	}
	return dp.DeletionTimestamp == nil // or else Ready isn't
}

func isTrue(dp *v1alpha1.DataPlane, conditionType string) bool {
	return find(dp, conditionType, &noOptions).decide(dp, conditionType, &noOptions).status == metav1.ConditionTrue
}

// Code says how a Verdict came about.
type Code string

// The codes of a Verdict, in the order in which they are tried.
const (
	// CodeNoObject says that there is no object: it is nil. Unknown.
	CodeNoObject Code = "NoObject"
	// CodeTerminating says that the object is being deleted. Ready is False then;
	// other types don't get this code.
	CodeTerminating Code = "Terminating"
	// CodeNotReported says that no condition of the type is there. Unknown.
	CodeNotReported Code = "NotReported"
	// CodeInvalidStatus says that the status of the condition is none of True,
	// False and Unknown, which an API server refuses but a fake stores. Unknown.
	CodeInvalidStatus Code = "InvalidStatus"
	// CodeStale says that an earlier generation of the object was observed.
	// Unknown, even where the condition says False.
	CodeStale Code = "Stale"
	// CodeGenerationAhead says that a later generation than the object has was
	// observed, as after a restore from backup. Unknown.
	CodeGenerationAhead Code = "GenerationAhead"
	// CodeUnsettled says that the condition has not been True for as long as StableFor
	// asks. Unknown.
	CodeUnsettled Code = "Unsettled"
	// CodeUnverified says that nothing tells which generation was observed. The
	// condition counts as it is, unless RequireObserved is given.
	CodeUnverified Code = "Unverified"
	// CodeCurrent says that the present generation was observed. The condition
	// counts as it is.
	CodeCurrent Code = "Current"
)

// Verdict is what the conditions of a DataPlane say of one condition type.
type Verdict struct {
	// Type is the condition type.
	Type string `json:"type"`
	// Status is the answer. Without options, it is True only when kubectl wait and
	// kstatus would take the condition for True as well; but of an observed generation that
	// is stored as 0, where kubectl takes it for one, the Go types know no more than of
	// one that is absent.
	Status metav1.ConditionStatus `json:"status"`
	// Reported is the status of the condition as it is written; empty when there is no
	// condition.
	Reported metav1.ConditionStatus `json:"reported,omitempty"`
	// Code says how Status came about.
	Code Code `json:"code"`
	// Reason and Message are those of the condition, whatever Status is. They are
	// for people, and empty when there is no condition.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// ObservedGeneration is that of the condition; 0 means not reported.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// JudgedGeneration is the observed generation by which the condition was judged: its
	// own or that of the status, by options and by which of them is at fault; 0 if
	// there is none.
	JudgedGeneration int64 `json:"judgedGeneration,omitempty"`
	// LastTransitionTime is that of the condition.
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
	// Duplicated says that there are several conditions of the type. The newest
	// count, and of those the worst; see [EvaluateCondition].
	Duplicated bool `json:"duplicated,omitempty"`
	// Optional says that the type is one of those given to the option of that name.
	Optional bool `json:"optional,omitempty"`
}

// Age returns how long ago the condition last changed its status; 0 when that is not
// known, or is in the future by the clock of now. Conditions tell it in whole seconds.
func (v Verdict) Age(now time.Time) time.Duration {
	return age(v.LastTransitionTime, now)
}

func age(since metav1.Time, now time.Time) time.Duration {
	if since.IsZero() {
		return 0
	}
	return max(now.Sub(since.Time), 0)
}

// Report is what the conditions of a DataPlane say.
type Report struct {
	// Namespace and Name are those of the DataPlane; they are empty for nil.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Generation is the metadata.generation of the object; a fake clientset leaves
	// it at 0.
	Generation int64 `json:"generation,omitempty"`
	// ObservedGeneration is that of the status as a whole; 0 means not reported.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Verdicts holds Ready, Connected and GatewayProvisioned, reported or not, in
	// this order, and then every other type that is there, by name.
	Verdicts []Verdict `json:"verdicts"`
	// Contradictory says that Ready is True while Connected or GatewayProvisioned
	// is False.
	Contradictory bool `json:"contradictory,omitempty"`
}

// Verdict returns the verdict on a condition type. A type that is not in the report
// is Unknown, with CodeNotReported.
func (r Report) Verdict(conditionType string) Verdict {
	if i := r.index(conditionType); i >= 0 {
		return r.Verdicts[i]
	}
	return Verdict{Type: conditionType, Status: metav1.ConditionUnknown, Code: CodeNotReported}
}

// index returns where the verdict on a type is, -1 if there is none.
func (r *Report) index(conditionType string) int {
	for i := range r.Verdicts {
		if r.Verdicts[i].Type == conditionType {
			return i
		}
	}
	return -1
}

// Evaluate reads all conditions of dp. It accepts nil, for which everything is
// Unknown with [CodeNoObject].
//
// Types other than the three that the API defines are listed and decide nothing.
func Evaluate(dp *v1alpha1.DataPlane, opts ...EvaluateOption) Report {
	// This is inlined, so that a caller who does not keep the report has the verdicts on
	// its stack.
	return evaluateInto(make([]Verdict, len(definedConditions), usualVerdicts), dp, opts)
}

// usualVerdicts has room for the types that the API defines and another, as OpenChoreo has
// it; more are allocated anew.
const usualVerdicts = len(definedConditions) + 1

// evaluateInto fills verdicts, which are as many as the defined conditions, and appends
// those of other types.
func evaluateInto(verdicts []Verdict, dp *v1alpha1.DataPlane, opts []EvaluateOption) Report {
	o := newEvaluateOptions(opts)
	var found [len(definedConditions)]*metav1.Condition
	plain := findDefined(dp, &found)
	for i, conditionType := range definedConditions {
		c := candidates{first: found[i], shown: found[i]}
		if !plain {
			c = find(dp, conditionType, o)
		}
		verdicts[i].set(dp, conditionType, c.decide(dp, conditionType, o), o)
	}
	report := Report{
		Verdicts: verdicts,
		Contradictory: verdicts[0].Status == metav1.ConditionTrue &&
			(verdicts[1].Status == metav1.ConditionFalse || verdicts[2].Status == metav1.ConditionFalse),
	}
	if dp == nil {
		return report
	}
	report.Namespace, report.Name = dp.Namespace, dp.Name
	report.Generation = dp.Generation
	report.ObservedGeneration = dp.Status.ObservedGeneration
	for i := range dp.Status.Conditions {
		if conditionType := dp.Status.Conditions[i].Type; report.index(conditionType) < 0 {
			report.Verdicts = append(report.Verdicts, evaluate(dp, conditionType, o))
		}
	}
	slices.SortFunc(report.Verdicts[len(definedConditions):], func(a, b Verdict) int { return cmp.Compare(a.Type, b.Type) })
	return report
}

// definedConditions are the types whose meaning the API defines, in the order of a
// report.
var definedConditions = [...]string{
	v1alpha1.DataPlaneConditionReady,
	v1alpha1.DataPlaneConditionConnected,
	v1alpha1.DataPlaneConditionGatewayProvisioned,
}

// findDefined finds the defined conditions in one pass, and leaves nil for one that is not
// there. It reports whether that is all there is to know: none is there twice, nor with
// a type that differs in case only.
func findDefined(dp *v1alpha1.DataPlane, found *[len(definedConditions)]*metav1.Condition) bool {
	if dp == nil {
		return true
	}
	for i := range dp.Status.Conditions {
		condition := &dp.Status.Conditions[i]
		var j int
		switch condition.Type {
		case v1alpha1.DataPlaneConditionReady:
			j = 0
		case v1alpha1.DataPlaneConditionConnected:
			j = 1
		case v1alpha1.DataPlaneConditionGatewayProvisioned:
			j = 2
		default:
			if foldsToDefined(condition.Type) {
				return false
			}
			continue
		}
		if found[j] != nil {
			return false
		}
		found[j] = condition
	}
	return true
}

// foldsToDefined reports whether a type differs from a defined one in case only.
func foldsToDefined(conditionType string) bool {
	for _, defined := range definedConditions {
		if mayFold(conditionType, defined) && strings.EqualFold(conditionType, defined) {
			return true
		}
	}
	return false
}

// EvaluateCondition reads the conditions of one type of dp. It accepts nil.
//
// The first of these that applies decides; generation is metadata.generation, and
// an observed generation of 0 or absent means that it was not reported:
//
//   - there is no object: Unknown, CodeNoObject;
//   - the object is being deleted and the type is Ready: False, CodeTerminating;
//   - no condition of the type: Unknown, CodeNotReported;
//   - status is none of True, False, Unknown: Unknown, CodeInvalidStatus;
//   - the condition or the whole status observed an earlier generation: Unknown,
//     CodeStale; a later one: Unknown, CodeGenerationAhead;
//   - it is True, but not for as long as [StableFor] asks: Unknown, CodeUnsettled;
//   - neither reports an observed generation, or the object has no generation: the
//     status as it is, CodeUnverified;
//   - otherwise: the status as it is, CodeCurrent.
//
// Of several conditions of the type, which a CRD with an atomic list allows, those
// of the highest observed generation count, and of them the worst: False before
// Unknown before True. They make True only if the first in the list, which is the one
// that other tools read, makes True as well: otherwise the verdict is Unknown, with the
// code and the rest of that first one. kubectl wait even reads a type that differs in case
// only, so such a one counts as the first too.
func EvaluateCondition(dp *v1alpha1.DataPlane, conditionType string, opts ...EvaluateOption) Verdict {
	return evaluate(dp, conditionType, newEvaluateOptions(opts))
}

func evaluate(dp *v1alpha1.DataPlane, conditionType string, o *evaluateOptions) (v Verdict) {
	v.set(dp, conditionType, find(dp, conditionType, o).decide(dp, conditionType, o), o)
	return v
}

// set makes a new verdict of what was decided.
func (v *Verdict) set(dp *v1alpha1.DataPlane, conditionType string, d decision, o *evaluateOptions) {
	v.Type, v.Status, v.Code, v.Duplicated = conditionType, d.status, d.code, d.duplicated
	v.Optional = slices.Contains(o.optional, conditionType)
	if shown := d.shown; shown != nil {
		v.Reported, v.JudgedGeneration = shown.Status, judgedGeneration(dp, shown, o)
		v.Reason, v.Message = shown.Reason, shown.Message
		v.ObservedGeneration, v.LastTransitionTime = shown.ObservedGeneration, shown.LastTransitionTime
	}
}

// candidates are the conditions that a verdict may come from; nil if there are none.
type candidates struct {
	first      *metav1.Condition // as kubectl wait finds it, which takes a type in any case
	shown      *metav1.Condition // the one that outweighs the others of the type
	duplicated bool
}

// find finds the candidates for a type, with duplicates and other cases.
func find(dp *v1alpha1.DataPlane, conditionType string, o *evaluateOptions) (c candidates) {
	if dp == nil {
		return c
	}
	for i := range dp.Status.Conditions {
		condition := &dp.Status.Conditions[i]
		same := condition.Type == conditionType
		if c.first == nil && (same || mayFold(condition.Type, conditionType) && strings.EqualFold(condition.Type, conditionType)) {
			c.first = condition
		}
		switch {
		case !same:
		case c.shown == nil:
			c.shown = condition
		default:
			c.duplicated = true
			if outweighs(condition, c.shown, o) {
				c.shown = condition
			}
		}
	}
	return c
}

// decision is what a verdict says, and the condition that it shows; nil if there is none.
type decision struct {
	status     metav1.ConditionStatus
	code       Code
	shown      *metav1.Condition
	duplicated bool
}

// decide applies the rules of EvaluateCondition, in their order.
func (c candidates) decide(dp *v1alpha1.DataPlane, conditionType string, o *evaluateOptions) decision {
	switch {
	case dp == nil:
		return decision{metav1.ConditionUnknown, CodeNoObject, nil, false}
	case conditionType == v1alpha1.DataPlaneConditionReady && dp.DeletionTimestamp != nil:
		return decision{metav1.ConditionFalse, CodeTerminating, c.shown, c.duplicated}
	case c.shown == nil:
		return decision{metav1.ConditionUnknown, CodeNotReported, nil, false}
	}
	status, code := judge(dp, c.shown, o)
	if status == metav1.ConditionTrue && c.first != c.shown {
		if ofFirst, codeOfFirst := judge(dp, c.first, o); ofFirst != metav1.ConditionTrue {
			return decision{metav1.ConditionUnknown, codeOfFirst, c.first, c.duplicated}
		}
	}
	return decision{status, code, c.shown, c.duplicated}
}

// mayFold is false where the first letters show that strings.EqualFold is false, too.
func mayFold(a, b string) bool {
	return a == "" || b == "" || a[0] >= utf8.RuneSelf || b[0] >= utf8.RuneSelf || a[0]|0x20 == b[0]|0x20
}

// outweighs reports whether a counts rather than b, of the same type.
func outweighs(a, b *metav1.Condition, o *evaluateOptions) bool {
	if a.ObservedGeneration != b.ObservedGeneration && !o.statusOnly {
		return a.ObservedGeneration > b.ObservedGeneration
	}
	return badness(a.Status) > badness(b.Status)
}

func badness(status metav1.ConditionStatus) int {
	switch status {
	case metav1.ConditionTrue:
		return 0
	case metav1.ConditionUnknown:
		return 1
	case metav1.ConditionFalse:
		return 3
	default:
		return 2
	}
}

// judge weighs a single condition.
func judge(dp *v1alpha1.DataPlane, condition *metav1.Condition, o *evaluateOptions) (metav1.ConditionStatus, Code) {
	switch condition.Status {
	case metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown:
	default:
		return metav1.ConditionUnknown, CodeInvalidStatus
	}
	generation := dp.Generation
	ofCondition, ofStatus := o.observed(dp, condition)
	switch {
	case generation > 0 && (0 < ofCondition && ofCondition < generation || 0 < ofStatus && ofStatus < generation):
		return metav1.ConditionUnknown, CodeStale
	case generation > 0 && (ofCondition > generation || ofStatus > generation):
		return metav1.ConditionUnknown, CodeGenerationAhead
	case o.stableFor > 0 && condition.Status == metav1.ConditionTrue && age(condition.LastTransitionTime, o.clock()) < o.stableFor:
		return metav1.ConditionUnknown, CodeUnsettled
	case generation > 0 && (ofCondition > 0 || ofStatus > 0):
		return condition.Status, CodeCurrent
	case o.requireObserved:
		return metav1.ConditionUnknown, CodeUnverified
	default:
		return condition.Status, CodeUnverified
	}
}

// judgedGeneration returns the observed generation that is not the object's, or else
// any that there is.
func judgedGeneration(dp *v1alpha1.DataPlane, condition *metav1.Condition, o *evaluateOptions) int64 {
	ofCondition, ofStatus := o.observed(dp, condition)
	if ofCondition == 0 || ofStatus == 0 || ofCondition == ofStatus { // mostly
		return max(ofCondition, ofStatus)
	}
	for _, atFault := range []func(int64) bool{
		func(g int64) bool { return 0 < g && g < dp.Generation },
		func(g int64) bool { return g > dp.Generation },
	} {
		switch {
		case atFault(ofCondition):
			return ofCondition
		case atFault(ofStatus):
			return ofStatus
		}
	}
	return max(ofCondition, ofStatus)
}

// observed returns the observed generations that count.
func (o *evaluateOptions) observed(dp *v1alpha1.DataPlane, condition *metav1.Condition) (ofCondition, ofStatus int64) {
	ofCondition, ofStatus = condition.ObservedGeneration, dp.Status.ObservedGeneration
	if o.conditionOnly {
		ofStatus = 0
	}
	if o.statusOnly {
		ofCondition = 0
	}
	return ofCondition, ofStatus
}

// EvaluateOption changes how conditions are read.
type EvaluateOption func(*evaluateOptions)

type evaluateOptions struct {
	conditionOnly, statusOnly, requireObserved bool

	optional  []string
	stableFor time.Duration
	clock     func() time.Time // never nil when stableFor is set
}

var noOptions evaluateOptions // never changed

func newEvaluateOptions(opts []EvaluateOption) *evaluateOptions {
	if len(opts) == 0 {
		return &noOptions
	}
	o := &evaluateOptions{}
	for _, opt := range opts {
		if opt != nil {
			opt(o)
		}
	}
	return o
}

// ConditionGenerationOnly leaves status.observedGeneration out of account. It is
// for controllers that keep the observed generation of each condition up to date,
// but not that of the status. It undoes StatusGenerationOnly.
func ConditionGenerationOnly() EvaluateOption {
	return func(o *evaluateOptions) { o.conditionOnly, o.statusOnly = true, false }
}

// StatusGenerationOnly leaves the observed generation of each condition out of
// account. It is for controllers that keep status.observedGeneration up to date but
// not that of conditions, as OpenChoreo does from v0.12 on. It undoes
// ConditionGenerationOnly.
func StatusGenerationOnly() EvaluateOption {
	return func(o *evaluateOptions) { o.conditionOnly, o.statusOnly = false, true }
}

// RequireObserved makes a condition Unknown when nothing tells which generation was
// observed; its code stays CodeUnverified.
func RequireObserved() EvaluateOption {
	return func(o *evaluateOptions) { o.requireObserved = true }
}

// Optional makes [Report.Operational] leave out those of the types that are not reported.
// One that is reported counts as ever.
func Optional(conditionTypes ...string) EvaluateOption {
	return func(o *evaluateOptions) { o.optional = append(o.optional, conditionTypes...) }
}

// StableFor makes a condition that is True Unknown until it has been so for d, by its last
// transition time and a clock; nil stands for time.Now. A condition without a transition
// time, or with one in the future, has been True for no time at all. Since conditions
// tell whole seconds, d may come out up to a second short. 0 or less is no bound.
func StableFor(d time.Duration, clock func() time.Time) EvaluateOption {
	if clock == nil {
		clock = time.Now
	}
	return func(o *evaluateOptions) { o.stableFor, o.clock = d, clock }
}
