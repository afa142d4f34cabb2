// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// Each benchmark measures the SDK and what it is to be compared with side by side, so
// that a figure is the ratio of two in one run:
//
//	go -C hack/integration test -run '^$' -bench . -benchtime 10s -timeout 30m ./...
//
// With -short, the informers hold 1,000 objects in place of 10,000.

// BenchmarkWaitFor takes the time from sending a status that is ready to the return of
// await.For, whose watch is open by then, and to that of a bare watch.
func BenchmarkWaitFor(b *testing.B) {
	s := benchmarkSpace(b, shared)
	_, err := s.typed.Create(b.Context(), behaviours.NewDataPlane("prod"), metav1.CreateOptions{})
	require.NoError(b, err)

	var sdk, bare []time.Duration
	for b.Loop() {
		// What comes first in a round must not matter.
		if len(sdk)%2 == 0 {
			sdk = append(sdk, s.untilReady(b, waitFor))
			bare = append(bare, s.untilReady(b, bareWatch))
		} else {
			bare = append(bare, s.untilReady(b, bareWatch))
			sdk = append(sdk, s.untilReady(b, waitFor))
		}
	}
	b.ReportMetric(0, "ns/op") // of two waits and all that is between them
	b.ReportMetric(microseconds(percentile(sdk, 50)), "sdk-µs")
	b.ReportMetric(microseconds(percentile(sdk, 99)), "sdk-p99-µs")
	b.ReportMetric(microseconds(percentile(bare, 50)), "bare-µs")
	b.ReportMetric(microseconds(percentile(bare, 99)), "bare-p99-µs")
	b.ReportMetric(microseconds(percentile(sdk, 50))/microseconds(percentile(bare, 50)), "ratio-to-bare-watch")
}

type waitFunc func(ctx context.Context, client await.Client, from *openchoreov1alpha1.DataPlane) error

func waitFor(ctx context.Context, client await.Client, from *openchoreov1alpha1.DataPlane) error {
	_, err := await.For(ctx, client, from.Name, untilReady)
	return err
}

func bareWatch(ctx context.Context, client await.Client, from *openchoreov1alpha1.DataPlane) error {
	watcher, err := client.Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector(metav1.ObjectNameField, from.Name).String(),
		ResourceVersion: from.ResourceVersion,
	})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if dp, ok := event.Object.(*openchoreov1alpha1.DataPlane); ok &&
			meta.IsStatusConditionTrue(dp.Status.Conditions, openchoreov1alpha1.DataPlaneConditionReady) {
			return nil
		}
	}
	return errors.New("the watch has ended")
}

// untilReady returns the time from just before a status that is ready is sent, as its
// event may come before the response, to the return of wait.
func (s *space) untilReady(b *testing.B, wait waitFunc) time.Duration {
	b.Helper()
	unready := s.patchReady(b, metav1.ConditionFalse)
	ctx, cancel := context.WithTimeout(b.Context(), eventually)
	defer cancel()
	type result struct {
		at  time.Time
		err error
	}
	opened, results := make(chan struct{}), make(chan result, 1)
	client := openTeller{s.typed, sync.OnceFunc(func() { close(opened) })}
	go func() {
		err := wait(ctx, client, unready)
		results <- result{time.Now(), err}
	}()
	select {
	case <-opened:
	case r := <-results:
		b.Fatalf("the wait has ended without a watch: %v", r.err)
	}
	sent := time.Now()
	s.patchReady(b, metav1.ConditionTrue)
	r := <-results
	require.NoError(b, r.err)
	return r.at.Sub(sent)
}

func (s *space) patchReady(b *testing.B, status metav1.ConditionStatus) *openchoreov1alpha1.DataPlane {
	b.Helper()
	patch := fmt.Sprintf(`{"status": {"conditions": [{"type": "Ready", "status": %q, "reason": "Tested",
		"message": "by hand", "observedGeneration": 1, "lastTransitionTime": "2025-01-01T00:00:00Z"}]}}`, status)
	dp, err := s.typed.Patch(b.Context(), "prod", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	require.NoError(b, err)
	return dp
}

// openTeller calls opened when a watch is open: the API server has sent the headers of
// its response, so no event from then on is missed or replayed.
type openTeller struct {
	await.Client
	opened func()
}

func (o openTeller) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	watcher, err := o.Client.Watch(ctx, opts)
	if err == nil {
		o.opened()
	}
	return watcher, err
}

// BenchmarkInformerHeap takes what an object costs in the cache of an informer. The time
// is that from the start of the informer until it has synced.
func BenchmarkInformerHeap(b *testing.B) {
	count := 10_000
	if testing.Short() {
		count = 1_000
	}
	for _, credentials := range []struct {
		name string
		size int // of each of CA, certificate and key
	}{
		{"2KB-each", 2048},       // a little more than with RSA-2048
		{"2KB-in-all", 2048 / 3}, // about that of ECDSA P-256
	} {
		b.Run(credentials.name, func(b *testing.B) { benchmarkInformerHeap(b, count, credentials.size) })
	}
}

