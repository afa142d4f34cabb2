// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

// apiServer holds one DataPlane and takes status patches as an API server does.
type apiServer struct {
	stored        *v1alpha1.DataPlane
	gets, patches int
	options       metav1.PatchOptions
	beforePatch   func(*v1alpha1.DataPlane) // another writer
}

func serve(dp *v1alpha1.DataPlane) *apiServer {
	stored := dp.DeepCopy()
	stored.UID, stored.ResourceVersion = "1", "100"
	return &apiServer{stored: stored}
}

func (s *apiServer) Get(ctx context.Context, _ string, _ metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	s.gets++
	return s.stored.DeepCopy(), ctx.Err()
}

func (s *apiServer) Patch(ctx context.Context, name string, patchType types.PatchType, data []byte, opts metav1.PatchOptions,
	subresources ...string,
) (*v1alpha1.DataPlane, error) {
	s.patches++
	s.options = opts
	if s.beforePatch != nil {
		s.beforePatch(s.stored)
	}
	patch := struct {
		Metadata struct{ ResourceVersion string }
		Status   map[string]json.RawMessage
	}{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	switch err := decoder.Decode(&patch); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case patchType != types.MergePatchType || len(subresources) != 1 || subresources[0] != "status":
		return nil, errors.New("not a merge patch of the status")
	case bytes.Contains(data, []byte(`"lastTransitionTime":null`)):
		return nil, errors.New("status.conditions.lastTransitionTime: must be of type string")
	case patch.Metadata.ResourceVersion != s.stored.ResourceVersion:
		return nil, apierrors.NewConflict(v1alpha1.Resource("dataplanes"), name, errors.New("the object has been modified"))
	}
	patched := s.stored.DeepCopy()
	for field, value := range patch.Status {
		into := any(&patched.Status.ObservedGeneration)
		if field == "conditions" {
			patched.Status.Conditions = nil
			into = &patched.Status.Conditions
		}
		if err := json.Unmarshal(value, into); err != nil {
			return nil, err
		}
	}
	edited(patched)
	if len(opts.DryRun) == 0 {
		s.stored = patched.DeepCopy()
	}
	return patched, nil
}

// edited counts up the resource version.
func edited(dp *v1alpha1.DataPlane) {
	version, _ := strconv.Atoi(dp.ResourceVersion)
	dp.ResourceVersion = strconv.Itoa(version + 1)
}

func setReady(status metav1.ConditionStatus) []metav1.Condition {
	return []metav1.Condition{{Type: ready, Status: status, Reason: "Tested"}}
}

