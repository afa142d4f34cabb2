// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The README's main.go is the example of this package, which the compiler checks.
func TestREADMEShowsTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)

	_, program, found := strings.Cut(string(example), "\n\n") // after the header
	require.True(t, found)
	program = strings.NewReplacer("package dataplanesdk_test", "package main", "func Example()", "func main()").Replace(program)
	assert.Contains(t, string(readme), "```go\n"+program+"```\n")
}
