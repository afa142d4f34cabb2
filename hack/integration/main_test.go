// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package integration tests the SDK against real API servers. Most tests share one control plane,
// each in its own namespace. Tests that need another CRD of DataPlane, or that end the API server,
// start other control planes.
package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

const (
	// eventually is how long to wait for an expected event. It is long, for busy machines.
	eventually = 3 * time.Minute
	tick       = 50 * time.Millisecond
)

// shared serves OpenChoreo v0.3's CRD of DataPlane.
var shared *plane

// v1 serves the CRDs of OpenChoreo v1. Tests get it by v1Plane.
var v1 struct {
	once  sync.Once
	plane *plane
	err   error
}

// v1Plane returns v1, which the first test that needs it starts.
func v1Plane(t *testing.T) *plane {
	t.Helper()
	v1.once.Do(func() {
		ctx := context.Background()
		if v1.plane, v1.err = startPlane(ctx, crds.DataPlaneV1(), controlplane.WithName("v1")); v1.err == nil {
			v1.err = v1.plane.InstallCRDs(ctx, crds.ClusterDataPlane())
		}
	})
	require.NoError(t, v1.err)
	return v1.plane
}

func TestMain(m *testing.M) {
	if os.Getenv(replicaEnv) != "" {
		os.Exit(replicaMain())
	}
	if os.Getenv(soakEnv) != "" {
		os.Exit(soakMain())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctrllog.SetLogger(logr.Discard()) // without a logger, controller-runtime prints a warning
	// The binaries may have to be built first, for some minutes.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, err := controlplane.Binaries(ctx, os.Stderr, "kubectl"); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	var err error
	if shared, err = startPlane(ctx, crds.DataPlane(), controlplane.WithName("shared")); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	stop()
	code := m.Run()
	for _, p := range []*plane{shared, v1.plane} {
		if p == nil {
			continue
		}
		if err := p.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			code = 1
		}
	}
	return code
}

// plane is a control plane that serves DataPlanes, with clients that may do anything.
type plane struct {
	*controlplane.ControlPlane
	openchoreo openchoreoclient.Interface
	dynamic    dynamic.Interface
	kubernetes kubernetes.Interface
}

// ownPlane starts a control plane that ends with the test.
func ownPlane(t *testing.T, crd []byte, opts ...controlplane.Option) *plane {
	t.Helper()
	p, err := startPlane(t.Context(), crd, append(opts, controlplane.WithName(t.Name()))...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Stop()) })
	return p
}

// skipIfShort skips a test that takes long, such as most tests of outages.
func skipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long")
	}
}

func startPlane(ctx context.Context, crd []byte, opts ...controlplane.Option) (_ *plane, err error) {
	cp, err := controlplane.Start(ctx, opts...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = cp.Stop()
		}
	}()
	p := &plane{ControlPlane: cp}
	if p.openchoreo, err = openchoreoclient.NewForConfig(cp.Config()); err != nil {
		return nil, err
	}
	if p.dynamic, err = dynamic.NewForConfig(cp.Config()); err != nil {
		return nil, err
	}
	if p.kubernetes, err = kubernetes.NewForConfig(cp.Config()); err != nil {
		return nil, err
	}
	if err := cp.InstallCRDs(ctx, crd); err != nil {
		return nil, err
	}
	return p, p.waitForDiscovery(ctx)
}

// waitForDiscovery returns when kubectl can find DataPlanes by discovery, a little later than the API
// server serves them.
func (p *plane) waitForDiscovery(ctx context.Context) error {
	listed := func(context.Context) (bool, error) {
		_, lists, err := p.kubernetes.Discovery().ServerGroupsAndResources()
		return err == nil && slices.ContainsFunc(lists, func(list *metav1.APIResourceList) bool {
			return list.GroupVersion == openchoreov1alpha1.SchemeGroupVersion.String()
		}), nil
	}
	if err := wait.PollUntilContextTimeout(ctx, tick, eventually, true, listed); err != nil {
		return fmt.Errorf("wait for DataPlanes in discovery: %w", err)
	}
	return nil
}

