// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// DataPlane returns a DataPlane that helpers.Validate accepts, without a status, as if it
// had just been created. Edits change it, in their order: [Ready] and others of this package, or a
// test's own functions.
//
// It has a new client certificate and key, valid for 23 hours, for an address that refuses connections;
// [Server.As] and [WithCredentials] set those of a server. Its UID is derived from namespace and
// name: two DataPlanes of one name are the same object, unless an edit changes the UID. It has no
// resource version, so it can even be created on a real API server.
func DataPlane(namespace, name string, edits ...func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
	dp := &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         namespace,
			Name:              name,
			UID:               types.UID(fmt.Sprintf("%x", sha256.Sum256([]byte(namespace+"/"+name)))[:32]),
			Generation:        1,
			CreationTimestamp: now(),
		},
		Spec: v1alpha1.DataPlaneSpec{
			KubernetesCluster: v1alpha1.KubernetesClusterSpec{
				Name:        name,
				Credentials: issue(authority(), "alice", authority().Cert, noServer),
			},
			Registry: v1alpha1.Registry{Prefix: "docker.io/myorg"},
			Gateway: v1alpha1.GatewaySpec{
				PublicVirtualHost:       "api.example.com",
				OrganizationVirtualHost: "internal.example.com",
			},
		},
	}
	for _, edit := range edits {
		edit(dp)
	}
	return dp
}

// noServer is on loopback, so that tests don't ask a name server for it.
const noServer = "https://127.0.0.1:1"

// authority signs the certificates for noServer.
var authority = sync.OnceValue(pki.New)

func issue(clients *pki.Authority, user string, server *x509.Certificate, url string) v1alpha1.APIServerCredentials {
	issued := issueTLS(clients, user, server)
	return v1alpha1.APIServerCredentials{
		APIServerURL: url,
		CACert:       pki.Encode(issued.CAData),
		ClientCert:   pki.Encode(issued.CertData),
		ClientKey:    pki.Encode(issued.KeyData),
	}
}

// issueTLS returns a new client certificate for a user, its key, and the certificate to trust.
func issueTLS(clients *pki.Authority, user string, server *x509.Certificate) rest.TLSClientConfig {
	key := pki.ECDSAKey()
	return rest.TLSClientConfig{
		CAData:   pki.Certificates(server),
		CertData: pki.Certificates(clients.Issue(user, key)),
		KeyData:  pki.PKCS8(key),
	}
}

func now() metav1.Time { return ago(0) }

// ago returns a time in whole seconds, as API servers store it.
func ago(age time.Duration) metav1.Time {
	return metav1.NewTime(time.Now().Add(-age).Truncate(time.Second))
}

// Ready is an edit that sets the condition Ready to True for the current generation.
func Ready(dp *v1alpha1.DataPlane) {
	Condition(v1alpha1.DataPlaneConditionReady, metav1.ConditionTrue)(dp)
}

// Connected is an edit that sets the condition Connected to True for the current generation.
func Connected(dp *v1alpha1.DataPlane) {
	Condition(v1alpha1.DataPlaneConditionConnected, metav1.ConditionTrue)(dp)
}

// Condition returns an edit that sets a condition for the current generation, with the
// reason "Tested" and the present time. It leaves status.observedGeneration alone.
func Condition(conditionType string, status metav1.ConditionStatus) func(*v1alpha1.DataPlane) {
	return func(dp *v1alpha1.DataPlane) {
		meta.SetStatusCondition(&dp.Status.Conditions, metav1.Condition{
			Type: conditionType, Status: status, Reason: "Tested", ObservedGeneration: dp.Generation, LastTransitionTime: now(),
		})
	}
}

// Stale is an edit that increments the generation, as after a change of the spec that no
// controller has seen. Use it after the edits that set conditions.
func Stale(dp *v1alpha1.DataPlane) { dp.Generation++ }

// Deleted is an edit for a DataPlane that was deleted and waits for a finalizer.
func Deleted(dp *v1alpha1.DataPlane) {
	switch {
	case len(dp.Finalizers) > 0:
	case dp.Namespace == "":
		dp.Finalizers = []string{"openchoreo.dev/clusterdataplane-cleanup"}
	default:
		dp.Finalizers = []string{"openchoreo.dev/dataplane-cleanup"}
	}
	at, grace := now(), int64(0)
	dp.DeletionTimestamp, dp.DeletionGracePeriodSeconds = &at, &grace
	dp.Generation++ // as API servers do
}

