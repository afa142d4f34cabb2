// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package repository_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fences   = regexp.MustCompile("(?ms)^```.*?^```")
	headings = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	notSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

	scripts   = regexp.MustCompile(`\./([\w./-]+\.sh)`)
	programs  = regexp.MustCompile(`go -C (\S+) run \./([\w./-]+)`)
	manifests = regexp.MustCompile(`-f ([\w./-]+\.yaml)`)
	sources   = regexp.MustCompile("`([\\w.-]+/[\\w./-]+\\.go)`")
)

// Links to the web are not followed.
func TestDocumentsNameWhatExists(t *testing.T) {
	inRoot(t)
	parts := append(partsOfTheTests(t), "all")
	for _, document := range markdown(t) {
		t.Run(document, func(t *testing.T) {
			text := readFile(t, document)
			for _, match := range links.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
				if strings.Contains(match[1], "://") || strings.HasPrefix(match[1], "mailto:") {
					continue
				}
				path, anchor, _ := strings.Cut(match[1], "#")
				target := document
				if path != "" {
					target = filepath.Join(filepath.Dir(document), path)
				}
				if _, err := os.Stat(target); assert.NoError(t, err, "link %s", match[1]) && anchor != "" {
					assert.Contains(t, anchors(t, target), anchor, "link %s", match[1])
				}
			}
			for _, match := range scripts.FindAllStringSubmatch(text, -1) {
				info, err := os.Stat(match[1])
				if assert.NoError(t, err) {
					assert.NotZero(t, info.Mode()&0o100, "%s is not executable", match[1])
				}
			}
			for _, match := range programs.FindAllStringSubmatch(text, -1) {
				assert.FileExists(t, filepath.Join(match[1], match[2], "main.go"))
			}
			for _, match := range append(manifests.FindAllStringSubmatch(text, -1), sources.FindAllStringSubmatch(text, -1)...) {
				assert.FileExists(t, match[1])
			}
			for _, match := range testParts.FindAllStringSubmatch(text, -1) {
				assert.Subset(t, parts, strings.Fields(match[1]), match[0])
			}
		})
	}
}

// markdown returns the documents of this repository.
func markdown(t *testing.T) (files []string) {
	t.Helper()
	walk(t, func(path string) {
		if filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
	})
	require.Contains(t, files, "README.md")
	return files
}

// anchors returns the anchors that GitHub gives to the headings of a document.
func anchors(t *testing.T, document string) (anchors []string) {
	t.Helper()
	text := fences.ReplaceAllString(readFile(t, document), "")
	for _, match := range headings.FindAllStringSubmatch(text, -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(match[1]), "")
		anchors = append(anchors, strings.ReplaceAll(slug, " ", "-"))
	}
	return anchors
}
