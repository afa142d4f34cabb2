// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

const (
	writeNamespace = "writes"
	// writeCallers write at once, each to an object of its own.
	writeCallers = 8
	manager      = "platform"
)

// write changes the object of a caller to what no write before has made of it, n.
type write func(ctx context.Context, caller, n int) error

// startWrites returns what begins a measurement: the objects may have changed since the last.
type startWrites func(ctx context.Context, in *input) (begin func() write, err error)

func always(w write) func() write { return func() write { return w } }

func writeRows() []row {
	of := func(start startWrites) func(context.Context, *input) (measureFunc, error) {
		return func(ctx context.Context, in *input) (measureFunc, error) {
			begin, err := start(ctx, in)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context, _ func() (int, error)) (values, error) {
				return measureWrites(ctx, in, begin())
			}, nil
		}
	}
	newRow := func(name, title string, subjects []subject) row {
		return row{
			name: name, title: fmt.Sprintf("%s, %d at once", title, writeCallers),
			metrics: []metric{{Name: "rate", Unit: perSecond, More: true}, {Name: "cpu", Unit: seconds}},
			onPlane: true, rounds: [2]int{2, 7}, subjects: subjects,
			prepare: func(ctx context.Context, f *fixture, _ *input) error {
				return f.populate(ctx, writeNamespace, writeCallers)
			},
			cleanup: func(ctx context.Context, f *fixture) error { return f.deleteAll(ctx, writeNamespace) },
		}
	}
	return []row{
		newRow("apply", "server-side apply of a whole spec", []subject{
			{name: "sdk", how: "typed client and apply configuration", start: of(applySDK)},
			{name: "controller-runtime", how: "client.Apply of an unstructured object", start: of(applyControllerRuntime)},
			{name: "dynamic", how: "Apply of an unstructured object", start: of(applyDynamic)},
			{name: "floor", how: "the same bytes by a bare HTTP client, answers unread", aside: true, start: of(applyBare)},
		}),
		newRow("status", "patch of a condition that keeps those of others", []subject{
			{name: "sdk", how: "helpers.PatchConditions", start: of(statusSDK)},
			{name: "controller-runtime", how: "client.Status().Patch, MergeFromWithOptimisticLock", start: of(statusControllerRuntime)},
			{name: "dynamic", how: "merge patch with a resource version", start: of(statusDynamic)},
			{name: "floor", how: "the same bytes by a bare HTTP client, answers searched for the version only", aside: true, start: of(statusBare)},
		}),
	}
}

func measureWrites(ctx context.Context, in *input, write write) (values, error) {
	duration := 3 * time.Second
	if in.Quick {
		duration = time.Second
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Unlike all that was written before, by whomever.
	base := int(time.Now().UnixNano())
	var total atomic.Int64
	var writing sync.WaitGroup
	cpu, started := cpuTime(), time.Now()
	for caller := range writeCallers {
		writing.Go(func() {
			for n := base; time.Since(started) < duration && ctx.Err() == nil; n++ {
				if err := write(ctx, caller, n); err != nil {
					cancel(err)
					return
				}
				total.Add(1)
			}
		})
	}
	writing.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	n := float64(total.Load())
	return values{"rate": n / time.Since(started).Seconds(), "cpu": (cpuTime() - cpu) / n}, nil
}

func prefix(n int) string { return fmt.Sprintf("docker.io/myorg-%d", n) }

func applySDK(_ context.Context, in *input) (func() write, error) {
	client, err := openchoreoclient.NewForConfig(in.Server.config())
	if err != nil {
		return nil, err
	}
	materials := newMaterials()
	return always(func(ctx context.Context, caller, n int) error {
		dp := materials[caller].applyConfiguration(writeNamespace, objectName(caller))
		dp.Spec.Registry.WithPrefix(prefix(n))
		_, err := client.OpenChoreoV1alpha1().DataPlanes(writeNamespace).Apply(ctx, dp, metav1.ApplyOptions{FieldManager: manager, Force: true})
		return err
	}), nil
}

func applyControllerRuntime(_ context.Context, in *input) (func() write, error) {
	client, err := newControllerRuntimeClient(in)
	if err != nil {
		return nil, err
	}
	materials := newMaterials()
	return always(func(ctx context.Context, caller, n int) error {
		object := materials[caller].object(objectName(caller), n)
		return client.Apply(ctx, ctrlclient.ApplyConfigurationFromUnstructured(object), ctrlclient.FieldOwner(manager), ctrlclient.ForceOwnership)
	}), nil
}

func applyDynamic(_ context.Context, in *input) (func() write, error) {
	client, err := dynamic.NewForConfig(in.Server.config())
	if err != nil {
		return nil, err
	}
	materials := newMaterials()
	return always(func(ctx context.Context, caller, n int) error {
		object := materials[caller].object(objectName(caller), n)
		_, err := client.Resource(dataPlanes).Namespace(writeNamespace).
			Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: manager, Force: true})
		return err
	}), nil
}

