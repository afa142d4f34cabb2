// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary measure a subject as a child process, as the program does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		main()
		return
	}
	m.Run()
}

func TestARowIsMeasuredInProcessesAndPrinted(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"--quick", "--rows", "^rest-config$"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"### rest-config", "| | sdk | floor | unverified |", "- floor: base64, x509", "| time | ", "| allocs | "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output has no %q:\n%s", want, out.String())
		}
	}
}

// TestDocsAreWrittenFromTheResults fails if results.json, the tables and the chart don't agree.
func TestDocsAreWrittenFromTheResults(t *testing.T) {
	r, err := readResults("results.json")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := r.docs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range docs {
		if kept, err := os.ReadFile(file); err != nil || string(kept) != want {
			t.Errorf("%s isn't written from results.json: run ./hack/bench.sh --docs --from hack/bench/results.json", file)
		}
	}
}
