// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package repository_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// All Go code of the documents is compiled: the README's main.go is the root package's example, and
// other code is part of another example, or of a test in hack/integration. A test there applies the
// YAML of the documents too.
func TestREADMEAndDocsShowTheExamples(t *testing.T) {
	inRoot(t)
	_, program, found := strings.Cut(readFile(t, "example_test.go"), "\n\n") // after the header
	require.True(t, found)
	program = strings.NewReplacer("package dataplanesdk_test", "package main", "func Example()", "func main()").Replace(program)

	examples := ""
	walk(t, func(path string) {
		isExample, _ := filepath.Match("example*_test.go", filepath.Base(path))
		isIntegration, _ := filepath.Match("hack/integration/*_test.go", filepath.ToSlash(path))
		if isExample || isIntegration {
			examples += unindent(readFile(t, path))
		}
	})

	programs := 0
	for _, page := range markdown(t) {
		for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readFile(t, page), -1) {
			if strings.HasPrefix(block[1], "package main\n") {
				programs++
				assert.Equal(t, program, block[1], page)
				continue
			}
			if !strings.Contains(examples, unindent(block[1])) {
				t.Errorf("%s: no example has this code:\n%s", page, block[1])
			}
		}
	}
	assert.Equal(t, 1, programs, "programs in the README")
}

var indentation = regexp.MustCompile(`(?m)^\t+`)

func unindent(code string) string { return indentation.ReplaceAllString(code, "") }