// V1 is an edit that makes a DataPlane of OpenChoreo v1 whose agent is connected: without
// credentials and registry, with a clusterAgent, the condition Created, and an agent that has just
// connected to the cluster gateway. It keeps the plane ID, whose default is the name. [AgentAway]
// and [HeartbeatAgo], after V1, change the agent's state. A [ClusterDataPlane] needs no V1.
func V1(dp *v1alpha1.DataPlane) {
	dp.Spec = v1alpha1.DataPlaneSpec{PlaneID: dp.Spec.PlaneID, ClusterAgent: &v1alpha1.ClusterAgentConfig{
		ClientCA: v1alpha1.ValueFrom{Value: string(pki.Certificates(authority().Cert))},
	}}
	Condition(v1alpha1.DataPlaneConditionCreated, metav1.ConditionTrue)(dp)
	dp.Status.ObservedGeneration = dp.Generation
	dp.Status.AgentConnection = nil
	HeartbeatAgo(0)(dp)
}

// AgentAway is an edit for a data plane of OpenChoreo v1 without a connected agent, with the status
// that OpenChoreo writes then: an agent that was connected has disconnected now, and the times of
// its connection and its last heartbeat stay. If the status has no agent, none has ever connected.
func AgentAway(dp *v1alpha1.DataPlane) {
	agent := agentOf(dp)
	if agent.Connected {
		at := now()
		agent.LastDisconnectedTime = &at
	}
	agent.Connected, agent.ConnectedAgents, agent.Message = false, 0, "No agents connected"
}

// HeartbeatAgo returns an edit for a data plane of OpenChoreo v1 whose status says that an agent is
// connected, with its last heartbeat at age before now, in whole seconds. With an age of more than
// a few minutes, it is the status that stays when OpenChoreo's controller hangs; see
// helpers.HeartbeatWithin. HeartbeatAgo(0) connects the agent again after [AgentAway].
func HeartbeatAgo(age time.Duration) func(*v1alpha1.DataPlane) {
	return func(dp *v1alpha1.DataPlane) {
		agent, at := agentOf(dp), ago(age)
		if !agent.Connected || at.Before(agent.LastConnectedTime) {
			agent.LastConnectedTime = &at
		}
		agent.Connected, agent.ConnectedAgents, agent.Message = true, 1, "1 agent connected"
		agent.LastHeartbeatTime = at.DeepCopy()
	}
}

// agentOf returns the state of dp's agent, which it creates if the status has none.
func agentOf(dp *v1alpha1.DataPlane) *v1alpha1.AgentConnectionStatus {
	if dp.Status.AgentConnection == nil {
		dp.Status.AgentConnection = &v1alpha1.AgentConnectionStatus{}
	}
	return dp.Status.AgentConnection
}

// ClusterDataPlane returns a ClusterDataPlane as OpenChoreo v1's installers create it and its
// controllers report it: with the condition Created and a connected agent. Its plane ID is its
// name. Like a [DataPlane], it has a UID derived from its name, and no resource version.
//
// Edits change its AsDataPlane, in their order: [Ready], [AgentAway] and others of this package, or a
// test's own functions. ClusterDataPlane panics if an edit sets a field that ClusterDataPlanes lack,
// such as the credentials, or removes the clusterAgent. To edit the status of a stored object, take
// that of a new one:
//
//	stored.Status = dataplanetest.ClusterDataPlane(stored.Name, dataplanetest.AgentAway).Status
func ClusterDataPlane(name string, edits ...func(*v1alpha1.DataPlane)) *v1alpha1.ClusterDataPlane {
	dp := DataPlane("", name, V1)
	dp.Spec.PlaneID = name
	for _, edit := range edits {
		edit(dp)
	}
	cdp := &v1alpha1.ClusterDataPlane{
		ObjectMeta: dp.ObjectMeta,
		Spec: v1alpha1.ClusterDataPlaneSpec{
			PlaneID:               dp.Spec.PlaneID,
			SecretStoreRef:        dp.Spec.SecretStoreRef,
			ObservabilityPlaneRef: dp.Spec.ObservabilityPlaneRef,
		},
		Status: dp.Status,
	}
	if agent := dp.Spec.ClusterAgent; agent != nil {
		cdp.Spec.ClusterAgent = *agent
	}
	if gateway := dp.Spec.Gateway; gateway.Ingress != nil || gateway.Egress != nil {
		cdp.Spec.Gateway = &v1alpha1.ClusterDataPlaneGateway{Ingress: gateway.Ingress, Egress: gateway.Egress}
	}
	if !equality.Semantic.DeepEqual(dp, cdp.AsDataPlane()) {
		panic(fmt.Sprintf("an edit of ClusterDataPlane %s changes a field that only DataPlanes have, or removes the clusterAgent", name))
	}
	return cdp
}

// WithCredentials returns an edit that gives a DataPlane the address and credentials of a
// config, such as an envtest environment's. It panics if a DataPlane can't hold them; see
// helpers.CredentialsFor.
func WithCredentials(config *rest.Config) func(*v1alpha1.DataPlane) {
	credentials, err := helpers.CredentialsFor(config)
	if err != nil {
		panic(err)
	}
	return func(dp *v1alpha1.DataPlane) { dp.Spec.KubernetesCluster.Credentials = credentials }
}
