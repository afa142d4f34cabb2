// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package repository_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	testParts = regexp.MustCompile(`\./hack/test\.sh((?: [a-z]+)+)`)
	partNames = regexp.MustCompile(`(?m)^part_(\w+)\(\)`)
)

// The CI workflow names each part of hack/test.sh and each client-go version, to run them in parallel.
func TestCIRunsAllParts(t *testing.T) {
	inRoot(t)
	workflow := readFile(t, ".github/workflows/ci.yml")
	var ran []string
	for _, match := range testParts.FindAllStringSubmatch(workflow, -1) {
		ran = append(ran, strings.Fields(match[1])...)
	}
	assert.ElementsMatch(t, partsOfTheTests(t), append(ran, "compat"))

	supported := regexp.MustCompile(`(?m)^supported=\(.+\)$`).FindString(readFile(t, "hack/verify-compat.sh"))
	var minors, compared []string
	for _, match := range regexp.MustCompile(`v(0\.\d+)\.`).FindAllStringSubmatch(supported, -1) {
		minors = append(minors, match[1])
	}
	for _, match := range regexp.MustCompile(`verify-compat\.sh --tests (0\.\d+)`).FindAllStringSubmatch(workflow, -1) {
		compared = append(compared, match[1])
	}
	assert.Equal(t, minors, compared)
	assert.Contains(t, workflow, "GOFLAGS=-race ./hack/verify-compat.sh --tests "+minors[len(minors)-1]+" ")
}

func partsOfTheTests(t *testing.T) (parts []string) {
	t.Helper()
	for _, match := range partNames.FindAllStringSubmatch(readFile(t, "hack/test.sh"), -1) {
		parts = append(parts, match[1])
	}
	require.NotEmpty(t, parts)
	return parts
}
