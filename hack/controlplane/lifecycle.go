// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long processes may take to end by themselves before they're killed. Stop throws all data
// away, so there's little to wait for.
const (
	stopGrace    = 2 * time.Second
	restartGrace = 15 * time.Second
	startTimeout = 3 * time.Minute // seconds are enough, unless the machine is very busy
)

// Stop ends both processes, waits for them, and removes all files. It may be called more than once
// and from several goroutines: each call returns when the work is done, with the same error. A
// start or restart that goes on meanwhile is broken off.
func (cp *ControlPlane) Stop() error {
	cp.stopOnce.Do(func() {
		cp.end(ErrStopped)
		cp.mu.Lock()
		defer cp.mu.Unlock()
		// The API server first: without its etcd, it would only wait.
		cp.apiServer.stop(stopGrace)
		cp.etcd.stop(stopGrace)
		cp.stopErr = os.RemoveAll(cp.dir)
	})
	return cp.stopErr
}

// StartAPIServer starts the API server if it doesn't run, on the port, with the certificates and
// on the data that it had before, and waits until it's ready. Clients and users stay valid.
func (cp *ControlPlane) StartAPIServer(ctx context.Context) error {
	return cp.change(ctx, cp.startAPIServer)
}

// StopAPIServer ends the API server as a node that shuts down would, with SIGTERM, and waits for
// it. An API server that takes longer than 15 seconds is killed. It keeps etcd, hence all objects.
func (cp *ControlPlane) StopAPIServer() error {
	return cp.change(context.Background(), func(context.Context) error {
		cp.apiServer.stop(restartGrace)
		return nil
	})
}

// RestartAPIServer is StopAPIServer and StartAPIServer with nothing between them.
func (cp *ControlPlane) RestartAPIServer(ctx context.Context) error {
	return cp.change(ctx, func(ctx context.Context) error {
		cp.apiServer.stop(restartGrace)
		return cp.startAPIServer(ctx)
	})
}

// KillAPIServer ends the API server as a crash would, with SIGKILL, and waits for it.
func (cp *ControlPlane) KillAPIServer() error {
	return cp.change(context.Background(), func(context.Context) error {
		cp.apiServer.kill()
		return nil
	})
}

// StartEtcd starts etcd if it doesn't run, on its old port and data, and waits until it's healthy.
// The API server may need some seconds more to notice: see WaitReady.
func (cp *ControlPlane) StartEtcd(ctx context.Context) error {
	return cp.change(ctx, cp.startEtcd)
}

// StopEtcd ends etcd with SIGTERM and waits for it, for 15 seconds before it's killed. The API
// server goes on without its storage.
func (cp *ControlPlane) StopEtcd() error {
	return cp.change(context.Background(), func(context.Context) error {
		cp.etcd.stop(restartGrace)
		return nil
	})
}

// RestartEtcd is StopEtcd and StartEtcd with nothing between them.
func (cp *ControlPlane) RestartEtcd(ctx context.Context) error {
	return cp.change(ctx, func(ctx context.Context) error {
		cp.etcd.stop(restartGrace)
		return cp.startEtcd(ctx)
	})
}

// KillEtcd ends etcd with SIGKILL and waits for it. What it has acknowledged is not lost.
func (cp *ControlPlane) KillEtcd() error {
	return cp.change(context.Background(), func(context.Context) error {
		cp.etcd.kill()
		return nil
	})
}

// WaitReady waits until the API server says that it's ready, its storage included.
func (cp *ControlPlane) WaitReady(ctx context.Context) error {
	ctx, cancel := cp.bound(ctx)
	defer cancel()
	if err := poll(ctx, cp.ready); err != nil {
		return fmt.Errorf("wait for %s: %w", cp.options.name, err)
	}
	return nil
}

// change runs do while no other change is under way, and ends its context with Stop.
func (cp *ControlPlane) change(ctx context.Context, do func(context.Context) error) error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	ctx, cancel := cp.bound(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return do(ctx)
}

// bound returns a context that ends with ctx or with the control plane.
func (cp *ControlPlane) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if cp.life.Err() != nil { // AfterFunc would say so too late
		cancel(ErrStopped)
	}
	unregister := context.AfterFunc(cp.life, func() { cancel(ErrStopped) })
	return ctx, func() { unregister(); cancel(nil) }
}

