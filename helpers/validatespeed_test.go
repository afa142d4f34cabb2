// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// faulty returns texts with which one writer could keep a webhook busy.
func faulty() map[string][]byte {
	return map[string][]byte{
		"BEGIN alone":                    []byte("-----BEGIN CERTIFICATE-----\n"),
		"BEGIN alone, on one line":       []byte("-----BEGIN CERTIFICATE-----"),
		"a certificate that is none":     pki.Block("CERTIFICATE", []byte("junk")),
		"a certificate that is expired":  pki.Certificates(pki.New().Issue("alice", pki.ECDSAKey(), pki.Expired)),
		"a certificate with headers":     withHeader(pki.Block("CERTIFICATE", []byte("junk"))),
		"a key that is damaged":          corrupt(pki.PKCS8(pki.ECDSAKey())),
		"an END and a BEGIN on one line": []byte("-----END CERTIFICATE----------BEGIN CERTIFICATE-----\n"),
	}
}

// filled returns a DataPlane whose certificates and key are text, repeated up to a size.
func filled(text []byte, size int) *v1alpha1.DataPlane {
	value := pki.Encode(bytes.Repeat(text, size/len(text)))
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.CACert, creds.ClientCert, creds.ClientKey = value, value, value
	return dp
}

func TestValidateOfManyFaultsSaysFewThings(t *testing.T) {
	for name, text := range faulty() {
		t.Run(name, func(t *testing.T) {
			warnings, errs := helpers.Validate(filled(text, 48<<10))
			assert.LessOrEqual(t, len(warnings), 10)
			assert.LessOrEqual(t, len(errs), 4)
		})
	}
	warnings, _ := helpers.Validate(filled([]byte("-----BEGIN CERTIFICATE-----\n"), 48<<10))
	assert.Contains(t, warnings, fieldCA+": 1752 more certificates have such a fault")
	assert.Contains(t, warnings, fieldCert+": 1752 more certificates have such a fault")
}

// Counts allocations, which don't depend on the speed of the machine.
func TestValidateDoesTwiceTheWorkForInputTwiceAsLong(t *testing.T) {
	allocations := func(dp *v1alpha1.DataPlane) float64 {
		return testing.AllocsPerRun(1, func() { helpers.Validate(dp) })
	}
	for name, text := range faulty() {
		t.Run(name, func(t *testing.T) {
			one, two := allocations(filled(text, 16<<10)), allocations(filled(text, 32<<10))
			assert.Less(t, two, 2.5*one)
		})
	}
}

// BenchmarkValidate shows that the time is proportional to the input.
func BenchmarkValidate(b *testing.B) {
	for name, text := range faulty() {
		for _, size := range []int{96 << 10, 192 << 10, 384 << 10} {
			dp := filled(text, size)
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				for b.Loop() {
					helpers.Validate(dp)
				}
			})
		}
	}
}
