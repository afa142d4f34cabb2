// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

var soakDuration = flag.Duration("soak.duration", 0, "how long TestSoak lasts; 20 s with few data planes by default. hack/soak.sh sets it")

// soakSize is the size of a soak, and how often its faults happen.
type soakSize struct {
	planes, dead       int
	renew, turn, pause time.Duration // between renewals, turns, and requests or changes of objects
	kills              bool          // an API server is killed during every second renewal, or soon after
}

// soak runs a Fleet in a separate process, for data planes of which every second is behind a gateway,
// and causes faults.
type soak struct {
	soakSize
	t         *testing.T
	servers   []*plane // data plane i is on the server i modulo their number
	planes    *space   // where the DataPlanes are
	cluster   *plane   // where the ClusterDataPlanes are
	gateway   *dataplanetest.Gateway
	agents    []http.Handler // of each server
	relays    map[int]*relay // the connections to data planes that aren't behind the gateway
	held      map[int]bool   // the relays that are silent
	files     string         // of the gateway's certificates
	namespace string
	stdin     io.WriteCloser
	reports   *json.Decoder
}

// Connections, memory and goroutines of a Fleet don't grow while credentials are renewed, agents come
// and go, and API servers are silent or killed. In the end, its informers are complete.
func TestSoak(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	s := &soak{t: t, relays: map[int]*relay{}, held: map[int]bool{}, files: t.TempDir(), namespace: "soak", soakSize: soakSize{
		planes: 20, dead: 2, renew: 4 * time.Second, turn: 3 * time.Second, pause: time.Second,
	}}
	duration := 20 * time.Second
	s.servers = []*plane{shared, v1Plane(t)}
	if *soakDuration > 0 {
		duration = *soakDuration
		s.soakSize = soakSize{planes: 200, dead: 20, renew: 2 * time.Minute, turn: 30 * time.Second, pause: 5 * time.Second, kills: true}
		s.servers = []*plane{ownPlane(t, crds.DataPlane()), ownPlane(t, crds.DataPlaneV1()), ownPlane(t, crds.DataPlane())}
		require.NoError(t, s.servers[1].InstallCRDs(t.Context(), crds.ClusterDataPlane()))
	}
	s.start()
	first := s.awaitAll()
	t.Logf("all of %d data planes run: %s", s.soakSize.planes, first)

	var reports []soakReport
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var work sync.WaitGroup
	for _, repeated := range []struct {
		every time.Duration
		call  func(ctx context.Context, round int)
	}{
		{s.turn, s.takeTurns}, {s.pause, s.changeObject},
	} {
		work.Go(func() {
			for round := 1; ctx.Err() == nil; round++ {
				select {
				case <-ctx.Done():
				case <-time.After(repeated.every):
					repeated.call(ctx, round)
				}
			}
		})
	}
	began := time.Now()
	for round := 1; ctx.Err() == nil; round++ {
		select {
		case <-ctx.Done():
		case <-time.After(s.renew):
			r := s.report("")
			reports = append(reports, r)
			t.Logf("%5.0f s: %s", time.Since(began).Seconds(), r)
			if s.kills && round%2 == 0 {
				work.Go(func() {
					time.Sleep(rand.N(s.renew / 2))
					s.killServer(round/2 - 1)
				})
			}
			s.renewCredentials(ctx, round)
		}
	}
	work.Wait()
	s.setDead(nil)
	last := s.awaitAll()
	t.Logf("at the end: %s, failures: %v", last, last.Failures)
	s.requireComplete()
	for name, plane := range s.report("").Planes {
		assert.Zero(t, plane.Outdated, "%s: requests with credentials from before a rotation", name)
		assert.Positive(t, plane.Succeeded, name)
	}
	if duration >= 15*time.Minute {
		requireFlat(t, reports)
	}
	require.NoError(t, s.stdin.Close())
}

