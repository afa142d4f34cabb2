// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"os"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

func TestGenerations(t *testing.T) {
	t.Parallel()
	v1 := v1Plane(t)
	for _, test := range []struct {
		name     string
		plane    *plane
		file     string
		resource string
	}{
		{"DataPlane of v0.3", shared, "dataplane.yaml", "dataplanes"},
		{"DataPlane of v1", v1, "dataplane_v1.yaml", "dataplanes"},
		{"ClusterDataPlane", v1, "clusterdataplane.yaml", "clusterdataplanes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGeneration(t, test.plane, test.resource)
			testTable(t, g, test.file)
		})
	}
	t.Run("a typed update adds the gateway that OpenChoreo's controllers add", func(t *testing.T) { testUpdateAddsGateway(t, v1) })
	t.Run("columns", func(t *testing.T) { testColumns(t, v1) })
	t.Run("patches of a ClusterDataPlane", func(t *testing.T) { testClusterPatchConditions(t, v1) })
	t.Run("an informer of ClusterDataPlanes", func(t *testing.T) { testClusterInformer(t, v1) })
	t.Run("apply and extract of a ClusterDataPlane", func(t *testing.T) { testClusterApply(t, v1) })
}

// generation is one resource on one API server, for typed and dynamic clients.
type generation struct {
	typed openchoreoclient.Interface
	raw   dynamic.ResourceInterface

	url       string // of the resource
	kind      string
	namespace string // "" for ClusterDataPlanes
	warnings  *warnings
}

func newGeneration(t *testing.T, p *plane, resource string) *generation {
	t.Helper()
	g := &generation{
		raw:      p.dynamic.Resource(openchoreov1alpha1.SchemeGroupVersion.WithResource(resource)),
		url:      path.Join("/apis/openchoreo.dev/v1alpha1", resource),
		kind:     "ClusterDataPlane",
		warnings: &warnings{},
	}
	if resource == "dataplanes" {
		s := p.space(t)
		g.raw, g.kind, g.namespace = s.raw, "DataPlane", s.namespace
		g.url = path.Join("/apis/openchoreo.dev/v1alpha1/namespaces", s.namespace, resource)
	}
	config := rest.CopyConfig(p.Config())
	config.WarningHandler = g.warnings
	var err error
	g.typed, err = openchoreoclient.NewForConfig(config)
	require.NoError(t, err)
	return g
}

// warnings are the warnings of an API server.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

// touch reads an object and writes it back unchanged, including its status.
func (g *generation) touch(ctx context.Context, name string) error {
	if g.namespace == "" {
		client := g.typed.OpenChoreoV1alpha1().ClusterDataPlanes()
		return touch(ctx, name, client.Get, client.Update, client.UpdateStatus)
	}
	client := g.typed.OpenChoreoV1alpha1().DataPlanes(g.namespace)
	return touch(ctx, name, client.Get, client.Update, client.UpdateStatus)
}

