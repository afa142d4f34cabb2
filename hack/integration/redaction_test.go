// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"k8s.io/klog/v2/textlogger"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// The test is here because the SDK doesn't require the common loggers. It needs no API server.
func TestLoggersShowNoSecret(t *testing.T) {
	dp := behaviours.NewDataPlane("prod")
	dp.Spec.KubernetesCluster.Credentials.ClientKey = "hunter2"
	dp.Spec.Observer = &openchoreov1alpha1.ObserverAPI{}
	dp.Spec.Observer.Authentication.BasicAuth.Password = "hunter2"
	creds := dp.Spec.KubernetesCluster.Credentials
	list := openchoreov1alpha1.DataPlaneList{Items: []openchoreov1alpha1.DataPlane{*dp}}

	var out bytes.Buffer
	for name, logger := range map[string]logr.Logger{
		"klog":       textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&out))),
		"logr":       funcr.New(func(prefix, args string) { fmt.Fprintln(&out, prefix, args) }, funcr.Options{}),
		"logr, JSON": funcr.NewJSON(func(object string) { fmt.Fprintln(&out, object) }, funcr.Options{}),
	} {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			for _, value := range []any{dp, *dp, &list, list} {
				logger.Info("changed", "value", value)
			}
			assert.Contains(t, out.String(), dp.Name)
			assert.NotContains(t, out.String(), creds.CACert, "certificates would fill the log")
			for _, value := range []any{dp, *dp, dp.Spec, &dp.Spec, creds, &creds, dp.Spec.Observer, list} {
				logger.Info("changed", "value", value)
				logger.WithValues("value", value).Error(fmt.Errorf("failed with %v", value), "failed")
			}
			assert.Contains(t, out.String(), "REDACTED")
			assert.NotContains(t, out.String(), "hunter2")
		})
	}
}