// requireFlat compares the first reports after a sixth of the time with the last. Each was made more
// than half a minute after a renewal or a kill: until then, timers of HTTP/2 hold the closed connections,
// a quarter of the heap.
func requireFlat(t *testing.T, reports []soakReport) {
	t.Helper()
	n := len(reports) / 6
	require.Positive(t, n, "too few reports to compare")
	for _, figure := range []struct {
		name string
		of   func(soakReport) float64
	}{
		{"heap", func(r soakReport) float64 { return float64(r.Heap) }},
		{"goroutines", func(r soakReport) float64 { return float64(r.Goroutines) }},
		{"sockets", func(r soakReport) float64 { return float64(r.Sockets) }},
	} {
		median := func(reports []soakReport) float64 {
			var all []float64
			for _, r := range reports {
				all = append(all, figure.of(r))
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		early, late := median(reports[n:2*n]), median(reports[len(reports)-n:])
		t.Logf("%s: %.0f, then %.0f (%.2f)", figure.name, early, late, late/early)
		assert.Less(t, late, early*1.15, "%s grows", figure.name)
	}
}

// start creates the data planes and their objects, and starts the program.
func (s *soak) start() {
	s.planes, s.cluster = s.servers[0].space(s.t), s.servers[1]
	s.gateway = dataplanetest.NewGateway()
	s.t.Cleanup(s.gateway.Close)
	for i, server := range s.servers {
		_, err := server.kubernetes.CoreV1().Namespaces().Create(s.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}, metav1.CreateOptions{})
		require.NoError(s.t, err)
		for n := range 20 {
			_, err := server.kubernetes.CoreV1().ConfigMaps(s.namespace).Create(s.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("object-", n)}}, metav1.CreateOptions{})
			require.NoError(s.t, err)
		}
		s.agents = append(s.agents, dataplanetest.Agent(addUser(s.t, server, fmt.Sprint("agent-", i), "system:masters").Config()))
	}
	for i := range s.soakSize.planes {
		s.createPlane(i)
	}
	s.writeGatewayFiles()
	s.startProgram()
}

func (s *soak) name(i int) string        { return fmt.Sprintf("%s%03d", soakPlanes, i) }
func (s *soak) server(i int) *plane      { return s.servers[i%len(s.servers)] }
func (s *soak) isDirect(i int) bool      { return i%2 == 0 }
func (s *soak) agent(i int) http.Handler { return s.agents[i%len(s.servers)] }

func (s *soak) createPlane(i int) {
	if !s.isDirect(i) {
		_, err := s.cluster.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes().Create(s.t.Context(),
			dataplanetest.ClusterDataPlane(s.name(i)), metav1.CreateOptions{})
		require.NoError(s.t, err)
		s.t.Cleanup(func() { // other tests list ClusterDataPlanes
			_ = s.cluster.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes().Delete(context.Background(), s.name(i), metav1.DeleteOptions{})
		})
		s.gateway.Connect(s.name(i), s.agent(i))
		return
	}
	s.relays[i] = newRelay(s.t, strings.TrimPrefix(s.server(i).URL(), "https://"))
	s.planes.create(s.t, dataplanetest.DataPlane(s.planes.namespace, s.name(i), s.withCredentials(i, 0)))
}

// withCredentials returns an edit that sets a user of this generation, behind the data plane's
// relay.
func (s *soak) withCredentials(i, generation int) func(*openchoreov1alpha1.DataPlane) {
	user := addUser(s.t, s.server(i), soakUser(generation), "system:masters")
	user.Server = "https://" + s.relays[i].Addr().String()
	return dataplanetest.WithCredentials(user.Config())
}

// writeGatewayFiles writes a new client certificate for the gateway, as cert-manager would.
func (s *soak) writeGatewayFiles() {
	config := s.gateway.Config()
	for name, data := range map[string][]byte{"ca.crt": config.CAData, "tls.crt": config.CertData, "tls.key": config.KeyData} {
		path := filepath.Join(s.files, name)
		assert.NoError(s.t, os.WriteFile(path+".new", data, 0o600))
		assert.NoError(s.t, os.Rename(path+".new", path))
	}
}

func (s *soak) startProgram() {
	path, err := os.Executable()
	require.NoError(s.t, err)
	program := exec.Command(path)
	program.Env = append(os.Environ(), soakEnv+"=true")
	var stderr bytes.Buffer
	program.Stderr = &stderr
	s.stdin, err = program.StdinPipe()
	require.NoError(s.t, err)
	stdout, err := program.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, program.Start())
	s.t.Cleanup(func() {
		_ = s.stdin.Close()
		kill := time.AfterFunc(eventually, func() { _ = program.Process.Kill() })
		defer kill.Stop()
		assert.NoError(s.t, program.Wait())
		assert.NotContains(s.t, stderr.String(), "DATA RACE")
		if s.t.Failed() {
			s.t.Logf("%.4000s", stderr.String())
		}
	})
	s.reports = json.NewDecoder(bufio.NewReader(stdout))
	file := func(name string) string { return filepath.Join(s.files, name) }
	require.NoError(s.t, json.NewEncoder(s.stdin).Encode(soakConfig{
		DataPlanes: addUser(s.t, s.servers[0], "program", "system:masters"), ClusterDataPlanes: addUser(s.t, s.cluster, "program", "system:masters"),
		Gateway: s.gateway.Config().Host, GatewayCA: file("ca.crt"), GatewayCert: file("tls.crt"), GatewayKey: file("tls.key"),
		Namespace: s.namespace, Pause: s.pause,
	}))
}

