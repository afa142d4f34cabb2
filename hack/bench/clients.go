// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/connrotation"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

func clientRows() []row {
	return []row{
		{
			Name: "rest-config", Title: "from a DataPlane to a rest.Config", Metrics: perCallMetrics, rounds: 9,
			Subjects: []subject{
				{Name: "sdk", How: "helpers.RESTConfigFor, which verifies that certificates and key are usable", measure: convert(helpers.RESTConfigFor)},
				{Name: "floor", How: "base64, x509.ParseCertificate and tls.X509KeyPair: the least code that verifies", measure: convert(checkedConfig)},
				{Name: "unverified", How: "base64 only, as OpenChoreo's controller does; faults come with the first request", measure: convert(decodedConfig)},
			},
		},
		clientGetRow(1, "one caller"),
		clientGetRow(8, "8 callers at once"),
		{
			Name:  "remotes-up-down",
			Title: fmt.Sprintf("clients of %d data planes are made, send one request each, and are removed", users),
			Metrics: slices.Concat([]metric{{Name: "up", Unit: "s"}, {Name: "down", Unit: "s"}, {Name: "cpu", Unit: "s"}},
				stockMetrics(" up"), stockMetrics(" left")),
			plane: true, rounds: 5,
			prepare: prepareUsers,
			Subjects: []subject{
				{Name: "sdk", How: "remote.Cache with a lister and a handler", measure: upAndDown(sdkSource)},
				{Name: "mutex and map", How: "by hand, with the same guarantees", measure: upAndDown(mapSource)},
				{Name: "client-go", How: "kubernetes.NewForConfig, unverified; its clients can't be closed", measure: upAndDown(bareSource)},
			},
		},
	}
}

type configFunc func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error)

func convert(configFor configFunc) measureFunc {
	return func(context.Context, *input) (values, error) {
		dp := newDataPlane(0)
		return perCall(1, func() error {
			_, err := configFor(dp)
			return err
		})
	}
}

func clientGetRow(callers int, by string) row {
	of := func(newSource newSource) measureFunc {
		return func(context.Context, *input) (values, error) {
			clients := newSource.start()
			keys := make([]types.NamespacedName, users)
			for i := range keys {
				dp := newDataPlane(i)
				dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://" + dp.Name + ".example.com:6443"
				keys[i] = ctrlclient.ObjectKeyFromObject(dp)
				if _, err := clients.add(dp); err != nil {
					return nil, err
				}
			}
			var next atomic.Uint64
			return perCall(callers, func() error {
				_, err := clients.get(keys[next.Add(1)%users])
				return err
			})
		}
	}
	return row{
		Name:    fmt.Sprintf("client-get-%d", callers),
		Title:   fmt.Sprintf("the lookup of the client of one of %d data planes, by %s", users, by),
		Metrics: perCallMetrics, rounds: 9,
		Subjects: []subject{
			{Name: "sdk", How: "remote.Cache.Get with a lister", measure: of(sdkSource)},
			{Name: "mutex and map", How: "a lister, a mutex and a map by hand, with the same guarantees", measure: of(mapSource)},
			{Name: "client-go", How: "a lister, and kubernetes.NewForConfig each time", measure: of(bareSource)},
		},
	}
}

func prepareUsers(_ context.Context, f *fixture, in *input) (err error) {
	in.DataPlanes, err = addUsers(f)
	return err
}

func upAndDown(newSource newSource) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		clients := newSource.start()
		before := takeStock()
		kept := make([]kubernetes.Interface, len(in.DataPlanes))
		cpu, started := cpuTime(), time.Now()
		if err := parallel(ctx, 8, len(in.DataPlanes), func(ctx context.Context, i int) (err error) {
			if kept[i], err = clients.add(in.DataPlanes[i]); err != nil {
				return err
			}
			return whoAmI(ctx, kept[i], in.DataPlanes[i].Name)
		}); err != nil {
			return nil, err
		}
		v := values{"up": time.Since(started).Seconds(), "cpu": cpuTime() - cpu}
		v.addStock(" up", before)
		started = time.Now()
		for _, dp := range in.DataPlanes {
			if err := clients.remove(dp); err != nil {
				return nil, err
			}
		}
		clear(kept)
		v["down"] = time.Since(started).Seconds()
		v.addStock(" left", before)
		runtime.KeepAlive(clients)
		return v, nil
	}
}

// whoAmI asks a data plane for the name of the user, which must be want.
func whoAmI(ctx context.Context, client kubernetes.Interface, want string) error {
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err == nil && review.Status.UserInfo.Username != want {
		err = fmt.Errorf("a request as %s arrived as %s", want, review.Status.UserInfo.Username)
	}
	return err
}

// source gives a program the clients of data planes. add and remove act as its informer.
type source struct {
	get     getClient
	planes  cache.Indexer
	handler cache.ResourceEventHandler
}

type getClient func(key types.NamespacedName) (kubernetes.Interface, error)

// newSource makes the parts of a source that differ between subjects.
type newSource func(lister openchoreolisters.DataPlaneLister) (getClient, cache.ResourceEventHandler)

func (n newSource) start() *source {
	s := &source{planes: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})}
	s.get, s.handler = n(openchoreolisters.NewDataPlaneLister(s.planes))
	return s
}

func (s *source) add(dp *openchoreov1alpha1.DataPlane) (kubernetes.Interface, error) {
	if err := s.planes.Add(dp); err != nil {
		return nil, err
	}
	s.handler.OnAdd(dp, false)
	return s.get(ctrlclient.ObjectKeyFromObject(dp))
}