func touch[T any](ctx context.Context, name string, get func(context.Context, string, metav1.GetOptions) (T, error),
	updates ...func(context.Context, T, metav1.UpdateOptions) (T, error),
) error {
	for _, update := range updates {
		object, err := get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if _, err := update(ctx, object, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// stored is an object in the JSON of the API server.
type stored struct {
	Metadata struct {
		Generation      int64
		ResourceVersion string
	}
	Spec, Status json.RawMessage
}

func (g *generation) stored(t *testing.T, name string) stored {
	t.Helper()
	data, err := g.typed.OpenChoreoV1alpha1().RESTClient().Get().AbsPath(g.url, name).Do(t.Context()).Raw()
	require.NoError(t, err)
	var s stored
	require.NoError(t, json.Unmarshal(data, &s))
	return s
}

// create creates an object and its status.
func (g *generation) create(ctx context.Context, name string, spec, status any, validation string) error {
	object := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	object.SetAPIVersion("openchoreo.dev/v1alpha1")
	object.SetKind(g.kind)
	object.SetName(name)
	created, err := g.raw.Create(ctx, object, metav1.CreateOptions{FieldValidation: validation})
	if err != nil || status == nil {
		return err
	}
	created.Object["status"] = status
	_, err = g.raw.UpdateStatus(ctx, created, metav1.UpdateOptions{FieldValidation: validation})
	return err
}

func testTable(t *testing.T, g *generation, file string) {
	source, err := os.ReadFile("../../apis/openchoreo/crds/testdata/" + file)
	require.NoError(t, err)
	var tests []struct {
		Name, Refused string
		Spec, Status  map[string]any
	}
	require.NoError(t, yaml.Unmarshal(source, &tests))
	require.NotEmpty(t, tests)
	for _, test := range tests {
		t.Run(test.Name, func(t *testing.T) {
			name := strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(strings.ToLower(test.Name))
			var status any
			if test.Status != nil {
				status = test.Status
			}
			if test.Refused != "" {
				requireInvalid(t, g.create(t.Context(), name, test.Spec, status, metav1.FieldValidationIgnore), test.Refused)
				return
			}
			require.NoError(t, g.create(t.Context(), name, test.Spec, status, metav1.FieldValidationStrict))

			before := g.stored(t, name)
			assert.JSONEq(t, marshal(t, test.Spec), string(before.Spec), "the API server adds and drops nothing")
			if status != nil {
				assert.JSONEq(t, marshal(t, test.Status), string(before.Status))
			}
			require.NoError(t, g.touch(t.Context(), name))
			after := g.stored(t, name)
			assert.Equal(t, string(before.Spec), string(after.Spec))
			if status == nil { // a typed client always sends a status
				assert.Contains(t, []string{"", "{}"}, string(after.Status))
			} else {
				assert.Equal(t, string(before.Status), string(after.Status))
				assert.Equal(t, before.Metadata, after.Metadata, "nothing was written")
			}
			assert.Equal(t, before.Metadata.Generation, after.Metadata.Generation)
			assert.Empty(t, g.warnings.texts)
		})
	}
}

func marshal(t *testing.T, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	require.NoError(t, err)
	return string(data)
}

// In Go, a gateway without fields is the same as none.
func testUpdateAddsGateway(t *testing.T, p *plane) {
	g := newGeneration(t, p, "dataplanes")
	require.NoError(t, g.create(t.Context(), "prod", map[string]any{"clusterAgent": map[string]any{"clientCA": map[string]any{}}}, nil, metav1.FieldValidationStrict))
	for range 2 {
		require.NoError(t, g.touch(t.Context(), "prod"))
		after := g.stored(t, "prod")
		assert.JSONEq(t, `{"clusterAgent":{"clientCA":{}},"gateway":{}}`, string(after.Spec))
		assert.EqualValues(t, 2, after.Metadata.Generation)
	}
	assert.Empty(t, g.warnings.texts)
}

func testColumns(t *testing.T, p *plane) {
	for resource, names := range map[string][]string{
		"dataplanes":        {"dp", "dps", "dataplane"},
		"clusterdataplanes": {"cdp", "cdps", "clusterdataplane"},
	} {
		g := newGeneration(t, p, resource)
		spec := map[string]any{"planeID": "agents", "clusterAgent": map[string]any{"clientCA": map[string]any{}}}
		require.NoError(t, g.create(t.Context(), "columns", spec, map[string]any{
			"agentConnection": map[string]any{"connected": true, "connectedAgents": int64(1)},
			"conditions": []any{map[string]any{
				"type": "Created", "status": "True", "reason": "Tested", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
			}},
		}, metav1.FieldValidationStrict))
		for _, name := range names {
			args := []string{"get", name, "columns"}
			if g.namespace != "" {
				args = append(args, "--namespace", g.namespace)
			}
			lines := strings.Split(p.kubectl(t, args...), "\n")
			assert.Equal(t, []string{"NAME", "PLANE", "ID", "AGENT", "CREATED", "AGE"}, strings.Fields(lines[0]))
			fields := strings.Fields(lines[1])
			assert.Equal(t, []string{"columns", "agents", "true", "True"}, fields[:len(fields)-1])
		}
	}
}

func testClusterApply(t *testing.T, p *plane) {
	client := p.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes()
	want := openchoreoapply.ClusterDataPlane("applied").
		WithLabels(map[string]string{"tier": "gold"}).
		WithSpec(openchoreoapply.ClusterDataPlaneSpec().WithPlaneID("prod").
			WithClusterAgent(openchoreoapply.ClusterAgentConfig().WithClientCA(openchoreoapply.ValueFrom().WithValue("PEM"))))
	applied, err := client.Apply(t.Context(), want, behaviours.ApplyAs("one"))
	require.NoError(t, err)
	extracted, err := openchoreoapply.ExtractClusterDataPlane(applied, "one")
	require.NoError(t, err)
	assert.Equal(t, marshal(t, want), marshal(t, extracted))

	created := behaviours.ApplyCondition(openchoreov1alpha1.DataPlaneConditionCreated, metav1.ConditionTrue)
	connection := openchoreoapply.AgentConnectionStatus().WithConnected(true).WithConnectedAgents(1)
	status := openchoreoapply.ClusterDataPlane("applied").WithStatus(openchoreoapply.DataPlaneStatus().
		WithConditions(created).WithAgentConnection(connection))
	applied, err = client.ApplyStatus(t.Context(), status, behaviours.ApplyAs("one"))
	require.NoError(t, err)
	extracted, err = openchoreoapply.ExtractClusterDataPlaneStatus(applied, "one")
	require.NoError(t, err)
	assert.Equal(t, marshal(t, status), marshal(t, extracted))

	dp := applied.AsDataPlane()
	assert.Empty(t, dp.Namespace)
	assert.Equal(t, "prod", dp.Spec.PlaneID)
	assert.True(t, dp.Status.AgentConnection.Connected)
}

func testClusterInformer(t *testing.T, p *plane) {
	factory := openchoreoinformers.NewSharedInformerFactory(p.openchoreo, 0)
	informer := factory.OpenChoreo().V1alpha1().ClusterDataPlanes()
	lister := informer.Lister()
	ctx, cancel := context.WithCancel(t.Context())
	defer factory.Shutdown()
	defer cancel()
	factory.StartWithContext(ctx)
	require.NoError(t, factory.WaitForCacheSyncWithContext(ctx).AsError())

	cluster := &openchoreov1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "watched"}}
	cluster.Spec.PlaneID = "prod"
	created, err := p.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes().Create(t.Context(), cluster, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = await.For(t.Context(), p.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes(), "watched", await.True())
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		cached, err := lister.Get("watched")
		require.NoError(c, err)
		assert.Equal(c, created.Spec, cached.Spec)
	}, eventually, tick)

	deleted := make(chan error, 1)
	go func() {
		deleted <- await.ForDeletion(ctx, p.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes(), "watched", await.UID(created.UID))
	}()
	require.NoError(t, p.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes().Delete(t.Context(), "watched", metav1.DeleteOptions{}))
	require.NoError(t, <-deleted)
}