func (cp *ControlPlane) startEtcd(ctx context.Context) error {
	if cp.etcd.running() {
		return nil
	}
	url := "https://" + hostPort(cp.etcdPort)
	var err error
	cp.etcd, err = cp.startProcess(ctx, "etcd", []string{
		"--data-dir=" + filepath.Join(cp.dir, "etcd"),
		"--listen-client-urls=" + url,
		"--advertise-client-urls=" + url,
		// It has no peers, but can't be told not to listen for them.
		"--listen-peer-urls=http://127.0.0.1:0",
		// No other user of this machine gets at the data, and no other etcd is taken for this one.
		"--client-cert-auth",
		"--trusted-ca-file=" + cp.pki.path(clientCAFile),
		"--cert-file=" + cp.pki.path(servingCertFile),
		"--key-file=" + cp.pki.path(servingKeyFile),
		// It would connect to etcd with the serving certificate, which isn't for clients.
		"--enable-grpc-gateway=false",
		// Data needs to survive this process, not this machine.
		"--unsafe-no-fsync",
	}, func(ctx context.Context) error {
		return cp.get(ctx, url+"/health")
	})
	return err
}

func (cp *ControlPlane) startAPIServer(ctx context.Context) error {
	if cp.apiServer.running() {
		return nil
	}
	var err error
	cp.apiServer, err = cp.startProcess(ctx, "kube-apiserver", append([]string{
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", cp.apiServerPort),
		"--cert-dir=" + cp.pki.dir,
		"--tls-cert-file=" + cp.pki.path(servingCertFile),
		"--tls-private-key-file=" + cp.pki.path(servingKeyFile),
		"--client-ca-file=" + cp.pki.path(clientCAFile),
		"--etcd-servers=https://" + hostPort(cp.etcdPort),
		"--etcd-cafile=" + cp.pki.path(servingCAFile),
		"--etcd-certfile=" + cp.pki.path(etcdClientCertFile),
		"--etcd-keyfile=" + cp.pki.path(etcdClientKeyFile),
		"--authorization-mode=RBAC",
		"--service-account-issuer=" + cp.URL(),
		"--service-account-key-file=" + cp.pki.path(accountPublicKeyFile),
		"--service-account-signing-key-file=" + cp.pki.path(accountKeyFile),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--allow-privileged",
		// No controller makes the default service account that this plugin asks Pods for.
		"--disable-admission-plugins=ServiceAccount",
		// The Service "kubernetes" can't have an endpoint on loopback, and a machine may have no
		// other address.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		// Without a limit, one open watch keeps the API server from ending.
		"--shutdown-watch-termination-grace-period=1s",
	}, cp.options.flags...), cp.ready)
	return err
}

// ready returns nil if the API server answers as it would in a cluster that has been up for long.
func (cp *ControlPlane) ready(ctx context.Context) error {
	if err := cp.get(ctx, cp.URL()+"/readyz"); err != nil {
		return err
	}
	// The API server makes this namespace in the background, and tests count on it.
	return cp.get(ctx, cp.URL()+"/api/v1/namespaces/default")
}

// poll calls check until it returns nil or ctx ends. The error then holds the last one of check.
func poll(ctx context.Context, check func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				return ended(ctx)
			}
			return fmt.Errorf("%w, after: %w", ended(ctx), last)
		case <-ticker.C:
		}
	}
}

// ended returns why ctx has ended. Unless this package ended it, errors.Is finds ctx.Err() in it,
// which the cause alone, such as the signal that signal.NotifyContext gives, need not hold.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) || errors.Is(cause, ErrStopped) || errors.Is(cause, errExited) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// startProcess runs one of the binaries until ready returns nil, or ends it again.
func (cp *ControlPlane) startProcess(ctx context.Context, name string, args []string, ready func(context.Context) error) (*process, error) {
	p := newProcess(filepath.Join(cp.binaries.path, name), args, cp.dir, cp.options)
	if err := p.start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout,
		fmt.Errorf("%s isn't ready after %s: %w", name, startTimeout, context.DeadlineExceeded))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() {
		select {
		case <-p.exited:
			fail(errExited)
		case <-ctx.Done():
		}
	}()
	err := poll(ctx, ready)
	if err == nil {
		return p, nil
	}
	p.kill()
	switch {
	case !errors.Is(err, errExited):
		err = fmt.Errorf("%s: %w", name, err)
	case p.tail.contains("address already in use"):
		err = fmt.Errorf("%s: %w", name, portTaken(p.err))
	default:
		err = fmt.Errorf("%s: %w: %w", name, errExited, p.err)
	}
	if output := p.tail.lines(maxLines); len(output) > 0 {
		err = fmt.Errorf("%w, last lines of output:\n\t%s", err, strings.Join(output, "\n\t"))
	}
	return nil, err
}