func TestPatchConditions(t *testing.T) {
	type dataPlane = v1alpha1.DataPlane
	for name, test := range map[string]struct {
		before    *dataPlane // on the server
		read      func(cached *dataPlane)
		meanwhile func(stored *dataPlane) // what others do after it was read
		set       []metav1.Condition
		opts      helpers.PatchConditionsOptions
		gets      int
		patches   int
		check     func(t *testing.T, s *apiServer, result *dataPlane)
	}{
		"keeps conditions of other types": {
			before: withConditions(2, condition(created, yes, 1), condition(connected, no, 2)), set: setReady(yes), patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.Len(t, result.Status.Conditions, 3)
				assert.Equal(t, helpers.CodeCurrent, helpers.EvaluateCondition(result, ready).Code)
			},
		},
		"sets several, and removes duplicates": {
			before:  withConditions(1, condition(ready, no, 1), condition(ready, yes, 1)),
			set:     []metav1.Condition{condition(ready, yes, 0), condition(connected, yes, 0)},
			patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.Len(t, result.Status.Conditions, 2)
				assert.True(t, helpers.IsReady(result) && helpers.IsConnected(result))
			},
		},
		"sends nothing that is there": {
			before: withConditions(1, condition(ready, yes, 1)), set: []metav1.Condition{condition(ready, yes, 0)}, gets: 1,
		},
		"gets the object if a cache that may lag shows the condition": {
			before: withConditions(1, condition(ready, yes, 1)), set: []metav1.Condition{condition(ready, yes, 0)}, gets: 1, patches: 1,
			meanwhile: func(stored *dataPlane) { stored.Status.Conditions[0].Status = no },
			check:     func(t *testing.T, _ *apiServer, result *dataPlane) { assert.True(t, helpers.IsReady(result)) },
		},
		"reads an object that was made by hand": {
			before: withConditions(1, condition(created, yes, 1)), set: setReady(yes), gets: 1, patches: 1,
			read:  func(dp *dataPlane) { dp.ResourceVersion, dp.UID, dp.Status = "", "", v1alpha1.DataPlaneStatus{} },
			check: func(t *testing.T, _ *apiServer, result *dataPlane) { assert.Len(t, result.Status.Conditions, 2) },
		},
		"keeps what another wrote at the same time": {
			before: withConditions(1), set: setReady(yes), gets: 1, patches: 2,
			meanwhile: func(stored *dataPlane) { stored.Status.Conditions = []metav1.Condition{condition(connected, yes, 1)} },
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.True(t, helpers.IsReady(result) && helpers.IsConnected(result))
			},
		},
		"claims no later generation than it observed": {
			before: withConditions(4), set: setReady(yes), gets: 1, patches: 2,
			meanwhile: func(stored *dataPlane) { stored.Generation = 5 },
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.EqualValues(t, 4, result.Status.Conditions[0].ObservedGeneration)
				assert.False(t, helpers.IsReady(result))
			},
		},
		"keeps a condition of its type that observed a later generation": {
			before: withConditions(4, condition(ready, yes, 4)), set: setReady(no), gets: 1, patches: 1,
			meanwhile: func(stored *dataPlane) {
				stored.Generation, stored.Status.Conditions = 5, []metav1.Condition{condition(ready, yes, 5)}
			},
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.Equal(t, []metav1.Condition{condition(ready, yes, 5)}, result.Status.Conditions)
			},
		},
		"replaces a condition left over from before a restore": {
			before: withConditions(2, condition(ready, yes, 7)), set: setReady(yes), patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) { assert.True(t, helpers.IsReady(result)) },
		},
		"gives a time to conditions without one": {
			before: withConditions(1, metav1.Condition{Type: created, Status: yes}, metav1.Condition{Type: ready, Status: yes, Reason: "Tested"}),
			set:    setReady(yes), patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.False(t, result.Status.Conditions[0].LastTransitionTime.IsZero())
				assert.True(t, helpers.IsReady(result))
			},
		},
		"leaves status.observedGeneration alone": {
			before: withConditions(3), set: setReady(yes), patches: 1,
			read:  func(dp *dataPlane) { dp.Status.ObservedGeneration = 2 },
			check: func(t *testing.T, s *apiServer, _ *dataPlane) { assert.Zero(t, s.stored.Status.ObservedGeneration) },
		},
		"ObserveGeneration makes one ready whose status lags": {
			before: &dataPlane{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Status: v1alpha1.DataPlaneStatus{ObservedGeneration: 2}},
			set:    setReady(yes), opts: helpers.PatchConditionsOptions{ObserveGeneration: true}, patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) { assert.True(t, helpers.IsReady(result)) },
		},
		"ObserveGeneration goes without a condition": {
			before: withConditions(3), opts: helpers.PatchConditionsOptions{ObserveGeneration: true}, patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.EqualValues(t, 3, result.Status.ObservedGeneration)
			},
		},
		"ObserveGeneration keeps a later one": {
			before: withConditions(4), set: setReady(yes), opts: helpers.PatchConditionsOptions{ObserveGeneration: true}, gets: 1, patches: 2,
			meanwhile: func(stored *dataPlane) { stored.Generation, stored.Status.ObservedGeneration = 5, 5 },
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.EqualValues(t, 5, result.Status.ObservedGeneration)
			},
		},
		"ObserveGeneration replaces one left over from before a restore": {
			before: &dataPlane{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Status: v1alpha1.DataPlaneStatus{ObservedGeneration: 9}},
			set:    setReady(yes), opts: helpers.PatchConditionsOptions{ObserveGeneration: true}, patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) { assert.True(t, helpers.IsReady(result)) },
		},
		"FieldManager and DryRun": {
			before: withConditions(1), set: setReady(yes), opts: helpers.PatchConditionsOptions{FieldManager: "probe", DryRun: true}, patches: 1,
			check: func(t *testing.T, s *apiServer, result *dataPlane) {
				assert.Equal(t, metav1.PatchOptions{FieldManager: "probe", DryRun: []string{metav1.DryRunAll}}, s.options)
				assert.True(t, helpers.IsReady(result))
				assert.Empty(t, s.stored.Status.Conditions)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(test.before)
			dp := s.stored.DeepCopy()
			if test.read != nil {
				test.read(dp)
			}
			if test.meanwhile != nil {
				test.meanwhile(s.stored)
				edited(s.stored)
			}
			before, conditions := dp.DeepCopy(), slices.Clone(test.set)
			result, err := helpers.PatchConditions(t.Context(), s, dp, test.set, test.opts)
			require.NoError(t, err)
			assert.Equal(t, before, dp, "must not be changed")
			assert.Equal(t, conditions, test.set, "must not be changed")
			assert.Equal(t, test.gets, s.gets, "gets")
			assert.Equal(t, test.patches, s.patches, "patches")
			if !test.opts.DryRun {
				assert.Equal(t, s.stored, result)
			}
			if test.check != nil {
				test.check(t, s, result)
			}
		})
	}
}

