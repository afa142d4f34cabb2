// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

const (
	manifest     = "../../apis/openchoreo/v1alpha1/testdata/dataplane.yaml"
	manifestName = "production-dataplane"
)

func (p *plane) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	stdout, _, err := p.Kubectl(t.Context(), args...)
	require.NoError(t, err)
	return stdout
}

// applyManifest applies the manifest of OpenChoreo's documentation, and deletes the object when the
// test ends.
func applyManifest(t *testing.T) *space {
	t.Helper()
	s := shared.in(metav1.NamespaceDefault) // the manifest's namespace
	stdout, stderr, err := s.Kubectl(t.Context(), "apply", "--filename", manifest)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		assert.NoError(t, s.typed.Delete(ctx, manifestName, metav1.DeleteOptions{}))
	})
	assert.Equal(t, "dataplane.openchoreo.dev/production-dataplane created\n", stdout)
	assert.Empty(t, stderr, "no warnings")
	return s
}

func TestKubectlApplyStoresTheManifest(t *testing.T) {
	s := applyManifest(t)
	source, err := os.ReadFile(manifest)
	require.NoError(t, err)
	assert.Equal(t, parse(t, source).Object["spec"], s.stored(t, manifestName)["spec"])
	assert.Equal(t, "dataplane.openchoreo.dev/production-dataplane unchanged\n", s.kubectl(t, "apply", "--filename", manifest))
}

func TestKubectlGetShowsTheStateAndNoSecret(t *testing.T) {
	s := applyManifest(t)
	s.setStatus(t, manifestName, func(status *openchoreov1alpha1.DataPlaneStatus) {
		status.Conditions = []metav1.Condition{
			behaviours.NewCondition(openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue),
			behaviours.NewCondition(openchoreov1alpha1.DataPlaneConditionConnected, metav1.ConditionFalse),
			behaviours.NewCondition(openchoreov1alpha1.DataPlaneConditionGatewayProvisioned, metav1.ConditionUnknown),
			behaviours.NewCondition(openchoreov1alpha1.DataPlaneConditionCreated, metav1.ConditionTrue),
		}
	})
	for _, test := range []struct {
		args    []string
		columns []string
		values  []string // without the last, the age
	}{
		{
			args:    []string{"get", "dp"},
			columns: []string{"NAME", "CLUSTER", "READY", "CONNECTED", "CREATED", "AGE"},
			values:  []string{manifestName, "production-cluster", "True", "False", "True"},
		},
		{
			args:    []string{"get", "dps", "--output", "wide"},
			columns: []string{"NAME", "CLUSTER", "READY", "CONNECTED", "CREATED", "GATEWAY", "AGE"},
			values:  []string{manifestName, "production-cluster", "True", "False", "True", "Unknown"},
		},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			output := s.kubectl(t, append(test.args, "--namespace", s.namespace)...)
			lines := strings.Split(strings.TrimSpace(output), "\n")
			require.Len(t, lines, 2, output)
			assert.Equal(t, test.columns, strings.Fields(lines[0]))
			values := strings.Fields(lines[1])
			require.Len(t, values, len(test.columns))
			assert.Equal(t, test.values, values[:len(values)-1])
			assert.Regexp(t, `^(\d+[smh])+$`, values[len(values)-1])
			for _, secret := range []string{"LS0tLS1CRUdJTi", "secretpassword", "admin"} {
				assert.NotContains(t, output, secret)
			}
		})
	}
}

func TestKubectlExplainsCredentials(t *testing.T) {
	const path = "dataplane.spec.kubernetesCluster.credentials"
	// The API server publishes the schema a little later than it serves the resource.
	var output string
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		stdout, _, err := shared.Kubectl(t.Context(), "explain", path)
		require.NoError(c, err)
		output = stdout
	}, eventually, tick)

	versions := parse(t, crds.DataPlane()).Object["spec"].(map[string]any)["versions"].([]any)
	credentials := at(versions[0], "schema", "openAPIV3Schema", "properties", "spec",
		"properties", "kubernetesCluster", "properties", "credentials")
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	assert.Contains(t, words(output), words(credentials["description"].(string)))
	for _, field := range []string{"apiServerURL", "caCert", "clientCert", "clientKey"} {
		description := words(at(credentials, "properties", field)["description"].(string))
		assert.Contains(t, words(output), field+" <string> -required- "+description)
	}
	assert.Contains(t, shared.kubectl(t, "explain", path+".clientKey"), "SECRET")
}

// agreement is a state of a DataPlane's Ready condition, with the expected results of helpers and
// of kubectl wait.
type agreement struct {
	name               string
	conditions         []metav1.Condition
	observedGeneration int64 // of the status; the object is at generation 2
	deleting           bool
	ready              bool // helpers report Ready
	waited             bool // kubectl wait succeeds
}

