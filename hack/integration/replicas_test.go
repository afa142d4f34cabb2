// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

const (
	processShards, processPlanes = 8, 24
	processLease                 = 4 * time.Second
	// recovery is how long after a fault everything must run again: two lease durations, and more for a
	// busy machine.
	recovery = 2*processLease + 5*time.Second
)

// Replicas share data planes while they are killed, suspended and cut off, and the API server
// and etcd that hold the Leases end and start again.
func TestShardingUnderFaults(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	s, h := ownPlane(t, crds.DataPlane()).space(t), &history{}
	planes := s.createPlanes(t, processPlanes)
	await := func(fault string, replicas ...string) {
		t.Helper()
		began := time.Now()
		h.await(t, recovery, processShards, planes, replicas...)
		t.Logf("%s: %.1f lease durations", fault, time.Since(began).Seconds()/processLease.Seconds())
	}
	a, b, c := s.startProcess(t, h, "a"), s.startProcess(t, h, "b"), s.startProcess(t, h, "c")
	await("three begin", "a", "b", "c")

	a.kill()
	await("one is killed", "b", "c")
	d, e := s.startProcess(t, h, "d"), s.startProcess(t, h, "e")
	await("two join, a fourth among them", "b", "c", "d", "e")

	resume := b.suspend()
	await("one is suspended until the others have its shards", "c", "d", "e")
	resume()
	await("it is resumed", "b", "c", "d", "e")

	c.relay.hold.Lock()
	await("one is cut off", "b", "d", "e")
	c.relay.hold.Unlock()
	await("its connections continue", "b", "c", "d", "e")

	require.NoError(t, s.Etcd.Kill())
	d.kill()
	require.NoError(t, s.Etcd.Start(t.Context()))
	await("etcd and one replica are killed", "b", "c", "e")

	require.NoError(t, s.APIServer.Kill())
	resume = e.suspend()
	require.NoError(t, s.APIServer.Start(t.Context()))
	resume()
	await("the API server is killed and a replica suspended", "b", "c", "e")

	require.EventuallyWithT(t, func(collect *assert.CollectT) {
		list, err := s.leases().List(t.Context(), metav1.ListOptions{})
		require.NoError(collect, err)
		for i := range list.Items {
			require.False(collect, strings.HasPrefix(*list.Items[i].Spec.HolderIdentity, "a_"), "%s is held by the killed replica", list.Items[i].Name)
		}
	}, eventually, tick, "the Lease of a replica that has been gone for ten lease durations is removed")

	b.end()
	await("one ends in order", "c", "e")
	c.end()
	e.end()
	h.requireExclusive(t)
	s.requireReleased(t, "d")
}

// replicaEnv makes this test binary run as a replica.
const replicaEnv = "FLEET_REPLICA"

// replicaConfig is the input of a replica on stdin. The replica writes events to stdout, and shuts down
// when stdin is closed.
type replicaConfig struct {
	Identity, Namespace string
	User                *controlplane.User
}

func replicaMain() int {
	if err := runReplica(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

func runReplica() error {
	var config replicaConfig
	if err := json.NewDecoder(os.Stdin).Decode(&config); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	openchoreo, err := openchoreoclient.NewForConfig(config.User.Config())
	if err != nil {
		return err
	}
	leases, err := kubernetes.NewForConfig(config.User.Config())
	if err != nil {
		return err
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(openchoreo, 0, openchoreoinformers.WithNamespace(config.Namespace))
	informer := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	var writing sync.Mutex
	out := json.NewEncoder(os.Stdout)
	return newReplica(informer, fleet.Sharding{
		Leases: leases.CoordinationV1(), Namespace: config.Namespace, Identity: config.Identity,
		Shards: processShards, LeaseDuration: processLease,
	}, func(e event) {
		writing.Lock()
		defer writing.Unlock()
		_ = out.Encode(e) // fails when nobody reads
	}).Run(ctx)
}

// process is a replica in a separate process.
type process struct {
	t        *testing.T
	identity string
	history  *history
	relay    *relay // its connection to the API server
	cmd      *exec.Cmd
	stdin    io.Closer
	stderr   bytes.Buffer
	read     chan struct{} // closed when its last event was read
}

func (s *space) startProcess(t *testing.T, h *history, identity string) *process {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	user := addUser(t, s.plane, identity, "system:masters")
	p := &process{
		t: t, identity: identity, history: h, relay: newRelay(t, strings.TrimPrefix(user.Server, "https://")),
		cmd: exec.Command(path), read: make(chan struct{}),
	}
	user.Server = "https://" + p.relay.Addr().String()
	p.cmd.Env = append(os.Environ(), replicaEnv+"=true")
	p.cmd.Stderr = &p.stderr
	// If the test is killed, the process group is orphaned, and the kernel ends even a stopped process.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.read)
		for events := json.NewDecoder(stdout); ; {
			var e event
			if events.Decode(&e) != nil {
				return
			}
			h.record(e)
		}
	}()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.kill()
		}
		assert.NotContains(t, p.stderr.String(), "DATA RACE")
		if t.Failed() {
			t.Logf("%s: %s", identity, p.stderr.String())
		}
	})
	require.NoError(t, json.NewEncoder(stdin).Encode(replicaConfig{identity, s.namespace, user}))
	return p
}

// end shuts the process down.
func (p *process) end() {
	p.t.Helper()
	require.NoError(p.t, p.stdin.Close())
	select {
	case <-p.read:
		require.NoError(p.t, p.cmd.Wait())
	case <-time.After(eventually):
		require.Fail(p.t, "the process does not end", p.identity)
	}
}

func (p *process) kill() {
	p.t.Helper()
	assert.NoError(p.t, p.cmd.Process.Kill())
	<-p.read
	_ = p.cmd.Wait() // returns the error of the kill
	p.history.kill(p.identity)
}

// suspend stops the process until resume is called.
func (p *process) suspend() (resume func()) {
	p.t.Helper()
	w := &span{replica: p.identity, from: time.Now()}
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGSTOP))
	return func() {
		p.t.Helper()
		require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGCONT))
		w.to = time.Now()
		p.history.suspended = append(p.history.suspended, w)
	}
}

// relay listens for connections, and forwards them to an address.
type relay struct {
	net.Listener
	hold sync.RWMutex // while it is locked, nothing gets through, and no connection ends
}

func newRelay(t *testing.T, address string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{Listener: listener}
	t.Cleanup(func() { _ = r.Close() })
	go func() {
		for {
			near, err := r.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				_ = near.Close()
				continue
			}
			go r.carry(near, far)
			go r.carry(far, near)
		}
	}()
	return r
}

func (r *relay) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		r.hold.RLock()
		if err == nil {
			_, err = to.Write(buffer[:n])
		}
		r.hold.RUnlock()
		if err != nil {
			return
		}
	}
}