func TestPatchConditionsRefuses(t *testing.T) {
	_, err := helpers.PatchConditions(t.Context(), serve(withConditions(1)), nil, setReady(yes), helpers.PatchConditionsOptions{})
	require.EqualError(t, err, "nil data plane")

	s := serve(withConditions(1))
	_, err = helpers.PatchConditions(t.Context(), s, s.stored, setReady("true"), helpers.PatchConditionsOptions{})
	require.ErrorContains(t, err, "status.conditions[Ready].status")
	_, err = helpers.PatchConditions(t.Context(), s, s.stored, append(setReady(yes), setReady(no)...), helpers.PatchConditionsOptions{})
	require.EqualError(t, err, `status.conditions[Ready]: Duplicate value: "Ready"`)
	assert.Zero(t, s.gets+s.patches)

	old := s.stored.DeepCopy()
	s.stored.UID = "2"
	edited(s.stored)
	_, err = helpers.PatchConditions(t.Context(), s, old, setReady(yes), helpers.PatchConditionsOptions{})
	require.ErrorIs(t, err, helpers.ErrReplaced)
	require.ErrorContains(t, err, "data plane default/prod: ")
	assert.Empty(t, s.stored.Status.Conditions)
	assert.True(t, apierrors.IsConflict(err), "the conflict that came before")

	unreachable := errors.New("connection refused")
	_, err = helpers.PatchConditions(t.Context(), failsAfterConflict{s, unreachable}, old, setReady(yes), helpers.PatchConditionsOptions{})
	require.ErrorIs(t, err, unreachable)
	require.True(t, apierrors.IsConflict(err))
	require.ErrorContains(t, err, "data plane default/prod: connection refused: Operation cannot be fulfilled")
}

// failsAfterConflict answers the get that follows a conflict with an error.
type failsAfterConflict struct {
	*apiServer
	err error
}

func (f failsAfterConflict) Get(context.Context, string, metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	return nil, f.err
}

func TestPatchConditionsTriesUntilTheContextEnds(t *testing.T) {
	errShutdown := errors.New("shutting down")
	for name, test := range map[string]struct {
		cause error
		want  []error
		says  string
	}{
		"by its deadline": {
			cause: context.DeadlineExceeded, want: []error{context.DeadlineExceeded},
			says: "data plane default/prod: context deadline exceeded: Operation cannot be fulfilled on dataplanes.openchoreo.dev \"prod\": " +
				"the object has been modified",
		},
		"by its deadline, with a cause": {
			cause: errShutdown, want: []error{context.DeadlineExceeded, errShutdown},
			says: "data plane default/prod: context deadline exceeded: shutting down: Operation cannot be fulfilled on " +
				"dataplanes.openchoreo.dev \"prod\": the object has been modified",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, test.cause)
			defer cancel()
			s := serve(withConditions(1))
			s.beforePatch = edited // by another writer, each time
			_, err := helpers.PatchConditions(ctx, s, s.stored.DeepCopy(), setReady(yes), helpers.PatchConditionsOptions{})
			for _, want := range test.want {
				require.ErrorIs(t, err, want)
			}
			require.NotErrorIs(t, err, context.Canceled)
			assert.True(t, apierrors.IsConflict(err), "the last conflict")
			assert.Contains(t, err.Error(), test.says)
		})
	}
}

// The HTTP transport of Go returns the cause of a context, and not its error.
func TestPatchConditionsFindsTheErrorOfTheContext(t *testing.T) {
	errShutdown := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errShutdown)
	s := &failing{errShutdown}
	_, err := helpers.PatchConditions(ctx, s, withConditions(1), setReady(yes), helpers.PatchConditionsOptions{})
	require.ErrorIs(t, err, errShutdown)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "data plane default/prod: shutting down: context canceled")
}

type failing struct{ err error }

func (f *failing) Get(context.Context, string, metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	return nil, f.err
}

func (f *failing) Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (*v1alpha1.DataPlane, error) {
	return nil, f.err
}

