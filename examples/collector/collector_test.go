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
		Informers: []fleet.InformerStatus{
			{Kind: "DataPlane", Synced: true, ErrorTime: at}, {Kind: "ClusterDataPlane"}, {Kind: "DataPlane", ErrorTime: at.Add(-time.Minute)},
		},
		Sharding: &fleet.ShardingStatus{Leads: []int{1, 2}, Waiting: []fleet.ShardWait{{Shard: 3}}, LastError: "secret text"},
		Planes: []fleet.PlaneStatus{
			{Namespace: "default", Name: "a", State: fleet.StateRunning, Restarts: 2, Connection: &remote.ConnectionStatus{
				Reachability: remote.ReachabilityReachable, LastSuccess: at, LastRotation: at, CertificateExpiry: at,
			}},
			{Name: "b", State: fleet.StateRetrying, LastError: "secret text", Overdue: 1},
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
		# HELP dataplane_overdue_runs Abandoned runs of the data plane that haven't returned yet.
		# TYPE dataplane_overdue_runs gauge
		dataplane_overdue_runs{name="a",namespace="default"} 0
		dataplane_overdue_runs{name="b",namespace=""} 1
		# HELP dataplane_reachability 1 for the result of the last request to the data plane, a value of remote.Reachability.
		# TYPE dataplane_reachability gauge
		dataplane_reachability{name="a",namespace="default",reachability="Reachable"} 1
		# HELP dataplane_restarts_total Runs of the data plane after the first.
		# TYPE dataplane_restarts_total counter
		dataplane_restarts_total{name="a",namespace="default"} 2
		dataplane_restarts_total{name="b",namespace=""} 0
		# HELP dataplane_state 1 for the state of the data plane's runs, a value of fleet.State. Without a run, the metrics of the connection are absent.
		# TYPE dataplane_state gauge
		dataplane_state{name="a",namespace="default",state="Running"} 1
		dataplane_state{name="b",namespace="",state="Retrying"} 1
		# HELP fleet_informer_last_error_timestamp_seconds When a list or watch of the kind last failed.
		# TYPE fleet_informer_last_error_timestamp_seconds gauge
		fleet_informer_last_error_timestamp_seconds{kind="DataPlane"} 1.7000000005e+09
		# HELP fleet_informer_synced 1 if all informers of the kind have synced, otherwise 0. The kind is empty until an informer has an object or an error.
		# TYPE fleet_informer_synced gauge
		fleet_informer_synced{kind="ClusterDataPlane"} 0
		fleet_informer_synced{kind="DataPlane"} 0
		# HELP fleet_sharding_failing 1 if an error keeps this replica from its share of the shards, as at the start, otherwise 0. Status().Sharding.LastError has the error.
		# TYPE fleet_sharding_failing gauge
		fleet_sharding_failing 1
		# HELP fleet_shards_led Shards that this replica leads.
		# TYPE fleet_shards_led gauge
		fleet_shards_led 2
		# HELP fleet_shards_waiting Shards in this replica's share that it doesn't lead yet.
		# TYPE fleet_shards_waiting gauge
		fleet_shards_waiting 1
	`)))
	requireNoLint(t, c)

	status.Planes = nil
	require.Equal(t, 6, testutil.CollectAndCount(c), "the series of deleted data planes have ended")
	status.Sharding.LastError = ""
	require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(`
		# HELP fleet_sharding_failing 1 if an error keeps this replica from its share of the shards, as at the start, otherwise 0. Status().Sharding.LastError has the error.
		# TYPE fleet_sharding_failing gauge
		fleet_sharding_failing 0
	`), "fleet_sharding_failing"))
}

func TestADataPlaneInAFleetAndACache(t *testing.T) {
	connection := remote.ConnectionStatus{Reachability: remote.ReachabilityReachable, LastSuccess: time.Unix(1_700_000_000, 0)}
	ofFleet := collector.ForFleet(func() fleet.Status {
		return fleet.Status{Planes: []fleet.PlaneStatus{{Name: "a", State: fleet.StateRunning, Connection: &connection}}}
	})
	ofCache := collector.ForCache(func() remote.Status {
		return remote.Status{Planes: []remote.PlaneStatus{{Name: "a", ConnectionStatus: connection}}}
	})

	registry := prometheus.NewRegistry()
	registry.MustRegister(ofFleet, ofCache)
	_, err := registry.Gather()
	require.ErrorContains(t, err, "was collected before with the same name and label values")

	registry = prometheus.NewRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"connections": "fleet"}, registry).MustRegister(ofFleet)
	prometheus.WrapRegistererWith(prometheus.Labels{"connections": "cache"}, registry).MustRegister(ofCache)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
		# HELP dataplane_reachability 1 for the result of the last request to the data plane, a value of remote.Reachability.
		# TYPE dataplane_reachability gauge
		dataplane_reachability{connections="cache",name="a",namespace="",reachability="Reachable"} 1
		dataplane_reachability{connections="fleet",name="a",namespace="",reachability="Reachable"} 1
	`), "dataplane_reachability"))
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
