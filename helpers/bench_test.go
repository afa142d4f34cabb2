// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Each benchmark comes with what it is to be compared with, so that a figure is the
// ratio of two in one run:
//
//	go test ./helpers -run '^$' -bench . -benchmem -count 6

// BenchmarkRESTConfigFor against decoding and parsing the same material.
func BenchmarkRESTConfigFor(b *testing.B) {
	dp := newDataPlane(b)
	b.Run("floor", func(b *testing.B) {
		creds := dp.Spec.KubernetesCluster.Credentials
		for b.Loop() {
			ca, err := base64.StdEncoding.DecodeString(creds.CACert)
			require.NoError(b, err)
			cert, err := base64.StdEncoding.DecodeString(creds.ClientCert)
			require.NoError(b, err)
			key, err := base64.StdEncoding.DecodeString(creds.ClientKey)
			require.NoError(b, err)
			block, _ := pem.Decode(ca)
			_, err = x509.ParseCertificate(block.Bytes)
			require.NoError(b, err)
			_, err = tls.X509KeyPair(cert, key)
			require.NoError(b, err)
		}
	})
	b.Run("sdk", func(b *testing.B) {
		for b.Loop() {
			_, err := RESTConfigFor(dp)
			require.NoError(b, err)
		}
	})
}

// BenchmarkClientCacheGet of an unchanged data plane, one of a thousand, with realistic
// credentials, against a lookup of the same key in a map with a lock. Objects from an informer
// have the strings of the cache's own; decoded marks objects that were decoded anew, whose
// strings have to be read.
func BenchmarkClientCacheGet(b *testing.B) {
	c := newRemoteCache(b)
	var mu sync.RWMutex
	bare := map[types.NamespacedName]*Remote{}
	template := newDataPlane(b)
	creds := &template.Spec.KubernetesCluster.Credentials
	for _, value := range []*string{&creds.CACert, &creds.ClientCert, &creds.ClientKey} {
		// As long as with RSA keys.
		*value = encode(append(decode(*value), []byte(longText(2000-len(decode(*value))))...))
	}
	planes := make([]*v1alpha1.DataPlane, 1000)
	decoded := make([]*v1alpha1.DataPlane, len(planes))
	for i := range planes {
		planes[i] = template.DeepCopy()
		planes[i].Name = fmt.Sprint("dp-", i)
		decoded[i] = planes[i].DeepCopy()
		creds := &decoded[i].Spec.KubernetesCluster.Credentials
		for _, value := range []*string{&creds.APIServerURL, &creds.CACert, &creds.ClientCert, &creds.ClientKey} {
			*value = string([]byte(*value))
		}
		bare[keyOf(planes[i])] = mustGet(b, c, planes[i])
	}
	get := func(planes []*v1alpha1.DataPlane) func(int) bool {
		return func(i int) bool {
			r, err := c.Get(planes[i%len(planes)])
			return err == nil && r != nil
		}
	}
	lookUp := func(i int) bool {
		mu.RLock()
		defer mu.RUnlock()
		return bare[keyOf(planes[i%len(planes)])] != nil
	}
	for _, bench := range []struct {
		name string
		do   func(int) bool
	}{{"floor", lookUp}, {"sdk", get(planes)}, {"sdk-decoded", get(decoded)}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if !bench.do(i) {
					b.Fatal()
				}
				i++
			}
		})
		b.Run(bench.name+"-8-callers", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism((8 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if !bench.do(i) {
						b.Fail()
					}
				}
			})
		})
	}
}

// BenchmarkThousandRemotes makes a thousand and closes them, and reports what one takes.
func BenchmarkThousandRemotes(b *testing.B) {
	const count = 1000
	dp := newDataPlane(b)
	remotes := make([]*Remote, count)
	var bytes float64
	var goroutines int
	for b.Loop() {
		b.StopTimer()
		before, running := heapInUse(), runtime.NumGoroutine()
		b.StartTimer()
		for i := range remotes {
			var err error
			remotes[i], err = NewRemote(dp)
			require.NoError(b, err)
		}
		b.StopTimer()
		bytes = (heapInUse() - before) / count
		goroutines = max(goroutines, runtime.NumGoroutine()-running)
		for _, r := range remotes {
			r.Close()
		}
		clear(remotes)
		goroutines = max(goroutines, runtime.NumGoroutine()-running)
		b.StartTimer()
	}
	b.ReportMetric(bytes, "heap-bytes/remote")
	b.ReportMetric(float64(goroutines), "goroutines")
}

// heapInUse is without what is in pools, which the second collection frees.
func heapInUse() float64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// BenchmarkConditions of the three types that the API defines, against finding them, and of
// eight types.
func BenchmarkConditions(b *testing.B) {
	eight := conditioned()
	three := eight.DeepCopy()
	three.Status.Conditions = slices.DeleteFunc(three.Status.Conditions, func(c metav1.Condition) bool {
		return !slices.Contains(definedConditions[:], c.Type)
	})
	findEach := func(dp *v1alpha1.DataPlane) bool {
		for _, conditionType := range definedConditions {
			c := meta.FindStatusCondition(dp.Status.Conditions, conditionType)
			if c == nil || c.Status != metav1.ConditionTrue {
				return false
			}
		}
		return true
	}
	evaluate := func(dp *v1alpha1.DataPlane) bool {
		report := Evaluate(dp)
		for _, conditionType := range definedConditions {
			if report.Verdict(conditionType).Status != metav1.ConditionTrue {
				return false
			}
		}
		return true
	}
	for _, bench := range []struct {
		name string
		read func(*v1alpha1.DataPlane) bool
	}{{"floor", findEach}, {"IsReady", IsReady}, {"IsOperational", IsOperational}, {"Evaluate", evaluate}} {
		for _, dp := range []*v1alpha1.DataPlane{three, eight} {
			b.Run(fmt.Sprintf("%s-of-%d", bench.name, len(dp.Status.Conditions)), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !bench.read(dp) {
						b.Fatal()
					}
				}
			})
		}
	}
}