func TestPatchConditionsOfAFake(t *testing.T) {
	for name, client := range map[string]*fake.Clientset{"NewClientset": fake.NewClientset(), "NewSimpleClientset": fake.NewSimpleClientset()} {
		t.Run(name, func(t *testing.T) {
			dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
			dp, err := dataPlanes.Create(t.Context(), dataplanetest.DataPlane("default", "production-dataplane"), metav1.CreateOptions{})
			require.NoError(t, err)
			for _, status := range []metav1.ConditionStatus{yes, no} {
				patched, err := helpers.PatchConditions(t.Context(), dataPlanes, dp, setReady(status), helpers.PatchConditionsOptions{ObserveGeneration: true})
				require.NoError(t, err)
				assert.Equal(t, status, helpers.EvaluateCondition(patched, ready).Status)
			}
		})
	}
}

func TestPatchConditionsOfAClusterDataPlane(t *testing.T) {
	client := fake.NewClientset().OpenChoreoV1alpha1().ClusterDataPlanes()
	cluster, err := client.Create(t.Context(), &v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	cluster, err = helpers.PatchConditions(t.Context(), client, cluster, setReady(yes), helpers.PatchConditionsOptions{})
	require.NoError(t, err)
	assert.Equal(t, yes, helpers.EvaluateCondition(cluster.AsDataPlane(), ready).Status)

	_, err = helpers.PatchConditions(t.Context(), client, nil, setReady(yes), helpers.PatchConditionsOptions{})
	require.EqualError(t, err, "nil data plane")
	cluster.Name = "absent"
	_, err = helpers.PatchConditions(t.Context(), client, cluster, setReady(no), helpers.PatchConditionsOptions{})
	require.ErrorContains(t, err, "data plane absent: ")
}

func TestMergePatchHoldsTheDifference(t *testing.T) {
	before := dataplanetest.DataPlane("default", "production-dataplane")
	before.ResourceVersion = "7"
	before.Labels = map[string]string{"gone": "x", "stays": "x"}
	after := before.DeepCopy()
	after.Labels = map[string]string{"stays": "x", "new": "x"}
	after.Spec.Registry.Prefix = "docker.io/other"
	after.ResourceVersion = "8"
	patch, err := helpers.MergePatch(before, after)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"metadata": {"resourceVersion": "7", "labels": {"gone": null, "new": "x"}},
		"spec": {"registry": {"prefix": "docker.io/other"}}
	}`, string(patch))
	assert.Equal(t, "7", before.ResourceVersion, "must not be changed")

	patch, err = helpers.MergePatch(before, before)
	require.NoError(t, err)
	assert.JSONEq(t, `{"metadata": {"resourceVersion": "7"}}`, string(patch))
}

// Objects from a list have no kind, and objects from a get have none or have one.
func TestMergePatchHoldsNoKindAndNoManagedFields(t *testing.T) {
	bare := dataplanetest.DataPlane("default", "production-dataplane")
	bare.ResourceVersion = "7"
	full := bare.DeepCopy()
	full.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "DataPlane"}
	full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	for name, test := range map[string]struct{ before, after *v1alpha1.DataPlane }{
		"before alone has them": {full, bare}, "after alone has them": {bare, full}, "both have them": {full, full},
	} {
		t.Run(name, func(t *testing.T) {
			after := test.after.DeepCopy()
			after.Spec.Registry.Prefix = "docker.io/other"
			patch, err := helpers.MergePatch(test.before, after)
			require.NoError(t, err)
			assert.JSONEq(t, `{"metadata": {"resourceVersion": "7"}, "spec": {"registry": {"prefix": "docker.io/other"}}}`, string(patch))
		})
	}
}

// The patch holds no required field of v0.3, which is empty in objects of v1.
func TestMergePatchOfTheShapeOfV1(t *testing.T) {
	before := &v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "default", ResourceVersion: "7"}}
	before.Spec.PlaneID = "prod"
	before.Spec.Gateway = &v1alpha1.ClusterDataPlaneGateway{Egress: &v1alpha1.GatewayNetworkSpec{}}
	after := before.DeepCopy()
	after.Spec.PlaneID, after.Spec.Gateway.Egress = "other", nil
	after.Spec.SecretStoreRef = &v1alpha1.SecretStoreRef{Name: "default"}
	patch, err := helpers.MergePatch(before.AsDataPlane(), after.AsDataPlane())
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"metadata": {"resourceVersion": "7"},
		"spec": {"planeID": "other", "gateway": {"egress": null}, "secretStoreRef": {"name": "default"}}
	}`, string(patch))
}

