// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	stopGrace    = 2 * time.Second  // until a process is killed by ControlPlane.Stop, which removes all data
	restartGrace = 15 * time.Second // until a process is killed by Member.Stop
	startTimeout = 3 * time.Minute  // long enough for a very busy machine
)

// Stop ends both processes, waits for them, and removes all files. It may be called more than once
// and from several goroutines. It waits until a start in another goroutine has ended.
func (cp *ControlPlane) Stop() error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	// The API server first, because it waits for a stopped etcd.
	return errors.Join(cp.APIServer.process.stop(stopGrace), cp.Etcd.process.stop(stopGrace), os.RemoveAll(cp.dir))
}

// Member is one of the two processes of a control plane. Each start has the same port, certificates
// and data, so clients and users stay valid.
type Member struct {
	cp      *ControlPlane
	name    string // the name of the binary
	flags   func() []string
	ready   func(context.Context) error
	process *process // nil, or one that may have ended; guarded by cp.mu
}

// Start starts the process if it doesn't run, and waits until it is ready. After a start of etcd, the
// API server may need some seconds to notice. After the control plane's Stop, Start returns an error.
func (m *Member) Start(ctx context.Context) error {
	m.cp.mu.Lock()
	defer m.cp.mu.Unlock()
	return m.start(ctx)
}

// Stop ends the process with SIGTERM, as a node's shutdown does, and waits for it. After 15 s, it kills
// the process.
func (m *Member) Stop() error {
	m.cp.mu.Lock()
	defer m.cp.mu.Unlock()
	return m.process.stop(restartGrace)
}

// Restart calls Stop and Start.
func (m *Member) Restart(ctx context.Context) error {
	if err := m.Stop(); err != nil {
		return err
	}
	return m.Start(ctx)
}

// Kill ends the process with SIGKILL, like a crash, and waits for it. etcd loses no acknowledged
// write.
func (m *Member) Kill() error {
	m.cp.mu.Lock()
	defer m.cp.mu.Unlock()
	return m.process.kill()
}

// Freeze stops the process by SIGSTOP: the kernel accepts its connections, and nothing answers on them.
// Only Thaw and Kill end that. Freeze returns when all threads have stopped, which takes a moment if
// the machine is busy, or after a second.
func (m *Member) Freeze() error {
	if err := m.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	m.cp.mu.Lock()
	pid := m.process.cmd.Process.Pid
	m.cp.mu.Unlock()
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(time.Millisecond) {
		stopped, err := syscall.Wait4(pid, nil, syscall.WUNTRACED|syscall.WNOHANG, nil)
		if stopped != 0 && !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
	return nil
}

// Thaw ends Freeze.
func (m *Member) Thaw() error { return m.signal(syscall.SIGCONT) }

func (m *Member) signal(sig syscall.Signal) error {
	m.cp.mu.Lock()
	defer m.cp.mu.Unlock()
	if !m.process.running() {
		return errors.New(m.name + " does not run")
	}
	return m.process.cmd.Process.Signal(sig)
}

func (cp *ControlPlane) etcdFlags() []string {
	url := "https://" + hostPort(cp.etcdPort)
	return []string{
		"--data-dir=" + filepath.Join(cp.dir, "etcd"),
		"--listen-client-urls=" + url,
		"--advertise-client-urls=" + url,
		// etcd has no peers here, but must listen for them.
		"--listen-peer-urls=http://127.0.0.1:0",
		// Other users of this machine have no access, and another etcd isn't taken for this one.
		"--client-cert-auth",
		"--trusted-ca-file=" + cp.authorities.path(clientCAFile),
		"--cert-file=" + cp.authorities.path(servingCertFile),
		"--key-file=" + cp.authorities.path(servingKeyFile),
		// The gateway would connect to etcd with the serving certificate, which isn't for clients.
		"--enable-grpc-gateway=false",
		// The data must survive the process, not the machine.
		"--unsafe-no-fsync",
	}
}

func (cp *ControlPlane) etcdReady(ctx context.Context) error {
	return cp.get(ctx, "https://"+hostPort(cp.etcdPort)+"/health")
}

func (cp *ControlPlane) apiServerFlags() []string {
	return append([]string{
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", cp.apiServerPort),
		"--cert-dir=" + cp.authorities.dir,
		"--tls-cert-file=" + cp.authorities.path(servingCertFile),
		"--tls-private-key-file=" + cp.authorities.path(servingKeyFile),
		"--client-ca-file=" + cp.authorities.path(clientCAFile),
		"--etcd-servers=https://" + hostPort(cp.etcdPort),
		"--etcd-cafile=" + cp.authorities.path(servingCAFile),
		"--etcd-certfile=" + cp.authorities.path(etcdClientCertFile),
		"--etcd-keyfile=" + cp.authorities.path(etcdClientKeyFile),
		"--authorization-mode=RBAC",
		"--service-account-issuer=" + cp.URL(),
		"--service-account-key-file=" + cp.authorities.path(accountPublicKeyFile),
		"--service-account-signing-key-file=" + cp.authorities.path(accountKeyFile),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--allow-privileged",
		// The plugin requires the default service account, which only a controller creates.
		"--disable-admission-plugins=ServiceAccount",
		// The Service "kubernetes" can't have an endpoint on loopback, and a machine may have no
		// other address.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		// Without a limit, one open watch keeps the API server from ending.
		"--shutdown-watch-termination-grace-period=1s",
	}, cp.options.flags...)
}

// ready returns nil if the API server is ready and has created the default namespace.
func (cp *ControlPlane) ready(ctx context.Context) error {
	if err := cp.get(ctx, cp.URL()+"/readyz"); err != nil {
		return err
	}
	// The API server creates this namespace in the background, and tests need it.
	return cp.get(ctx, cp.URL()+"/api/v1/namespaces/default")
}

// poll calls check until it returns nil or ctx ends. Its error then wraps the last error of check.
func poll(ctx context.Context, check func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		err := check(ctx)
		if ctx.Err() == nil {
			last = err
		}
		return err == nil, nil
	})
	switch {
	case err == nil:
		return nil
	case last == nil:
		return ended(ctx)
	}
	return fmt.Errorf("%w, after: %w", ended(ctx), last)
}

// ended returns the cause of ctx's end. errors.Is finds ctx.Err() in it, which isn't true of every
// cause, such as signal.NotifyContext's.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// start starts the process and waits until ready returns nil. On error, it ends the process.
func (m *Member) start(ctx context.Context) error {
	if m.process.running() {
		return nil
	}
	log := filepath.Join(m.cp.dir, m.name+".log")
	p, err := startProcess(filepath.Join(m.cp.binaries.path, m.name), m.flags(), m.cp.dir, log)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout,
		fmt.Errorf("not ready after %s: %w", startTimeout, context.DeadlineExceeded))
	defer cancel()
	err = poll(ctx, func(ctx context.Context) error {
		if p.running() {
			return m.ready(ctx)
		}
		return nil
	})
	if err == nil && p.running() {
		m.process = p
		return nil
	}
	err = errors.Join(err, p.kill())
	output, _ := os.ReadFile(log)
	switch {
	case err != nil:
	case bytes.Contains(output, []byte("address already in use")):
		err = fmt.Errorf("%w: %w", syscall.EADDRINUSE, p.err) // Start then tries other ports
	default:
		err = fmt.Errorf("ended before it was ready: %w", p.err)
	}
	return fmt.Errorf("%s: %w, last lines of output:\n\t%s", m.name, err, lastLines(string(output)))
}
