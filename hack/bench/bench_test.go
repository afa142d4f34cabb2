// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain makes the test binary measure a subject, too, as the program does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		if err := runChild(context.Background(), os.Args[2:]); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
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

func TestEveryRowComparesTheSDK(t *testing.T) {
	names := map[string]bool{}
	for _, r := range rows(1) {
		if names[r.name] {
			t.Errorf("two rows are named %s", r.name)
		}
		names[r.name] = true
		if r.subjects[0].name != "sdk" {
			t.Errorf("%s: the first subject is %q, want the SDK", r.name, r.subjects[0].name)
		}
		for i, s := range r.subjects {
			if found, err := findSubject([]string{r.name, s.name}); err != nil || found.how != r.subjects[i].how || s.how == "" {
				t.Errorf("%s: no description, or two subjects are named %q", r.name, s.name)
			}
		}
	}
	for _, c := range charted {
		if !slices.ContainsFunc(rows(1), func(r row) bool {
			return r.name == c.row && slices.Contains(r.metrics, c.metric)
		}) {
			t.Errorf("the chart shows %v of row %s, which doesn't exist", c.metric, c.row)
		}
	}
}

func TestFiguresAreMediansWithRangeAndRatio(t *testing.T) {
	r := &result{Subjects: []subjectResult{
		{Name: "sdk", Rounds: map[string][]float64{"time": {0.003, 0.001, 0.002}, "size": {2000}, "count": {1000}}},
		{Name: "other", Rounds: map[string][]float64{"time": {0.005, 0.006, 0.004}, "size": {3000}, "count": {0}}},
		{Name: "same", Rounds: map[string][]float64{"time": {0.003, 0.001, 0.0025}}},
	}}
	for _, test := range []struct {
		m       metric
		subject int
		want    string
	}{
		{metric{Name: "time", Unit: "s"}, 0, "2.000 ms (1.000–3.000)"},
		{metric{Name: "time", Unit: "s"}, 1, "5.000 ms (4.000–6.000), 2.50×"},
		{metric{Name: "time", Unit: "s"}, 2, "2.500 ms (1.000–3.000), 1.25× ~"},
		{metric{Name: "size", Unit: "B"}, 1, "3.000 kB, 1.50×"},
		{metric{Name: "size", Unit: "B"}, 2, ""},
		{metric{Name: "count"}, 0, "1000"},
		{metric{Name: "count"}, 1, "0, 0.00×"},
	} {
		if got := r.figure(test.m, test.subject); got != test.want {
			t.Errorf("%s of %s is %q, want %q", test.m.Name, r.Subjects[test.subject].Name, got, test.want)
		}
	}
}

// TestDocsAreWrittenFromTheResults fails after an edit of results.json, the tables or the chart alone.
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