func TestMergePatchTakesTheWordREDACTEDElsewhere(t *testing.T) {
	before := dataplanetest.DataPlane("default", "production-dataplane")
	before.ResourceVersion = "7"
	before.Labels = map[string]string{"tier": v1alpha1.Redacted}
	before.Annotations = map[string]string{"note": v1alpha1.Redacted, "link": "https://" + v1alpha1.Redacted + "@host"}
	before.Spec.KubernetesCluster.Name = v1alpha1.Redacted
	before.Spec.Observer = &v1alpha1.ObserverAPI{URL: "https://observer.example.com"}
	before.Spec.Observer.Authentication.BasicAuth.Username = v1alpha1.Redacted
	before.Status.Conditions = []metav1.Condition{{Type: ready, Status: yes, Reason: v1alpha1.Redacted, Message: v1alpha1.Redacted}}
	after := before.DeepCopy()
	after.Spec.Registry.Prefix = v1alpha1.Redacted
	patch, err := helpers.MergePatch(before, after)
	require.NoError(t, err)
	assert.JSONEq(t, `{"metadata": {"resourceVersion": "7"}, "spec": {"registry": {"prefix": "REDACTED"}}}`, string(patch))
}

func TestMergePatchRefusesDifferentObjects(t *testing.T) {
	sound := dataplanetest.DataPlane("default", "production-dataplane")
	sound.ResourceVersion = "7"
	with := func(edit func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
		dp := sound.DeepCopy()
		edit(dp)
		return dp
	}
	for name, test := range map[string]struct {
		before, after *v1alpha1.DataPlane
		says          string
	}{
		"nil before":           {nil, sound, "nil data plane"},
		"nil after":            {sound, nil, "nil data plane"},
		"not read":             {with(func(dp *v1alpha1.DataPlane) { dp.ResourceVersion = "" }), sound, "metadata.resourceVersion: must be set"},
		"another name":         {sound, with(func(dp *v1alpha1.DataPlane) { dp.Name = "x" }), "must be the same"},
		"another of that name": {sound, with(func(dp *v1alpha1.DataPlane) { dp.UID = "x" }), "must be the same"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := helpers.MergePatch(test.before, test.after)
			require.ErrorContains(t, err, test.says)
		})
	}
}

// Each field holds something to redact, alone, so that nothing else gives it away.
func TestMergePatchRefusesRedactedObjects(t *testing.T) {
	observer := func(edit func(*v1alpha1.ObserverAPI)) func(*v1alpha1.DataPlane) {
		return func(dp *v1alpha1.DataPlane) {
			dp.Spec.Observer = &v1alpha1.ObserverAPI{}
			edit(dp.Spec.Observer)
		}
	}
	creds := func(edit func(*v1alpha1.APIServerCredentials)) func(*v1alpha1.DataPlane) {
		return func(dp *v1alpha1.DataPlane) { edit(&dp.Spec.KubernetesCluster.Credentials) }
	}
	fields := map[string]func(*v1alpha1.DataPlane){
		"clientKey":           creds(func(c *v1alpha1.APIServerCredentials) { c.ClientKey = "a2V5" }),
		"no clientCert":       creds(func(c *v1alpha1.APIServerCredentials) { c.ClientCert = "a2V5" }),
		"no caCert":           creds(func(c *v1alpha1.APIServerCredentials) { c.CACert = "a2V5" }),
		"user of the URL":     creds(func(c *v1alpha1.APIServerCredentials) { c.APIServerURL = "https://admin:hunter2@host:6443" }),
		"unreadable URL":      creds(func(c *v1alpha1.APIServerCredentials) { c.APIServerURL = "admin:hunter2@host:6443" }),
		"password":            observer(func(o *v1alpha1.ObserverAPI) { o.Authentication.BasicAuth.Password = "hunter2" }),
		"user of an observer": observer(func(o *v1alpha1.ObserverAPI) { o.URL = "https://admin:hunter2@host" }),
	}
	for _, annotation := range redact.Annotations {
		fields[annotation] = func(dp *v1alpha1.DataPlane) { metav1.SetMetaDataAnnotation(&dp.ObjectMeta, annotation, "{}") }
	}
	for name, fill := range fields {
		t.Run(name, func(t *testing.T) {
			whole := withConditions(1)
			whole.ResourceVersion = "7"
			fill(whole)
			_, err := helpers.MergePatch(whole, whole)
			require.NoError(t, err)
			_, err = helpers.MergePatch(whole, whole.Redacted())
			require.ErrorIs(t, err, helpers.ErrSecretsDropped)
			require.ErrorContains(t, err, "after: ")
			_, err = helpers.MergePatch(whole.Redacted(), whole)
			require.ErrorIs(t, err, helpers.ErrSecretsDropped)
			require.ErrorContains(t, err, "before: ")
		})
	}
}