// space is a test's namespace in a control plane, with clients for the DataPlanes in it.
type space struct {
	*plane
	namespace string
	typed     openchoreotyped.DataPlaneInterface
	raw       dynamic.ResourceInterface
}

func (p *plane) space(t testing.TB) *space {
	t.Helper()
	namespace, err := p.kubernetes.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return p.in(namespace.Name)
}

func (p *plane) in(namespace string) *space {
	return &space{
		plane:     p,
		namespace: namespace,
		typed:     p.openchoreo.OpenChoreoV1alpha1().DataPlanes(namespace),
		raw:       p.dynamic.Resource(openchoreov1alpha1.SchemeGroupVersion.WithResource("dataplanes")).Namespace(namespace),
	}
}

func (s *space) create(t *testing.T, dp *openchoreov1alpha1.DataPlane) *openchoreov1alpha1.DataPlane {
	t.Helper()
	created, err := s.typed.Create(t.Context(), dp, metav1.CreateOptions{})
	require.NoError(t, err)
	return created
}

func (s *space) get(t *testing.T, name string) *openchoreov1alpha1.DataPlane {
	t.Helper()
	dp, err := s.typed.Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return dp
}

// stored returns an object as the API server sends it, without the Go types.
func (s *space) stored(t *testing.T, name string) map[string]any {
	t.Helper()
	object, err := s.raw.Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return object.Object
}

// setStatus edits the status of an object and writes it.
func (s *space) setStatus(t *testing.T, name string, edit func(*openchoreov1alpha1.DataPlaneStatus)) *openchoreov1alpha1.DataPlane {
	t.Helper()
	dp := s.get(t, name)
	edit(&dp.Status)
	updated, err := s.typed.UpdateStatus(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	return updated
}

func (s *space) patchConditions(t *testing.T, dp *openchoreov1alpha1.DataPlane, conditions ...metav1.Condition) (*openchoreov1alpha1.DataPlane, error) {
	return helpers.PatchConditions(t.Context(), s.typed, dp, conditions, helpers.PatchConditionsOptions{})
}

// grant gives a user rights to a resource in the namespace. The API server needs a moment to notice.
func (s *space) grant(t *testing.T, user, group, resource string, verbs ...string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: user}
	_, err := s.kubernetes.RbacV1().Roles(s.namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: meta,
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = s.kubernetes.RbacV1().RoleBindings(s.namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// next returns the next event of a watch.
func next(t *testing.T, watcher watch.Interface) watch.Event {
	t.Helper()
	select {
	case event, open := <-watcher.ResultChan():
		require.True(t, open, "the watch has ended")
		return event
	case <-time.After(eventually):
		require.Fail(t, "no event was received")
		return watch.Event{}
	}
}

// parse parses YAML or JSON.
func parse(t *testing.T, data []byte) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	data, err := yaml.ToJSON(data)
	require.NoError(t, err)
	require.NoError(t, object.UnmarshalJSON(data))
	return object
}

// variant returns OpenChoreo v0.3's CRD with another schema.
func variant(t *testing.T, edit func(schema map[string]any)) []byte {
	t.Helper()
	return variantOf(t, crds.DataPlane(), edit)
}

func variantOf(t *testing.T, definition []byte, edit func(schema map[string]any)) []byte {
	t.Helper()
	crd := parse(t, definition)
	versions := crd.Object["spec"].(map[string]any)["versions"].([]any)
	require.Len(t, versions, 1)
	edit(at(versions[0], "schema", "openAPIV3Schema"))
	data, err := json.Marshal(crd)
	require.NoError(t, err)
	return data
}

// at returns the map at a path of maps. It panics if there is none.
func at(object any, path ...string) map[string]any {
	for _, key := range path {
		object = object.(map[string]any)[key]
	}
	return object.(map[string]any)
}
