// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

const (
	rotateNamespace = "rotate"
	rotateGroup     = "rotate:readers"
	rotateObjects   = 100
	// rotateAtOnce is how many data planes are rotated at the same time.
	rotateAtOnce = 8
	// rotateWritten is how many of the ConfigMaps are written, in turns, one every rotateInterval.
	rotateWritten  = 10
	rotateInterval = 500 * time.Millisecond
	// rotateAsked is how many data planes have a client that goes on to send requests, with a pause
	// after each.
	rotateAsked = 10
	rotatePause = 50 * time.Millisecond
	// rotateWindow is how long the costs are measured from the start of the rotation, so that all
	// subjects have the same traffic. A rotation that takes longer is measured to its end.
	rotateWindow = 20 * time.Second
	rotateLimit  = 3 * time.Minute
)

// rotateRows rotate the credentials of many connected data planes at once. Each data plane
// is a user of the one control plane.
func rotateRows() []row {
	of := func(connect connectFunc, mustHold bool) func(context.Context, *input) (measureFunc, error) {
		return func(_ context.Context, in *input) (measureFunc, error) {
			return func(ctx context.Context, _ func() (int, error)) (values, error) {
				v, err := measureRotation(ctx, in, connect)
				for _, name := range []string{"lists", "failed requests", "events lost"} {
					if err == nil && mustHold && v[name] != 0 {
						err = fmt.Errorf("%s: %g, want none", name, v[name])
					}
				}
				return v, err
			}, nil
		}
	}
	return []row{{
		name: "rotate-informers",
		title: fmt.Sprintf("%d data planes with an informer of %d ConfigMaps each get new credentials at once: the time "+
			"until all watch with them, and of the first request with them; cpu and received in %s", remoteCount, rotateObjects, rotateWindow),
		metrics: []metric{
			{Name: "time", Unit: seconds},
			{Name: "first request", Unit: seconds},
			{Name: "cpu", Unit: seconds},
			{Name: "received", Unit: bytesUnit},
			{Name: "lists", Unit: count},
			{Name: "failed requests", Unit: count},
			{Name: "requests", Unit: count, Info: true},
			{Name: "events lost", Unit: count},
			{Name: "events", Unit: count, Info: true},
		},
		onPlane: true,
		fresh:   true,
		scope:   fullRun,
		rounds:  [2]int{3, 3},
		prepare: prepareRotation,
		cleanup: func(ctx context.Context, f *fixture) error {
			return f.kubernetes.CoreV1().ConfigMaps(rotateNamespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		},
		subjects: []subject{
			{
				name:  "sdk",
				how:   "remote.Cluster.Update; informers go on, and resume their watches at random within three quarters of CloseGrace (5 s)",
				start: of(connectSDK, true),
			},
			{
				name:  "client-go",
				how:   "stop the informer, kubernetes.NewForConfig, and start another informer, 8 at once",
				start: of(connectClientGo, false),
			},
		},
	}}
}

// prepareRotation makes two certificates for each user, and the ConfigMaps that all may read.
func prepareRotation(ctx context.Context, f *fixture, in *input) error {
	for i := range remoteCount {
		for _, all := range []*[]*openchoreov1alpha1.DataPlane{&in.DataPlanes, &in.Rotated} {
			user, err := f.plane.AddUser(remoteName(i), rotateGroup)
			if err != nil {
				return err
			}
			*all = append(*all, dataPlaneOf(user))
		}
	}
	if err := f.createNamespace(ctx, rotateNamespace); err != nil {
		return err
	}
	name := metav1.ObjectMeta{Name: "readers"}
	if _, err := f.kubernetes.RbacV1().Roles(rotateNamespace).Create(ctx, &rbacv1.Role{
		ObjectMeta: name,
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list", "watch"}}},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := f.kubernetes.RbacV1().RoleBindings(rotateNamespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: name,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: rotateGroup}},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	for i := range rotateObjects {
		if _, err := f.kubernetes.CoreV1().ConfigMaps(rotateNamespace).Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: objectName(i)},
			Data:       map[string]string{"content": strings.Repeat("0123456789abcdef", 64)},
		}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// rotation is a measurement under way.
type rotation struct {
	meter  meter
	began  atomic.Bool
	lists  atomic.Int64 // that were sent since it began
	planes []*rotatedPlane
}

// rotatedPlane is a connected data plane.
type rotatedPlane struct {
	rotation    *rotation
	first, next *openchoreov1alpha1.DataPlane
	client      atomic.Pointer[kubernetes.Clientset]
	synced      atomic.Pointer[cache.InformerSynced]
	watches     atomic.Pointer[openchoreov1alpha1.DataPlane] // whose credentials the last watch has

	mu   sync.Mutex
	seen map[int]bool // writes that came to a handler
}

// connectFunc connects with the credentials of p.first and starts an informer. rotate goes over to
// those of p.next.
type connectFunc func(ctx context.Context, p *rotatedPlane) (rotate func() error, err error)

func connectSDK(ctx context.Context, p *rotatedPlane) (rotate func() error, err error) {
	cluster, err := remote.NewCluster(p.first, remote.Options{ConfigFor: func(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
		config, err := verifiedConfig(dp)
		return p.metered(dp, config), err
	}})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, cluster.Close)
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		return nil, err
	}
	return func() error { return cluster.Update(p.next) }, p.startInformer(ctx, client)
}

func connectClientGo(ctx context.Context, p *rotatedPlane) (rotate func() error, err error) {
	start := func(dp *openchoreov1alpha1.DataPlane) (stop func(), err error) {
		config, err := decodedConfig(dp)
		if err != nil {
			return nil, err
		}
		client, err := kubernetes.NewForConfig(p.metered(dp, config))
		if err != nil {
			return nil, err
		}
		running, stop := context.WithCancel(ctx)
		return stop, p.startInformer(running, client)
	}
	stop, err := start(p.first)
	return func() error {
		stop()
		_, err := start(p.next)
		return err
	}, err
}

// startInformer starts an informer that ends with ctx.
func (p *rotatedPlane) startInformer(ctx context.Context, client *kubernetes.Clientset) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(rotateNamespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    p.see,
		UpdateFunc: func(_, obj any) { p.see(obj) },
	}); err != nil {
		return err
	}
	synced := informer.HasSynced
	p.client.Store(client)
	p.synced.Store((*cache.InformerSynced)(&synced))
	factory.Start(ctx.Done())
	return nil
}

func (p *rotatedPlane) see(obj any) {
	object, ok := obj.(*corev1.ConfigMap)
	if !ok {
		return
	}
	if n, err := strconv.Atoi(object.Annotations[sentAnnotation]); err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.seen[n] = true
	}
}

// metered has the connections and requests of a configuration counted.
func (p *rotatedPlane) metered(dp *openchoreov1alpha1.DataPlane, config *rest.Config) *rest.Config {
	if config == nil {
		return nil
	}
	config.Dial = p.rotation.meter.dial
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			query := req.URL.Query()
			watch := query.Get("watch") == "true"
			// A watch that begins with all objects is a list too.
			list := strings.HasSuffix(req.URL.Path, "/configmaps") && (!watch || query.Get("sendInitialEvents") == "true")
			if list && p.rotation.began.Load() {
				p.rotation.lists.Add(1)
			}
			resp, err := next.RoundTrip(req)
			if err == nil && watch && resp.StatusCode == http.StatusOK {
				p.watches.Store(dp)
			}
			return resp, err
		})
	}
	return config
}

type roundTripper func(req *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
