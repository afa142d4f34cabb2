// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package repository_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// Broken data planes and servers that cause the errors of docs/troubleshooting.md.

func newServer(t *testing.T) *dataplanetest.Server {
	server := dataplanetest.NewServer(nil)
	t.Cleanup(server.Close)
	return server
}

// expired is a data plane whose client certificate was valid until an hour ago.
func expired(server *dataplanetest.Server) *v1alpha1.DataPlane {
	dp := dataplanetest.DataPlane("default", "prod", server.As("user"))
	key := pki.ECDSAKey()
	credentials := &dp.Spec.KubernetesCluster.Credentials
	credentials.ClientCert = pki.Encode(pki.Certificates(pki.New().Issue("user", key, pki.Expired)))
	credentials.ClientKey = pki.Encode(pki.PKCS8(key))
	return dp
}

func probe(t *testing.T, dp *v1alpha1.DataPlane, options remote.Options) error {
	cluster, err := remote.NewCluster(dp, options)
	require.NoError(t, err)
	t.Cleanup(cluster.Abort)
	return cluster.Probe(t.Context())
}

// get returns the error of a request for a path.
func get(t *testing.T, dp *v1alpha1.DataPlane, options remote.Options, path string) error {
	cluster, err := remote.NewCluster(dp, options)
	require.NoError(t, err)
	t.Cleanup(cluster.Abort)
	client, err := coordinationv1client.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	require.NoError(t, err)
	return client.RESTClient().Get().RequestURI(path).Do(t.Context()).Error()
}

// rotated returns the error of a request that was under way during a rotation.
func rotated(t *testing.T) error {
	server, arrived := newServer(t), make(chan struct{})
	server.SetHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("user")), remote.Options{Grace: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(cluster.Abort)
	probed := make(chan error)
	go func() { probed <- cluster.Probe(t.Context()) }()
	<-arrived
	require.NoError(t, cluster.Update(dataplanetest.DataPlane("default", "prod", server.As("user"))))
	return <-probed
}

// throughGateway returns the error of a Probe through a gateway. edit changes the gateway and the
// config for it; edits change its server.
func throughGateway(t *testing.T, agent http.Handler, edit func(*dataplanetest.Gateway, *rest.Config), edits ...func(*httptest.Server)) error {
	cluster := behindGateway(t, agent, edit, edits...)
	return cluster.Probe(t.Context())
}

func behindGateway(t *testing.T, agent http.Handler, edit func(*dataplanetest.Gateway, *rest.Config), edits ...func(*httptest.Server)) *remote.Cluster {
	gateway := dataplanetest.NewGateway(edits...)
	t.Cleanup(gateway.Close)
	if agent == nil {
		agent = dataplanetest.Status(http.StatusOK)
	}
	gateway.Connect("prod", agent)
	config := gateway.Config()
	edit(gateway, config)
	cluster, err := remote.NewCluster(dataplanetest.ClusterDataPlane("prod").AsDataPlane(), remote.Options{ConfigFor: helpers.ConfigFor(config)})
	require.NoError(t, err)
	t.Cleanup(cluster.Abort)
	return cluster
}

// expiredGateway returns the error of a Probe through a gateway whose certificate has expired.
func expiredGateway(t *testing.T) error {
	authority, key := pki.New(), pki.ECDSAKey()
	certificate := authority.Issue("gateway", key, pki.Expired, func(c *x509.Certificate) {
		c.ExtKeyUsage, c.DNSNames = nil, []string{"gateway.example.com"}
	})
	return throughGateway(t, nil, func(_ *dataplanetest.Gateway, config *rest.Config) {
		config.CAData, config.ServerName = pki.Certificates(authority.Cert), "gateway.example.com"
	}, func(s *httptest.Server) {
		s.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}
	})
}

// through sends a request through a gateway, and returns its error.
func through(t *testing.T, path string) error {
	t.Helper()
	cluster := behindGateway(t, nil, func(*dataplanetest.Gateway, *rest.Config) {})
	client, err := coordinationv1client.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	require.NoError(t, err)
	parsed, err := url.Parse(path)
	require.NoError(t, err)
	request := client.RESTClient().Get().AbsPath(parsed.Path) // which follows the path of the gateway
	for name := range parsed.Query() {
		request = request.Param(name, parsed.Query().Get(name))
	}
	return request.Do(t.Context()).Error()
}

// waited returns the error of a wait for a data plane in the fake clientset.
func waited(t *testing.T, until await.Until, edits ...func(*v1alpha1.DataPlane)) error {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	dataPlanes := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", edits...)).OpenChoreoV1alpha1().DataPlanes("default")
	_, err := await.For(ctx, dataPlanes, "prod", until)
	return err
}

// newFleet returns a Fleet with one data plane.
func newFleet(t *testing.T, options fleet.Options, run func(context.Context, *remote.Cluster) error) *fleet.Fleet {
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", newServer(t).As("user")))
	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	f := fleet.New(run, options, factory.OpenChoreo().V1alpha1().DataPlanes().Informer())
	ctx, cancel := context.WithCancel(t.Context())
	factory.StartWithContext(ctx)
	t.Cleanup(func() {
		cancel()
		factory.Shutdown()
	})
	return f
}

// shardingError returns the LastError of a replica of the program with one shard, once it has part.
func shardingError(t *testing.T, leases *leases, part string) error {
	f := newFleet(t, fleet.Options{Sharding: &fleet.Sharding{
		Leases: leases, Namespace: "default", Name: "program", Identity: "a", Shards: 1, LeaseDuration: 3 * time.Second,
	}}, func(ctx context.Context, _ *remote.Cluster) error { <-ctx.Done(); return nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	var text string
	require.Eventually(t, func() bool {
		text = f.Status().Sharding.LastError
		return strings.Contains(text, part)
	}, 30*time.Second, 10*time.Millisecond)
	return errors.New(text)
}

// leases keeps Leases of one namespace.
type leases struct {
	coordinationv1client.LeaseInterface
	silent bool // no write is answered
	mu     sync.Mutex
	byName map[string]coordinationv1.Lease
}

// newLeases has one Lease.
func newLeases(name, holder string) *leases {
	seconds, now := int32(60), metav1.NowMicro()
	lease := coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now}}
	lease.Name = name
	return &leases{byName: map[string]coordinationv1.Lease{name: lease}}
}

func (l *leases) Leases(string) coordinationv1client.LeaseInterface { return l }

func (l *leases) List(context.Context, metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &coordinationv1.LeaseList{Items: slices.Collect(maps.Values(l.byName))}, nil
}

func (l *leases) Get(_ context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lease, found := l.byName[name]; found {
		return &lease, nil
	}
	return nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), name)
}

func (l *leases) Create(ctx context.Context, lease *coordinationv1.Lease, options metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return l.write(ctx, lease, options.DryRun)
}

func (l *leases) Update(ctx context.Context, lease *coordinationv1.Lease, options metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	return l.write(ctx, lease, options.DryRun)
}

func (l *leases) write(ctx context.Context, lease *coordinationv1.Lease, dryRun []string) (*coordinationv1.Lease, error) {
	if len(dryRun) > 0 {
		return lease, nil
	}
	if l.silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byName[lease.Name] = *lease
	return lease, nil
}

func (l *leases) Delete(context.Context, string, metav1.DeleteOptions) error { return nil }
