// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs real Kubernetes control planes on this machine: kube-apiserver and
// etcd as separate processes, and kubectl. It is for integration tests, runnable examples and
// benchmarks, never for clusters that somebody needs.
//
//	cp, err := controlplane.Start(ctx)
//	if err != nil {
//		return err
//	}
//	defer cp.Stop()
//	client, err := kubernetes.NewForConfig(cp.Config())
//
// The API server is real, with authentication, RBAC, admission, validation, server-side apply,
// watches and custom resources. There are no nodes, no scheduler and no controllers: Pods stay
// pending, and nothing is garbage collected.
//
// controller-runtime's envtest runs the same processes. In addition, a test with this package can
// cancel a start, can kill one process and start it again with its port, users and data, and leaves
// no process when it is killed. The package requires only an old client-go, so that a module that
// uses it can choose a version.
//
// It works on Linux and macOS. If a program is killed with SIGKILL, Linux ends the processes; on
// macOS, they continue. On both, a killed program leaves its temporary folder.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

// ControlPlane is an API server with its etcd. It listens on 127.0.0.1 only, and all its files are
// below one temporary folder. Start makes one; its owner must call Stop. Its methods can be called
// from several goroutines.
type ControlPlane struct {
	// Etcd and APIServer are the two processes, both running after Start.
	Etcd, APIServer *Member

	options  options
	binaries folder
	dir      string

	apiServerPort, etcdPort int
	authorities             *authorities
	admin                   *User
	probe                   *http.Client // as admin, for both processes

	mu sync.Mutex // held while a process is started or ended
}

// Option is an option of Start.
type Option func(*options)

type options struct {
	name     string
	progress io.Writer
	flags    []string
}

// WithName sets the control plane's name in errors, for programs that run several.
func WithName(name string) Option {
	return func(o *options) { o.name = name }
}

// WithProgress sets the writer for the progress of a build; see Binaries. The default is os.Stderr;
// nil shows no progress.
func WithProgress(w io.Writer) Option {
	return func(o *options) { o.progress = w }
}

// WithAPIServerFlags adds flags such as "--v=4" to the API server's. It can replace a flag too: of two
// values, the API server takes the last.
func WithAPIServerFlags(flags ...string) Option {
	return func(o *options) { o.flags = append(o.flags, flags...) }
}

const (
	// portAttempts is how often Start tries, with other ports after another program took one.
	portAttempts = 3
	pollInterval = 50 * time.Millisecond
	probeTimeout = 5 * time.Second
)

// Start starts a control plane, and first builds missing binaries; see Binaries. It returns when
// the API server is ready and has its system namespaces and RBAC roles. ctx limits the start only:
// once Start has returned, the control plane runs until Stop.
//
// If ctx ends early or a process fails, Start ends the processes, removes their files and returns
// an error with the last lines of the process's output. errors.Is finds ctx.Err() in the error if
// ctx has ended, and the errors of Binaries.
func Start(ctx context.Context, opts ...Option) (*ControlPlane, error) {
	o := options{name: "control plane", progress: os.Stderr}
	for _, opt := range opts {
		opt(&o)
	}
	binaries, err := findFolder(o.progress)
	if err != nil {
		return nil, err
	}
	if err := binaries.require(ctx, serverBinaries...); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		cp, err := start(ctx, o, binaries)
		if err == nil {
			return cp, nil
		}
		if attempt == portAttempts || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("start %s: %w", o.name, err)
		}
	}
}

func start(ctx context.Context, o options, binaries folder) (_ *ControlPlane, err error) {
	dir, err := os.MkdirTemp("", "controlplane-*")
	if err != nil {
		return nil, err
	}
	cp := &ControlPlane{options: o, binaries: binaries, dir: dir}
	cp.Etcd = &Member{cp: cp, name: "etcd", flags: cp.etcdFlags, ready: cp.etcdReady}
	cp.APIServer = &Member{cp: cp, name: "kube-apiserver", flags: cp.apiServerFlags, ready: cp.ready}
	defer func() {
		if err != nil {
			err = errors.Join(err, cp.Stop())
		}
	}()

	if cp.etcdPort, err = freePort(ctx); err != nil {
		return nil, err
	}
	if cp.apiServerPort, err = freePort(ctx); err != nil {
		return nil, err
	}
	if cp.authorities, err = newAuthorities(filepath.Join(dir, "pki")); err != nil {
		return nil, err
	}
	if cp.admin, err = cp.AddUser("admin", "system:masters"); err != nil {
		return nil, err
	}
	if cp.probe, err = cp.newProbe(); err != nil {
		return nil, err
	}
	kubeconfig, err := cp.Kubeconfig()
	if err == nil {
		err = os.WriteFile(cp.KubeconfigFile(), kubeconfig, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if err := cp.Etcd.Start(ctx); err != nil {
		return nil, err
	}
	if err := cp.APIServer.Start(ctx); err != nil {
		return nil, err
	}
	return cp, nil
}

// URL returns the API server's address, as in "https://127.0.0.1:23456". It never changes.
func (cp *ControlPlane) URL() string {
	return "https://" + hostPort(cp.apiServerPort)
}

// Config returns a new rest.Config of a user who may do anything. Unlike client-go's default, it has
// no rate limit.
func (cp *ControlPlane) Config() *rest.Config {
	return cp.admin.Config()
}

// Kubeconfig returns a new kubeconfig file of a user who may do anything. It holds that user's key.
func (cp *ControlPlane) Kubeconfig() ([]byte, error) {
	return cp.admin.Kubeconfig()
}

// newProbe returns a client that trusts this control plane's processes only: another program that
// took over a port fails the probe.
func (cp *ControlPlane) newProbe() (*http.Client, error) {
	tlsConfig, err := rest.TLSConfigFor(cp.Config())
	return &http.Client{
		Timeout: probeTimeout,
		// A restarted process needs a new connection.
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: tlsConfig},
	}, err
}

// get returns nil if url answers 200.
func (cp *ControlPlane) get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := cp.probe.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 2048))
		return fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return nil
}

// Ports are below the ranges that Linux and macOS use for outgoing connections. Otherwise, a client
// that keeps dialing a stopped API server could get the same port, connect to itself, and keep the
// API server from starting again.
const (
	firstPort = 20000
	lastPort  = 29999
)

// freePort returns a port of 127.0.0.1 on which nobody listens at the moment.
func freePort(ctx context.Context) (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		var listener net.Listener
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", hostPort(port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no free port: %w", err)
}

func hostPort(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