func benchmarkInformerHeap(b *testing.B, count, size int) {
	// A control plane of its own takes all the objects along when it ends.
	p, err := startPlane(b.Context(), crds.DataPlane(), controlplane.WithName(b.Name()))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, p.Stop()) })
	s := benchmarkSpace(b, p)
	s.fill(b, count, size)

	typed := func() cache.SharedIndexInformer {
		return openchoreoinformers.NewSharedInformerFactoryWithOptions(p.openchoreo, 0,
			openchoreoinformers.WithNamespace(s.namespace)).OpenChoreo().V1alpha1().DataPlanes().Informer()
	}
	dynamic := func() cache.SharedIndexInformer {
		return dynamicinformer.NewFilteredDynamicSharedInformerFactory(p.dynamic, 0, s.namespace, nil).
			ForResource(openchoreov1alpha1.SchemeGroupVersion.WithResource("dataplanes")).Informer()
	}
	var floor float64
	for _, bench := range []struct {
		name      string
		informer  func() cache.SharedIndexInformer
		transform cache.TransformFunc
	}{
		{"dynamic", dynamic, nil},
		{"typed", typed, nil},
		{"typed-StripManagedFields", typed, informer.StripManagedFields},
		{"typed-DropSecrets", typed, informer.DropSecrets},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var total, rounds float64
			for b.Loop() {
				b.StopTimer()
				informer := bench.informer()
				require.NoError(b, informer.SetTransform(bench.transform))
				before := heap()
				b.StartTimer()
				stop := startInformer(b, informer)
				b.StopTimer()
				total += (heap() - before) / float64(count)
				rounds++
				require.Len(b, informer.GetStore().ListKeys(), count)
				stop()
				b.StartTimer()
			}
			perObject := total / rounds
			b.ReportMetric(perObject, "heap-B/object")
			if bench.name == "dynamic" {
				floor = perObject
			}
			if floor > 0 {
				b.ReportMetric(perObject/floor, "ratio-to-dynamic")
			}
		})
	}
}

// fill makes objects as a cluster has them: applied by one manager, with a status by
// another, and with material of their own.
func (s *space) fill(b *testing.B, count, size int) {
	b.Helper()
	errs := make([]error, count)
	workqueue.ParallelizeUntil(b.Context(), 16, count, func(i int) {
		name := fmt.Sprintf("production-dataplane-%05d", i)
		dp := behaviours.ApplySpec(s.namespace, name)
		dp.Spec.KubernetesCluster.WithName(name).Credentials.
			WithAPIServerURL("https://" + name + ".example.com:6443").
			WithCACert(material("CERTIFICATE", size)).
			WithClientCert(material("CERTIFICATE", size)).
			WithClientKey(material("PRIVATE KEY", size))
		if _, errs[i] = s.typed.Apply(b.Context(), dp, behaviours.ApplyAs("platform")); errs[i] != nil {
			return
		}
		status := behaviours.ApplyConditions(s.namespace, name)
		for _, conditionType := range []string{
			openchoreov1alpha1.DataPlaneConditionReady,
			openchoreov1alpha1.DataPlaneConditionConnected,
			openchoreov1alpha1.DataPlaneConditionGatewayProvisioned,
		} {
			status.Status.WithConditions(behaviours.ApplyCondition(conditionType, metav1.ConditionTrue).
				WithMessage(conditionType + " as of the last look at the cluster").WithObservedGeneration(1))
		}
		_, errs[i] = s.typed.ApplyStatus(b.Context(), status, behaviours.ApplyAs("dataplane-controller"))
	})
	require.NoError(b, errors.Join(errs...))
}

// material returns base64 of PEM, of a few bytes less than size.
func material(kind string, size int) string {
	frame := len("-----BEGIN -----\n-----END -----\n") + 2*len(kind)
	der := make([]byte, (size*3/4-frame)*48/65-3) // a line of PEM is 65 bytes for 48
	_, _ = rand.Read(der)                         // never fails
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// startInformer returns when the informer has synced.
func startInformer(b *testing.B, informer cache.SharedIndexInformer) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { informer.RunWithContext(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		stop()
		b.Fatal("the informer has not synced")
	}
	return stop
}

// heap returns the bytes that are in use. What is in pools is freed by the second
// collection.
func heap() float64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

func benchmarkSpace(b *testing.B, p *plane) *space {
	b.Helper()
	namespace, err := p.kubernetes.CoreV1().Namespaces().Create(b.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}}, metav1.CreateOptions{})
	require.NoError(b, err)
	return p.in(namespace.Name)
}

// percentile sorts what it is given.
func percentile(durations []time.Duration, percent int) time.Duration {
	slices.Sort(durations)
	return durations[(len(durations)-1)*percent/100]
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
