// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

const (
	waitNamespace = "waits"
	waitCount     = 10
	// waitSpread is the time in which the objects become ready, each at a moment of chance
	// in its own part, so that polls are hit anywhere between two.
	waitSpread = 2 * time.Second
	// controllerPoll is the interval of the examples of wait.PollUntilContextTimeout.
	controllerPoll = time.Second
)

// waiter returns when an object is ready. It calls waiting when it misses nothing any more.
type waiter func(ctx context.Context, name string, waiting func()) error

func waitRows() []row {
	of := func(start func(in *input) (waiter, error)) func(context.Context, *input) (measureFunc, error) {
		return func(_ context.Context, in *input) (measureFunc, error) {
			wait, err := start(in)
			if err != nil {
				return nil, err
			}
			client, err := openchoreoclient.NewForConfig(in.Server.config())
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context, drive func() (int, error)) (values, error) {
				return measureWaits(ctx, client, wait, drive)
			}, nil
		}
	}
	return []row{{
		name:    "wait",
		title:   fmt.Sprintf("from sending a status that is Ready to the end of a wait for it, %d waits at once", waitCount),
		metrics: []metric{{Name: "p50", Unit: seconds}, {Name: "worst", Unit: seconds}, {Name: "cpu", Unit: seconds}},
		onPlane: true,
		rounds:  [2]int{2, 5},
		prepare: func(ctx context.Context, f *fixture, _ *input) error {
			return f.populate(ctx, waitNamespace, waitCount)
		},
		cleanup: func(ctx context.Context, f *fixture) error { return f.deleteAll(ctx, waitNamespace) },
		drive:   makeReady,
		subjects: []subject{
			{name: "sdk", how: "await.For", start: of(waitSDK)},
			{name: "controller-runtime", how: fmt.Sprintf("client.Get in wait.PollUntilContextCancel, every %s", controllerPoll), start: of(pollControllerRuntime)},
			{name: "kubectl", how: "kubectl wait --for=condition=Ready, a process each", start: of(waitKubectl)},
			{name: "floor", how: "a bare watch that looks for the condition only", aside: true, start: of(watchTyped)},
		},
	}}
}

// measureWaits has all objects waited for, and then made ready by the parent.
func measureWaits(ctx context.Context, client openchoreoclient.Interface, wait waiter, drive func() (int, error)) (values, error) {
	objects := client.OpenChoreoV1alpha1().DataPlanes(waitNamespace)
	for i := range waitCount {
		if _, err := patchReady(ctx, client, i, metav1.ConditionFalse); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var waiting, done sync.WaitGroup
	var errs [waitCount]error
	var ended [waitCount]time.Time
	cpu := cpuTime()
	for i := range waitCount {
		waiting.Add(1)
		isWaiting := sync.OnceFunc(waiting.Done)
		done.Go(func() {
			defer isWaiting()
			errs[i] = wait(ctx, objectName(i), isWaiting)
			ended[i] = time.Now()
		})
	}
	waiting.Wait()
	_, err := drive()
	if err != nil {
		cancel()
	}
	done.Wait()
	cpu = cpuTime() - cpu
	if err := errors.Join(append(errs[:], err)...); err != nil {
		return nil, err
	}
	var took []float64
	for i := range waitCount {
		dp, err := objects.Get(ctx, objectName(i), metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		ready := meta.FindStatusCondition(dp.Status.Conditions, openchoreov1alpha1.DataPlaneConditionReady)
		if ready == nil {
			return nil, fmt.Errorf("%s has no condition", dp.Name)
		}
		sent, err := strconv.ParseInt(ready.Message, 10, 64)
		if err != nil {
			return nil, err
		}
		if took = append(took, ended[i].Sub(time.Unix(0, sent)).Seconds()); took[i] < 0 {
			return nil, fmt.Errorf("the wait for %s ended before the write", dp.Name)
		}
	}
	return values{"p50": median(took), "worst": percentile(took, 1), "cpu": cpu / waitCount}, nil
}

// makeReady is what the parent does.
func makeReady(ctx context.Context, f *fixture, _ *input) (int, error) {
	started := time.Now()
	for i := range waitCount {
		at := (float64(i) + rand.Float64()) / waitCount
		select {
		case <-time.After(time.Until(started.Add(time.Duration(at * float64(waitSpread))))):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		if _, err := patchReady(ctx, f.openchoreo, i, metav1.ConditionTrue); err != nil {
			return 0, err
		}
	}
	return waitCount, nil
}

// patchReady says in the message when it was sent.
func patchReady(ctx context.Context, client openchoreoclient.Interface, i int, status metav1.ConditionStatus) (*openchoreov1alpha1.DataPlane, error) {
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q,"reason":"Reconciled","message":"%d",`+
		`"observedGeneration":1,"lastTransitionTime":"2023-11-14T22:13:20Z"}]}}`, status, time.Now().UnixNano())
	return client.OpenChoreoV1alpha1().DataPlanes(waitNamespace).
		Patch(ctx, objectName(i), types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
}

func waitSDK(in *input) (waiter, error) {
	client, err := openchoreoclient.NewForConfig(in.Server.config())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string, waiting func()) error {
		_, err := await.For(ctx, openTeller{client.OpenChoreoV1alpha1().DataPlanes(waitNamespace), waiting}, name,
			await.True(openchoreov1alpha1.DataPlaneConditionReady))
		return err
	}, nil
}

// openTeller calls opened when a watch is open: the API server has sent the headers of its
// answer.
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

func watchTyped(in *input) (waiter, error) {
	client, err := openchoreoclient.NewForConfig(in.Server.config())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string, waiting func()) error {
		objects := client.OpenChoreoV1alpha1().DataPlanes(waitNamespace)
		dp, err := objects.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		watcher, err := objects.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: dp.ResourceVersion})
		if err != nil {
			return err
		}
		defer watcher.Stop()
		waiting()
		for event := range watcher.ResultChan() {
			if dp, ok := event.Object.(*openchoreov1alpha1.DataPlane); ok &&
				meta.IsStatusConditionTrue(dp.Status.Conditions, openchoreov1alpha1.DataPlaneConditionReady) {
				return nil
			}
		}
		return errors.New("the watch has ended")
	}, nil
}

func pollControllerRuntime(in *input) (waiter, error) {
	client, err := newControllerRuntimeClient(in)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string, waiting func()) error {
		return wait.PollUntilContextCancel(ctx, controllerPoll, true, func(ctx context.Context) (bool, error) {
			var dp openchoreov1alpha1.DataPlane
			err := client.Get(ctx, ctrlclient.ObjectKey{Namespace: waitNamespace, Name: name}, &dp)
			waiting()
			return meta.IsStatusConditionTrue(dp.Status.Conditions, openchoreov1alpha1.DataPlaneConditionReady), err
		})
	}, nil
}

// waitKubectl knows from kubectl's log that its watch is open.
func waitKubectl(in *input) (waiter, error) {
	return func(ctx context.Context, name string, waiting func()) error {
		cmd := exec.CommandContext(ctx, in.Server.Kubectl, "wait", "--for=condition=Ready", "--timeout=60s", "--namespace="+waitNamespace, "--v=6", "dataplane/"+name)
		cmd.Env = in.Server.KubectlEnv
		stderr, err := cmd.StderrPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		var log tail
		for lines := bufio.NewScanner(io.TeeReader(stderr, &log)); lines.Scan(); {
			if line := lines.Text(); strings.Contains(line, "watch=true") && strings.Contains(line, "200") {
				waiting()
			}
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("kubectl wait: %w: %s", err, log.String())
		}
		return nil
	}, nil
}