// Patches of conditions and of the spec keep the other fields.
func testClusterPatchConditions(t *testing.T, p *plane) {
	client := p.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes()
	cluster := &openchoreov1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "conditions"}}
	cluster.Spec.PlaneID = "prod"
	before, err := client.Create(t.Context(), cluster, metav1.CreateOptions{})
	require.NoError(t, err)
	reported := before.DeepCopy()
	reported.Status.Conditions = []metav1.Condition{behaviours.NewCondition("Created", metav1.ConditionTrue)}
	reported.Status.AgentConnection = &openchoreov1alpha1.AgentConnectionStatus{Connected: true, ConnectedAgents: 1}
	reported, err = client.UpdateStatus(t.Context(), reported, metav1.UpdateOptions{})
	require.NoError(t, err)

	// With the object from before the update, so that the first try conflicts.
	patched, err := helpers.PatchConditions(t.Context(), client, before,
		[]metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"}}, helpers.PatchConditionsOptions{})
	require.NoError(t, err)
	assert.Equal(t, reported.Spec, patched.Spec)
	assert.Equal(t, reported.Status.AgentConnection, patched.Status.AgentConnection)
	assert.Len(t, patched.Status.Conditions, 2)
	assert.True(t, helpers.IsReady(patched.AsDataPlane()))

	after := patched.DeepCopy()
	after.Spec.SecretStoreRef = &openchoreov1alpha1.SecretStoreRef{Name: "default"}
	patch, err := helpers.MergePatch(patched.AsDataPlane(), after.AsDataPlane())
	require.NoError(t, err)
	after, err = client.Patch(t.Context(), after.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldValidation: metav1.FieldValidationStrict})
	require.NoError(t, err)
	assert.Equal(t, "default", after.Spec.SecretStoreRef.Name)
	assert.Nil(t, after.Spec.Gateway)
}

// structured-merge-diff's own function to add keys to extracted fields names an owner reference twice,
// which the API server refuses to apply.
func TestExtractedOwnerReferencesCanBeApplied(t *testing.T) {
	s := shared.space(t)
	owner := s.create(t, behaviours.NewDataPlane("owner"))
	want := behaviours.ApplySpec(s.namespace, "prod").WithFinalizers("example.com/hold").
		WithOwnerReferences(applymetav1.OwnerReference().WithAPIVersion("openchoreo.dev/v1alpha1").
			WithKind("DataPlane").WithName(owner.Name).WithUID(owner.UID))
	applied, err := s.typed.Apply(t.Context(), want, behaviours.ApplyAs("one"))
	require.NoError(t, err)
	extracted, err := openchoreoapply.ExtractDataPlane(applied, "one")
	require.NoError(t, err)
	behaviours.AssertSameConfiguration(t, want, extracted)
	again, err := s.typed.Apply(t.Context(), extracted, behaviours.ApplyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, applied.ResourceVersion, again.ResourceVersion, "nothing has changed")
	assert.Len(t, again.OwnerReferences, 1)

	extracted.OwnerReferences, extracted.Finalizers = nil, nil
	again, err = s.typed.Apply(t.Context(), extracted, behaviours.ApplyAs("one"))
	require.NoError(t, err)
	assert.Empty(t, again.OwnerReferences)
	assert.Empty(t, again.Finalizers)
}
