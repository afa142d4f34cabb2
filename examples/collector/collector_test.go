// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/collector"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestForFleet(t *testing.T) {
	at := time.Unix(1_700_000_000, 500_000_000)
	status := fleet.Status{
		Informers: []fleet.InformerStatus{{Kind: "DataPlane", Synced: true}, {Kind: "ClusterDataPlane"}, {Kind: "DataPlane"}},
		Sharding:  &fleet.ShardingStatus{Leads: []int{1, 2}, Waiting: []fleet.ShardWait{{Shard: 3}}},
		Planes: []fleet.PlaneStatus{
			{Namespace: "default", Name: "a", State: fleet.StateRunning, Restarts: 2, Connection: &remote.ConnectionStatus{
				Reachability: remote.ReachabilityReachable, LastSuccess: at, LastRotation: at, CertificateExpiry: at,
			}},
			{Name: "b", State: fleet.StateRetrying, LastError: "secret text"},
		},
	}
	c := collector.ForFleet(func() fleet.Status { return status })
	require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(`
		# HELP dataplane_certificate_expiry_timestamp_seconds When the client certificate of the connection expires.
		# TYPE dataplane_certificate_expiry_timestamp_seconds gauge
		dataplane_certificate_expiry_timestamp_seconds{name="a",namespace="default"} 1.7000000005e+09
		# HELP dataplane_last_rotation_timestamp_seconds When the credentials of the connection were last replaced.
		# TYPE dataplane_last_rotation_timestamp_seconds gauge
		dataplane_last_rotation_timestamp_seconds{name="a",namespace="default"} 1.7000000005e+09
		# HELP dataplane_last_success_timestamp_seconds When the data plane last answered.
		# TYPE dataplane_last_success_timestamp_seconds gauge
		dataplane_last_success_timestamp_seconds{name="a",namespace="default"} 1.7000000005e+09
		# HELP dataplane_reachability 1 for what the last request to the data plane has shown, a value of remote.Reachability.
		# TYPE dataplane_reachability gauge
		dataplane_reachability{name="a",namespace="default",reachability="Reachable"} 1
		# HELP dataplane_restarts_total Runs of the data plane after the first.
		# TYPE dataplane_restarts_total counter
		dataplane_restarts_total{name="a",namespace="default"} 2
		dataplane_restarts_total{name="b",namespace=""} 0
		# HELP dataplane_running 1 if the data plane has a run, or else 0.
		# TYPE dataplane_running gauge
		dataplane_running{name="a",namespace="default"} 1
		dataplane_running{name="b",namespace=""} 0
		# HELP fleet_informer_synced 1 if the informer has listed its kind, or else 0.
		# TYPE fleet_informer_synced gauge
		fleet_informer_synced{kind="ClusterDataPlane"} 0
		fleet_informer_synced{kind="DataPlane"} 0
		# HELP fleet_shards_led Shards that this replica leads.
		# TYPE fleet_shards_led gauge
		fleet_shards_led 2
		# HELP fleet_shards_waiting Shards that this replica takes over as soon as their holders let go.
		# TYPE fleet_shards_waiting gauge
		fleet_shards_waiting 1
	`)))
	requireNoLint(t, c)

	status.Planes = nil
	require.Equal(t, 4, testutil.CollectAndCount(c), "the series of data planes that are gone have ended")
}

func TestForCache(t *testing.T) {
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	dp := dataplanetest.DataPlane("default", "prod", server.As("user"))
	clients := remote.NewCache(
		func(types.NamespacedName) (*openchoreov1alpha1.DataPlane, error) { return dp, nil },
		func(cluster *remote.Cluster) (*http.Client, error) { return cluster.HTTPClient(), nil },
		remote.Options{},
	)
	c := collector.ForCache(clients.Status)
	require.Zero(t, testutil.CollectAndCount(c))
	client, err := clients.Get(types.NamespacedName{Namespace: "default", Name: "prod"})
	require.NoError(t, err)
	require.Equal(t, 1, testutil.CollectAndCount(c), "only the certificate is known")

	response, err := client.Get(server.URL() + "/readyz")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 1, testutil.CollectAndCount(c, "dataplane_reachability"))
	require.Equal(t, 1, testutil.CollectAndCount(c, "dataplane_last_success_timestamp_seconds"))
	requireNoLint(t, c)
	clients.Close()
}

func requireNoLint(t *testing.T, c prometheus.Collector) {
	t.Helper()
	problems, err := testutil.CollectAndLint(c)
	require.NoError(t, err)
	assert.Equal(t, []promlint.Problem(nil), problems)
}
