// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func TestInformersOfDataPlanesOnAConfig(t *testing.T) {
	t.Parallel()
	objects := dataplanetest.NewObjects(dataplanetest.DataPlane("default", "prod"), dataplanetest.ClusterDataPlane("default"))
	management := newServer(t, objects)
	client, err := openchoreoclient.NewForConfig(management.Config("my-program"))
	require.NoError(t, err)
	informers := openchoreoinformers.NewSharedInformerFactory(client, 0).OpenChoreo().V1alpha1()
	dataPlanes, clusterDataPlanes := events(t, informers.DataPlanes().Informer()), events(t, informers.ClusterDataPlanes().Informer())
	assert.Equal(t, "added default/prod", receive(t, dataPlanes))
	assert.Equal(t, "added default", receive(t, clusterDataPlanes))

	objects.Set(dataplanetest.ClusterDataPlane("default", dataplanetest.AgentAway))
	objects.Delete(dataplanetest.DataPlane("default", "prod"))
	assert.Equal(t, "updated default", receive(t, clusterDataPlanes))
	assert.Equal(t, "deleted default/prod", receive(t, dataPlanes))
	for _, request := range management.Requests() {
		assert.Equal(t, "my-program", request.User)
	}
}

func TestConfigIsOfTheServerAsItIsNow(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*dataplanetest.Server)
		before remote.Reachability // of a config from before the change
	}{
		"after another call":            {func(server *dataplanetest.Server) { server.Config("alice") }, remote.ReachabilityReachable},
		"after another CA of clients":   {(*dataplanetest.Server).RotateClients, remote.ReachabilityUnauthorized},
		"after another CA of servers":   {(*dataplanetest.Server).RotateServer, remote.ReachabilityTLSFailure},
		"after a move to a new address": {(*dataplanetest.Server).Move, remote.ReachabilityRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t, nil)
			before := server.Config("alice")
			test.change(server)
			after := server.Config("alice")
			assert.NotEqual(t, before.CertData, after.CertData)
			assert.Equal(t, test.before, reachability(t, before))
			assert.Equal(t, remote.ReachabilityReachable, reachability(t, after))
		})
	}
}

// reachability returns how a new client of a config is answered.
func reachability(t *testing.T, config *rest.Config) remote.Reachability {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	_, err = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
	return remote.Classify(err)
}
