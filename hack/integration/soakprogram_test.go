// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// soakEnv makes this test binary the program of a soak: a Fleet in a separate process, so that the
// heap, goroutines and sockets are the SDK's.
const soakEnv = "FLEET_SOAK"

// soakPlanes is the prefix of the names of a soak's data planes.
const soakPlanes = "soak-plane-"

// soakConfig is the first line that the program reads. The program answers each further line, which
// is empty or "objects", with a soakReport, and shuts down when its input is closed.
type soakConfig struct {
	DataPlanes, ClusterDataPlanes               *controlplane.User
	Gateway, GatewayCA, GatewayCert, GatewayKey string        // a URL, and files
	Namespace                                   string        // of the ConfigMaps that its informers watch
	Pause                                       time.Duration // between two requests to a data plane
}

type soakReport struct {
	Heap                uint64
	Goroutines, Sockets int
	Planes              map[string]soakPlane
	Failures            map[remote.Reachability]int
}

func (r soakReport) String() string {
	states := map[fleet.State]int{}
	for _, plane := range r.Planes {
		states[plane.State]++
	}
	return fmt.Sprintf("heap %.1f MB, %d goroutines, %d sockets, %v", float64(r.Heap)/1e6, r.Goroutines, r.Sockets, states)
}

// soakPlane is a data plane, as the program sees it.
type soakPlane struct {
	State     fleet.State
	LastError string
	Succeeded int               // requests that succeeded
	Outdated  int               // requests with older credentials than the Cluster had when they began
	Objects   map[string]string // the resource versions of ConfigMaps; only if asked for
}

type soakProgram struct {
	config soakConfig
	fleet  *fleet.Fleet

	mu        sync.Mutex
	planes    map[string]soakPlane
	failures  map[remote.Reachability]int
	informers map[string]cache.SharedIndexInformer
}

func soakMain() int {
	if err := runSoak(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

func runSoak() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	p := &soakProgram{planes: map[string]soakPlane{}, failures: map[remote.Reachability]int{}, informers: map[string]cache.SharedIndexInformer{}}
	if !lines.Scan() {
		return errors.Join(lines.Err(), errors.New("no configuration on stdin"))
	}
	if err := json.Unmarshal(lines.Bytes(), &p.config); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dataPlanes, err := openchoreoclient.NewForConfig(p.config.DataPlanes.Config())
	if err != nil {
		return err
	}
	clusterDataPlanes, err := openchoreoclient.NewForConfig(p.config.ClusterDataPlanes.Config())
	if err != nil {
		return err
	}
	gateway := &rest.Config{Host: p.config.Gateway, TLSClientConfig: rest.TLSClientConfig{
		CAFile: p.config.GatewayCA, CertFile: p.config.GatewayCert, KeyFile: p.config.GatewayKey,
	}}
	one := openchoreoinformers.NewSharedInformerFactory(dataPlanes, 0)
	two := openchoreoinformers.NewSharedInformerFactory(clusterDataPlanes, 0)
	p.fleet = fleet.New(p.run, fleet.Options{
		Remote:  remote.Options{ConfigFor: helpers.ConfigFor(gateway)},
		Filter:  func(dp *openchoreov1alpha1.DataPlane, _ bool) bool { return strings.HasPrefix(dp.Name, soakPlanes) },
		Backoff: fleet.Backoff{Limit: 10 * time.Second},
	}, one.OpenChoreo().V1alpha1().DataPlanes().Informer(), two.OpenChoreo().V1alpha1().ClusterDataPlanes().Informer())
	one.StartWithContext(ctx)
	two.StartWithContext(ctx)
	defer one.Shutdown()
	defer two.Shutdown()
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.fleet.Run(ctx) }()
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		if err := out.Encode(p.report(lines.Text() == "objects")); err != nil {
			return err
		}
	}
	stop()
	return <-ended
}

// run watches the ConfigMaps of a data plane, and sends requests with pauses.
func (p *soakProgram) run(ctx context.Context, cluster *remote.Cluster) error {
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(p.config.Namespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	key := cluster.Key().Name
	p.mu.Lock()
	p.informers[key] = informer
	p.mu.Unlock()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return ctx.Err()
	}
	fleet.MarkStarted(ctx)
	return wait.PollUntilContextCancel(ctx, wait.Jitter(p.config.Pause, 0.1), false, func(ctx context.Context) (bool, error) {
		newest := soakGeneration(cluster.Config())
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		p.mu.Lock()
		defer p.mu.Unlock()
		plane := p.planes[key]
		switch {
		case err != nil:
			p.failures[remote.Classify(err)]++
		case generationOf(review.Status.UserInfo.Username) < newest:
			plane.Outdated++
		default:
			plane.Succeeded++
		}
		p.planes[key] = plane
		return false, nil
	})
}

func (p *soakProgram) report(objects bool) soakReport {
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	r := soakReport{Heap: memory.HeapAlloc, Goroutines: runtime.NumGoroutine(), Sockets: openSockets(), Planes: map[string]soakPlane{}, Failures: map[remote.Reachability]int{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	for reachability, n := range p.failures {
		r.Failures[reachability] = n
	}
	for _, status := range p.fleet.Status().Planes {
		if status.State == fleet.StateNotSelected {
			continue
		}
		plane := p.planes[status.Name]
		plane.State, plane.LastError = status.State, status.LastError
		if informer := p.informers[status.Name]; objects && informer != nil {
			plane.Objects = map[string]string{}
			for _, object := range informer.GetStore().List() {
				configMap := object.(*corev1.ConfigMap)
				plane.Objects[configMap.Name] = configMap.ResourceVersion
			}
		}
		r.Planes[status.Name] = plane
	}
	return r
}

// soakUser returns the user name for a generation of a data plane's credentials.
func soakUser(generation int) string { return fmt.Sprintf("soak-%d", generation) }

// generationOf returns the generation of a user, or -1 if it has none, such as an agent.
func generationOf(user string) int {
	var generation int
	if _, err := fmt.Sscanf(user, "soak-%d", &generation); err != nil {
		return -1
	}
	return generation
}

// soakGeneration returns the generation of a config's credentials.
func soakGeneration(config *rest.Config) int {
	pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		return -1
	}
	certificate, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return -1
	}
	return generationOf(certificate.Subject.CommonName)
}

// openSockets returns how many sockets this process has, by /proc.
func openSockets() (n int) {
	files, _ := os.ReadDir("/proc/self/fd")
	for _, file := range files {
		if target, _ := os.Readlink("/proc/self/fd/" + file.Name()); strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}