func (s *soak) report(question string) (r soakReport) {
	s.t.Helper()
	_, err := fmt.Fprintln(s.stdin, question)
	require.NoError(s.t, err)
	require.NoError(s.t, s.reports.Decode(&r))
	return r
}

// awaitAll waits until each data plane has a run, and a request of each has succeeded since.
func (s *soak) awaitAll() (r soakReport) {
	s.t.Helper()
	before := s.report("")
	require.EventuallyWithT(s.t, func(collect *assert.CollectT) {
		r = s.report("")
		require.Len(collect, r.Planes, s.soakSize.planes)
		for name, plane := range r.Planes {
			require.Equal(collect, fleet.StateRunning, plane.State, "%s: %s", name, plane.LastError)
			require.Greater(collect, plane.Succeeded, before.Planes[name].Succeeded, name)
		}
	}, 2*eventually, time.Second)
	return r
}

// requireComplete requires that each informer equals its API server's objects.
func (s *soak) requireComplete() {
	s.t.Helper()
	want := make([]map[string]string, len(s.servers))
	for i, server := range s.servers {
		list, err := server.kubernetes.CoreV1().ConfigMaps(s.namespace).List(s.t.Context(), metav1.ListOptions{})
		require.NoError(s.t, err)
		want[i] = map[string]string{}
		for _, configMap := range list.Items {
			want[i][configMap.Name] = configMap.ResourceVersion
		}
	}
	require.EventuallyWithT(s.t, func(collect *assert.CollectT) {
		r := s.report("objects")
		for i := range s.soakSize.planes {
			require.True(collect, maps.Equal(want[i%len(want)], r.Planes[s.name(i)].Objects), "%s: %v, want %v", s.name(i), r.Planes[s.name(i)].Objects, want[i%len(want)])
		}
	}, eventually, time.Second)
}

// renewCredentials renews the credentials of each data plane, and of the program at the gateway.
func (s *soak) renewCredentials(ctx context.Context, generation int) {
	s.gateway.RotateClients()
	s.writeGatewayFiles()
	for i := 0; i < s.soakSize.planes; i += 2 {
		after := dataplanetest.DataPlane(s.planes.namespace, s.name(i), s.withCredentials(i, generation))
		_ = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
			before, err := s.planes.typed.Get(ctx, s.name(i), metav1.GetOptions{})
			if err != nil {
				return false, nil // its API server has been killed
			}
			changed := before.DeepCopy()
			changed.Spec.KubernetesCluster.Credentials = after.Spec.KubernetesCluster.Credentials
			patch, err := helpers.MergePatch(before, changed)
			if err != nil {
				return false, err
			}
			_, err = s.planes.typed.Patch(ctx, s.name(i), types.MergePatchType, patch, metav1.PatchOptions{})
			return err == nil, nil
		})
	}
}

// takeTurns revives the dead data planes, and makes others dead.
func (s *soak) takeTurns(_ context.Context, _ int) { s.setDead(rand.Perm(s.soakSize.planes)[:s.dead]) }

func (s *soak) setDead(dead []int) {
	for i := range s.soakSize.planes {
		isDead := slices.Contains(dead, i)
		switch {
		case s.isDirect(i):
			s.hold(i, isDead)
		case isDead:
			s.gateway.Disconnect(s.name(i))
		default:
			s.gateway.Connect(s.name(i), s.agent(i))
		}
	}
}

// hold makes a data plane silent, or makes it answer again.
func (s *soak) hold(i int, silent bool) {
	if s.held[i] == silent {
		return
	}
	s.held[i] = silent
	if silent {
		s.relays[i].hold.Lock()
	} else {
		s.relays[i].hold.Unlock()
	}
}

func (s *soak) killServer(round int) {
	server := s.servers[round%len(s.servers)].APIServer
	assert.NoError(s.t, server.Kill())
	assert.NoError(s.t, server.Start(s.t.Context()))
}

func (s *soak) changeObject(ctx context.Context, round int) {
	for _, server := range s.servers {
		configMaps := server.kubernetes.CoreV1().ConfigMaps(s.namespace)
		name := fmt.Sprint("object-", round%20)
		if round%3 == 0 { // errors are ignored: a server may be down, and the next round changes another object
			_ = configMaps.Delete(ctx, name, metav1.DeleteOptions{})
			_, _ = configMaps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			continue
		}
		_, _ = configMaps.Patch(ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"data":{"round":"%d"}}`, round), metav1.PatchOptions{})
	}
}