func applyBare(_ context.Context, in *input) (func() write, error) {
	client, err := bareClient(in.Server.config())
	if err != nil {
		return nil, err
	}
	var bodies [writeCallers][]byte
	materials := newMaterials()
	for caller := range bodies {
		// All numbers are of the same length.
		if bodies[caller], err = json.Marshal(materials[caller].object(objectName(caller), int(time.Now().UnixNano()))); err != nil {
			return nil, err
		}
	}
	return always(func(ctx context.Context, caller, n int) error {
		start := bytes.Index(bodies[caller], []byte("docker.io/myorg-"))
		copy(bodies[caller][start:], prefix(n))
		return patchBare(ctx, client, in.Server.URL+objectPath(caller)+"?fieldManager="+manager+"&force=true",
			types.ApplyPatchType, bodies[caller], io.Discard)
	}), nil
}

// newMaterials are made once: making them is not measured.
func newMaterials() [writeCallers]*materials {
	var all [writeCallers]*materials
	for i := range all {
		all[i] = newMaterial()
	}
	return all
}

// object is the same without the SDK.
func (m *materials) object(name string, n int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": openchoreov1alpha1.SchemeGroupVersion.String(),
		"kind":       "DataPlane",
		"metadata":   map[string]any{"namespace": writeNamespace, "name": name},
		"spec": map[string]any{
			"kubernetesCluster": map[string]any{
				"name": name,
				"credentials": map[string]any{
					"apiServerURL": "https://" + name + ".example.com:6443",
					"caCert":       m.ca, "clientCert": m.cert, "clientKey": m.key,
				},
			},
			"registry": map[string]any{"prefix": prefix(n), "secretRef": "registry-credentials"},
			"gateway": map[string]any{
				"publicVirtualHost": name + ".api.example.com", "organizationVirtualHost": name + ".internal.example.com",
			},
		},
	}}
}

func objectPath(caller int) string {
	return "/apis/openchoreo.dev/v1alpha1/namespaces/" + writeNamespace + "/dataplanes/" + objectName(caller)
}

func patchBare(ctx context.Context, client *http.Client, url string, patchType types.PatchType, body []byte, answer io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", string(patchType))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	_, err = io.Copy(answer, response.Body)
	return err
}

func newControllerRuntimeClient(in *input) (ctrlclient.Client, error) {
	scheme := runtime.NewScheme()
	if err := openchoreov1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return ctrlclient.New(in.Server.config(), ctrlclient.Options{Scheme: scheme})
}

// condition is always True, so that its transition time stays.
func condition(n int) metav1.Condition {
	return metav1.Condition{
		Type: openchoreov1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue, Reason: "Reconciled", Message: prefix(n),
	}
}

func statusSDK(_ context.Context, in *input) (func() write, error) {
	client, err := openchoreoclient.NewForConfig(in.Server.config())
	if err != nil {
		return nil, err
	}
	objects := client.OpenChoreoV1alpha1().DataPlanes(writeNamespace)
	return func() write {
		var current [writeCallers]*openchoreov1alpha1.DataPlane
		return func(ctx context.Context, caller, n int) (err error) {
			if current[caller] == nil {
				if current[caller], err = objects.Get(ctx, objectName(caller), metav1.GetOptions{}); err != nil {
					return err
				}
			}
			current[caller], err = helpers.PatchConditions(ctx, objects, current[caller],
				[]metav1.Condition{condition(n)}, helpers.PatchOptions{})
			return err
		}
	}, nil
}