func (s *source) remove(dp *openchoreov1alpha1.DataPlane) error {
	if err := s.planes.Delete(dp); err != nil {
		return err
	}
	last := *dp
	last.ResourceVersion += "0" // to an API server, a deletion is a change
	s.handler.OnDelete(&last)
	return nil
}

// sdkSource keeps clients in a remote.Cache.
func sdkSource(lister openchoreolisters.DataPlaneLister) (getClient, cache.ResourceEventHandler) {
	clients := remote.NewCache(remote.FromListers(lister, nil), newClusterClient, remote.Options{ConfigFor: verifiedConfig})
	return clients.Get, clients.Handler()
}

func newClusterClient(c *remote.Cluster) (kubernetes.Interface, error) {
	return kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
}

// verifiedConfig is helpers.RESTConfigFor without a rate limit, like decodedConfig.
func verifiedConfig(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	config, err := helpers.RESTConfigFor(dp)
	if err == nil {
		config.QPS = -1
	}
	return config, err
}

// mapSource does by hand what remote.Cache does: it keeps a client for each data plane, with verified
// credentials and its own connections, which it closes when the DataPlane changes or is deleted. No
// get returns a client for an older DataPlane. A build sends no request, so all callers wait for it.
func mapSource(lister openchoreolisters.DataPlaneLister) (getClient, cache.ResourceEventHandler) {
	type entry struct {
		client          kubernetes.Interface
		closeAll        func()
		uid             types.UID
		resourceVersion string
	}
	var mu sync.Mutex
	clients := map[types.NamespacedName]entry{}
	remove := func(key types.NamespacedName) {
		if e, ok := clients[key]; ok {
			delete(clients, key)
			e.closeAll()
		}
	}
	get := func(key types.NamespacedName) (kubernetes.Interface, error) {
		mu.Lock()
		defer mu.Unlock()
		dp, err := lister.DataPlanes(key.Namespace).Get(key.Name)
		if err != nil {
			if apierrors.IsNotFound(err) {
				remove(key)
			}
			return nil, err
		}
		if e, ok := clients[key]; ok && e.uid == dp.UID && e.resourceVersion == dp.ResourceVersion {
			return e.client, nil
		}
		remove(key)
		client, closeAll, err := newOwnClient(dp)
		if err != nil {
			return nil, err
		}
		clients[key] = entry{client, closeAll, dp.UID, dp.ResourceVersion}
		return client, nil
	}
	handle := func(obj any) {
		if dp, ok := obj.(*openchoreov1alpha1.DataPlane); ok {
			_, _ = get(ctrlclient.ObjectKeyFromObject(dp))
		}
	}
	return get, cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, obj any) { handle(obj) }, DeleteFunc: handle}
}

// newOwnClient returns a client that shares no connection, and a function that closes all of them.
func newOwnClient(dp *openchoreov1alpha1.DataPlane) (kubernetes.Interface, func(), error) {
	config, err := checkedConfig(dp)
	if err != nil {
		return nil, nil, err
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, nil, err
	}
	dialer := connrotation.NewDialer((&net.Dialer{Timeout: 30 * time.Second}).DialContext)
	transport := utilnet.SetTransportDefaults(&http.Transport{TLSClientConfig: tlsConfig, DialContext: dialer.DialContext})
	client, err := kubernetes.NewForConfigAndClient(config, &http.Client{Transport: transport})
	return client, dialer.CloseAll, err
}

// bareSource makes a client for each call. client-go shares the connections of equal configurations.
func bareSource(lister openchoreolisters.DataPlaneLister) (getClient, cache.ResourceEventHandler) {
	return func(key types.NamespacedName) (kubernetes.Interface, error) {
		dp, err := lister.DataPlanes(key.Namespace).Get(key.Name)
		if err != nil {
			return nil, err
		}
		config, err := decodedConfig(dp)
		if err != nil {
			return nil, err
		}
		return kubernetes.NewForConfig(config)
	}, cache.ResourceEventHandlerFuncs{}
}

// clientsetSource keeps a clientset for each data plane.
func clientsetSource(lister openchoreolisters.DataPlaneLister) (getClient, cache.ResourceEventHandler) {
	makeClient, handler := bareSource(lister)
	var clients sync.Map
	return func(key types.NamespacedName) (kubernetes.Interface, error) {
		if client, ok := clients.Load(key); ok {
			return client.(kubernetes.Interface), nil
		}
		client, err := makeClient(key)
		clients.Store(key, client)
		return client, err
	}, handler
}

// checkedConfig verifies certificates and key with the least effort.
func checkedConfig(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	config, err := decodedConfig(dp)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(config.CAData)
	if block == nil {
		return nil, errors.New("the CA isn't PEM")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return nil, err
	}
	_, err = tls.X509KeyPair(config.CertData, config.KeyData)
	return config, err
}

func decodedConfig(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	creds := dp.Spec.KubernetesCluster.Credentials
	config := &rest.Config{Host: creds.APIServerURL, QPS: -1}
	var errs [3]error
	config.CAData, errs[0] = base64.StdEncoding.DecodeString(creds.CACert)
	config.CertData, errs[1] = base64.StdEncoding.DecodeString(creds.ClientCert)
	config.KeyData, errs[2] = base64.StdEncoding.DecodeString(creds.ClientKey)
	return config, errors.Join(errs[:]...)
}