func TestHelpersReportReadyOnlyWhenKubectlWaitSucceeds(t *testing.T) {
	t.Parallel()
	ready := func(status metav1.ConditionStatus, observedGeneration int64) []metav1.Condition {
		condition := behaviours.NewCondition(openchoreov1alpha1.DataPlaneConditionReady, status)
		condition.ObservedGeneration = observedGeneration
		return []metav1.Condition{condition}
	}
	testAgreement(t, shared.space(t), []agreement{
		{name: "no condition"},
		{name: "another condition", conditions: []metav1.Condition{behaviours.NewCondition("Connected", metav1.ConditionTrue)}},
		{name: "true", conditions: ready(metav1.ConditionTrue, 0), ready: true, waited: true},
		{name: "true of this generation", conditions: ready(metav1.ConditionTrue, 2), ready: true, waited: true},
		{name: "true in a status of this generation", conditions: ready(metav1.ConditionTrue, 0), observedGeneration: 2, ready: true, waited: true},
		{name: "true of an earlier generation", conditions: ready(metav1.ConditionTrue, 1)},
		{name: "true in a status of an earlier generation", conditions: ready(metav1.ConditionTrue, 0), observedGeneration: 1},
		{name: "true of this generation in a status of an earlier one", conditions: ready(metav1.ConditionTrue, 2), observedGeneration: 1, waited: true},
		{name: "true of an earlier generation in a status of this one", conditions: ready(metav1.ConditionTrue, 1), observedGeneration: 2},
		{name: "true of a later generation", conditions: ready(metav1.ConditionTrue, 3), waited: true},
		{name: "true while being deleted", conditions: ready(metav1.ConditionTrue, 2), deleting: true, waited: true},
		{name: "false", conditions: ready(metav1.ConditionFalse, 2)},
		{name: "unknown", conditions: ready(metav1.ConditionUnknown, 2)},
	})
}

func testAgreementOnDuplicates(t *testing.T, s *space) {
	list := func(observed ...int64) []metav1.Condition { // negative is False
		var conditions []metav1.Condition
		for _, generation := range observed {
			condition := behaviours.NewCondition(openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue)
			if generation < 0 {
				generation, condition.Status = -generation, metav1.ConditionFalse
			}
			condition.ObservedGeneration = generation
			conditions = append(conditions, condition)
		}
		return conditions
	}
	testAgreement(t, s, []agreement{
		{name: "true twice", conditions: list(2, 2), ready: true, waited: true},
		{name: "true, then false", conditions: list(2, -2), waited: true},
		{name: "false, then true", conditions: list(-2, 2)},
		{name: "true, then an earlier false", conditions: list(2, -1), waited: true},
		{name: "an earlier false, then true", conditions: list(-1, 2)},
		{name: "an earlier true, then true", conditions: list(1, 2)},
		{name: "an earlier true, then false", conditions: list(1, -2)},
	})
}

func testAgreement(t *testing.T, s *space, agreements []agreement) {
	for i, test := range agreements {
		t.Run(test.name, func(t *testing.T) {
			name := "dp-" + string(rune('a'+i))
			dp := behaviours.NewDataPlane(name)
			dp.Finalizers = []string{"openchoreo.dev/dataplane-cleanup"}
			dp = s.create(t, dp)
			dp.Spec.Registry.Prefix = "docker.io/other"
			dp, err := s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
			require.NoError(t, err)
			require.EqualValues(t, 2, dp.Generation)
			if test.deleting {
				require.NoError(t, s.typed.Delete(t.Context(), name, metav1.DeleteOptions{}))
				// A deletion increments the generation.
				require.EqualValues(t, 3, s.get(t, name).Generation)
				test.conditions[0].ObservedGeneration++
			}
			dp = s.setStatus(t, name, func(status *openchoreov1alpha1.DataPlaneStatus) {
				status.Conditions, status.ObservedGeneration = test.conditions, test.observedGeneration
			})

			// With 0, kubectl reads the object once.
			_, _, err = s.Kubectl(t.Context(), "wait", "--for=condition=Ready", "--timeout=0", "--namespace", s.namespace, "dataplane/"+name)
			if err != nil {
				require.ErrorContains(t, err, "condition not met")
			}
			assert.Equal(t, test.waited, err == nil, "kubectl wait: %v", err)
			assert.Equal(t, test.ready, helpers.IsReady(dp))
			if helpers.IsReady(dp) {
				assert.NoError(t, err, "helpers say True and kubectl wait fails")
			}
		})
	}
}

// For any conditions and generations, and with or without a deletion, no verdict is True unless kubectl
// wait succeeds.
func testNoVerdictIsTrueUnlessKubectlWaits(t *testing.T, s *space) {
	const states = 300
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	trues := map[string][]string{} // the names, by the type of the condition
	for i := range states {
		name := fmt.Sprint("dp-", i)
		dp := behaviours.NewDataPlane(name)
		dp.Finalizers = []string{"openchoreo.dev/dataplane-cleanup"}
		s.create(t, dp)
		if random.IntN(10) == 0 {
			require.NoError(t, s.typed.Delete(t.Context(), name, metav1.DeleteOptions{}))
		}
		dp = s.setStatus(t, name, func(status *openchoreov1alpha1.DataPlaneStatus) {
			status.ObservedGeneration = random.Int64N(3)
			for range random.IntN(5) {
				condition := behaviours.NewCondition(pick("Ready", "Ready", "Connected", "GatewayProvisioned", "Created"),
					metav1.ConditionStatus(pick("True", "True", "True", "False", "Unknown")))
				condition.ObservedGeneration = random.Int64N(3)
				status.Conditions = append(status.Conditions, condition)
			}
		})
		for _, verdict := range helpers.Evaluate(dp).Verdicts()[:3] {
			if verdict.Status == metav1.ConditionTrue {
				trues[verdict.Type] = append(trues[verdict.Type], "dataplane/"+name)
			}
		}
	}
	require.Len(t, trues, 3)
	for conditionType, names := range trues {
		require.Greater(t, len(names), states/30, "too few to be significant")
		_, _, err := s.Kubectl(t.Context(), append([]string{
			"wait", "--for=condition=" + conditionType, "--timeout=0", "--namespace", s.namespace,
		}, names...)...)
		assert.NoError(t, err)
	}
}