func statusControllerRuntime(_ context.Context, in *input) (func() write, error) {
	client, err := newControllerRuntimeClient(in)
	if err != nil {
		return nil, err
	}
	return func() write {
		var current [writeCallers]*openchoreov1alpha1.DataPlane
		return func(ctx context.Context, caller, n int) error {
			if current[caller] == nil {
				current[caller] = &openchoreov1alpha1.DataPlane{}
				key := ctrlclient.ObjectKey{Namespace: writeNamespace, Name: objectName(caller)}
				if err := client.Get(ctx, key, current[caller]); err != nil {
					return err
				}
			}
			dp := current[caller]
			patch := ctrlclient.MergeFromWithOptions(dp.DeepCopy(), ctrlclient.MergeFromWithOptimisticLock{})
			c := condition(n)
			c.ObservedGeneration = dp.Generation
			meta.SetStatusCondition(&dp.Status.Conditions, c)
			return client.Status().Patch(ctx, dp, patch)
		}
	}, nil
}

func statusDynamic(_ context.Context, in *input) (func() write, error) {
	client, err := dynamic.NewForConfig(in.Server.config())
	if err != nil {
		return nil, err
	}
	objects := client.Resource(dataPlanes).Namespace(writeNamespace)
	return func() write {
		var current [writeCallers]*unstructured.Unstructured
		return func(ctx context.Context, caller, n int) (err error) {
			if current[caller] == nil {
				if current[caller], err = objects.Get(ctx, objectName(caller), metav1.GetOptions{}); err != nil {
					return err
				}
			}
			conditions, _, err := unstructured.NestedSlice(current[caller].Object, "status", "conditions")
			if err != nil {
				return err
			}
			want := condition(n)
			for _, c := range conditions {
				if c, ok := c.(map[string]any); ok && c["type"] == want.Type {
					c["message"], c["observedGeneration"] = want.Message, current[caller].GetGeneration()
				}
			}
			patch, err := json.Marshal(map[string]any{
				"metadata": map[string]any{"resourceVersion": current[caller].GetResourceVersion()},
				"status":   map[string]any{"conditions": conditions},
			})
			if err != nil {
				return err
			}
			current[caller], err = objects.Patch(ctx, objectName(caller), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
			return err
		}
	}, nil
}

func statusBare(_ context.Context, in *input) (func() write, error) {
	client, err := bareClient(in.Server.config())
	if err != nil {
		return nil, err
	}
	return func() write {
		var answers [writeCallers]bytes.Buffer
		return func(ctx context.Context, caller, n int) error {
			answer := &answers[caller]
			if answer.Len() == 0 {
				body, err := get(ctx, client, in.Server.URL+objectPath(caller))
				if err != nil {
					return err
				}
				_, err = io.Copy(answer, body)
				body.Close()
				if err != nil {
					return err
				}
			}
			version, err := resourceVersion(answer.Bytes())
			if err != nil {
				return err
			}
			answer.Reset()
			return patchBare(ctx, client, in.Server.URL+objectPath(caller)+"/status", types.MergePatchType, statusPatch(version, n), answer)
		}
	}, nil
}

// statusPatch is what the others send.
func statusPatch(version string, n int) []byte {
	patch := fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q},"status":{"conditions":[`, version)
	for i, conditionType := range conditionTypes {
		message := conditionType + " as of the last look at the cluster"
		if i == 0 {
			message = prefix(n)
		} else {
			patch = append(patch, ',')
		}
		patch = fmt.Appendf(patch, `{"type":%q,"status":"True","observedGeneration":1,"lastTransitionTime":"2023-11-14T22:13:20Z",`+
			`"reason":"Reconciled","message":%q}`, conditionType, message)
	}
	return append(patch, "]}}"...)
}

// resourceVersion is the last in an answer: in lists, that of the list comes after those of
// the objects.
func resourceVersion(answer []byte) (string, error) {
	key := []byte(`"resourceVersion":"`)
	at := bytes.LastIndex(answer, key)
	if at < 0 {
		return "", errors.New("the answer has no resource version")
	}
	version, _, _ := bytes.Cut(answer[at+len(key):], []byte(`"`))
	return string(version), nil
}
