// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// conclude applies the rules that read more than the conditions of the type.
func (o *evaluateOptions) conclude(v *Verdict, dp *v1alpha1.DataPlane) {
	switch v.Type {
	case v1alpha1.DataPlaneConditionConnected:
		o.judgeAgent(v, dp.Status.AgentConnection)
	case v1alpha1.DataPlaneConditionReady:
		switch {
		case dp.DeletionTimestamp != nil:
			v.Status, v.Code = metav1.ConditionFalse, CodeTerminating
		case v.Code != CodeNotReported:
		case o.stock:
			o.deriveReady(v, dp, v1alpha1.DataPlaneConditionConnected)
			// OpenChoreo v1 writes Created before it has looked for an agent.
			if v.Code == CodeNotReported && dp.Spec.ClusterAgent == nil {
				o.deriveReady(v, dp, v1alpha1.DataPlaneConditionCreated)
			}
		default:
			for i, from := range o.readyFrom {
				var other Verdict
				if o.deriveReady(&other, dp, from); i == 0 || worse(other.Status, v.Status) {
					*v = other
				}
			}
		}
	}
}

// deriveReady sets v to the verdict on Ready that follows from another type.
func (o *evaluateOptions) deriveReady(v *Verdict, dp *v1alpha1.DataPlane, from string) {
	o.read(v, dp, from)
	if from == v1alpha1.DataPlaneConditionConnected {
		o.judgeAgent(v, dp.Status.AgentConnection)
	}
	v.Type, v.From = v1alpha1.DataPlaneConditionReady, from
}

// judgeAgent sets the verdict on Connected if no condition reports it and agent isn't nil.
// It compares no generations: most changes of the spec leave the connection alone, and OpenChoreo
// never updates the observed generations of a ClusterDataPlane.
func (o *evaluateOptions) judgeAgent(v *Verdict, agent *v1alpha1.AgentConnectionStatus) {
	if v.Code != CodeNotReported || agent == nil {
		return
	}
	v.From, v.Message = FromAgentConnection, agent.Message
	v.Status, v.Code = metav1.ConditionFalse, CodeCurrent
	since := agent.LastDisconnectedTime
	if agent.Connected {
		v.Status, since = metav1.ConditionTrue, agent.LastConnectedTime
	}
	v.Reported = v.Status
	if since != nil {
		v.LastTransitionTime = *since
	}
	if agent.LastHeartbeatTime != nil {
		v.LastHeartbeatTime = *agent.LastHeartbeatTime
	}
	switch {
	case !agent.Connected:
	case o.heartbeatWithin > 0 && (v.LastHeartbeatTime.IsZero() || age(v.LastHeartbeatTime, o.heartbeatClock()) > o.heartbeatWithin):
		v.Status, v.Code = metav1.ConditionUnknown, CodeStale
	case o.stableFor > 0 && age(v.LastTransitionTime, o.clock()) < o.stableFor:
		v.Status, v.Code = metav1.ConditionUnknown, CodeUnsettled
	}
}

func (o *evaluateOptions) judge(dp *v1alpha1.DataPlane, c *metav1.Condition) (metav1.ConditionStatus, Code) {
	generation, ofCondition, ofStatus := dp.Generation, o.observed(dp, c), dp.Status.ObservedGeneration
	if dp.Namespace == "" && (ofCondition > 0 || o.stock && c.Type == v1alpha1.DataPlaneConditionCreated) {
		ofStatus = 0 // OpenChoreo leaves that of a ClusterDataPlane at the first generation
	}
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

// observed returns the observed generation of a condition, or 0 if it doesn't count. Releases of
// OpenChoreo that store status.observedGeneration leave the generation of Created at the first.
func (o *evaluateOptions) observed(dp *v1alpha1.DataPlane, c *metav1.Condition) int64 {
	if o.statusOnly || o.stock && c.Type == v1alpha1.DataPlaneConditionCreated && dp.Status.ObservedGeneration > 0 {
		return 0
	}
	return c.ObservedGeneration
}

// worse orders False before Unknown before True.
func worse(a, b metav1.ConditionStatus) bool {
	return a != b && (a == metav1.ConditionFalse || b == metav1.ConditionTrue)
}

// age returns 0 for an unknown time or one in the future.
func age(since metav1.Time, now time.Time) time.Duration {
	if since.IsZero() {
		return 0
	}
	return max(now.Sub(since.Time), 0)
}
