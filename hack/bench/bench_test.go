// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the program of the tests be that of a subject as well.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		exit(runChild(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestRowIsMeasuredInProcesses(t *testing.T) {
	c, err := parse([]string{"--quick", "--rows", "^rest-config$"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	measured, err := measureRows(t.Context(), c, &progress)
	if err != nil {
		t.Fatal(err)
	}
	row := measured.row("rest-config")
	if row == nil || len(row.Subjects) != 3 {
		t.Fatalf("row is %+v, want one of 3 subjects", row)
	}
	for _, s := range row.Subjects {
		f := s.Figures["time"]
		if f == nil || len(f.Rounds) != row.Rounds || f.Min <= 0 || f.Min > f.Median || f.Median > f.Max {
			t.Errorf("%s: time is %+v, want %d rounds, and the median between the least and the most", s.Name, f, row.Rounds)
		}
	}

	file := filepath.Join(t.TempDir(), "bench.json")
	c.json = file
	if err := c.write(measured); err != nil {
		t.Fatal(err)
	}
	read, err := readResults(file)
	if err != nil {
		t.Fatal(err)
	}
	var before, after bytes.Buffer
	if err := printTable(&before, measured); err != nil {
		t.Fatal(err)
	}
	if err := printTable(&after, read); err != nil {
		t.Fatal(err)
	}
	if before.String() != after.String() || !strings.Contains(before.String(), "helpers.RESTConfigFor") {
		t.Errorf("table of what was written and read:\n%s\nwant:\n%s", after.String(), before.String())
	}
}

func TestFailureOfASubjectIsToldAndEndsTheRow(t *testing.T) {
	r := row{name: "none", subjects: []subject{{name: "sdk"}}, rounds: [2]int{1, 1}}
	result, err := r.run(t.Context(), &fixture{quick: true}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), `no subject "sdk" of row "none"`) {
		t.Errorf("result is %+v, and error %v, want what the process of the subject said", result, err)
	}
}

func TestRowsAreWellFormed(t *testing.T) {
	names := map[string]bool{}
	for _, r := range rows() {
		if names[r.name] {
			t.Errorf("two rows are named %s", r.name)
		}
		names[r.name] = true
		if r.subjects[0].name != "sdk" || r.subjects[0].aside {
			t.Errorf("%s: the first subject is %q, want the SDK", r.name, r.subjects[0].name)
		}
		for _, s := range r.subjects {
			if s.how == "" {
				t.Errorf("%s: %s does not say how it is used", r.name, s.name)
			}
			if found, err := findSubject(r.name, s.name); err != nil || found.how != s.how {
				t.Errorf("%s: two subjects are named %q", r.name, s.name)
			}
		}
	}
	all := rows()
	anyOf := func(pattern, measured, compared string) bool {
		return slices.ContainsFunc(all, func(r row) bool {
			return matches(pattern, r.name) &&
				slices.ContainsFunc(r.metrics, func(m metric) bool { return matches(measured, m.Name) }) &&
				slices.ContainsFunc(r.subjects, func(s subject) bool { return matches(compared, s.name) })
		})
	}
	for _, c := range charted {
		if !anyOf(c.row, c.metric, "sdk") {
			t.Errorf("the chart shows %s of row %s, which is not there", c.metric, c.row)
		}
	}
	for i := range reasons {
		r := &reasons[i]
		metrics := r.metrics
		if metrics == nil {
			metrics = []string{"*"}
		}
		for _, metric := range metrics {
			if !anyOf(r.row, metric, r.subject) || r.also != "" && !anyOf(r.row, metric, r.also) {
				t.Errorf("there is a reason for %s of %s in %s (%s), which is not there", metric, r.subject, r.row, r.also)
			}
		}
	}
}

func TestPercentile(t *testing.T) {
	for _, test := range []struct {
		data []float64
		p    float64
		want float64
	}{
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{3, 1, 2}, 1, 3},
		{[]float64{3, 1, 2}, 0, 1},
	} {
		if got := percentile(test.data, test.p); got != test.want {
			t.Errorf("percentile(%v, %v) = %v, want %v", test.data, test.p, got, test.want)
		}
	}
}

func TestFit(t *testing.T) {
	slope, intercept, r2 := fit([]float64{1, 1, 3, 3}, []float64{4, 6, 10, 12})
	if slope != 3 || intercept != 2 || math.Abs(r2-0.9) > 1e-12 {
		t.Errorf("fit is %v, %v, %v, want 3, 2, 0.9", slope, intercept, r2)
	}
}

func TestFormat(t *testing.T) {
	for _, test := range []struct {
		unit  unit
		value float64
		want  string
	}{
		{seconds, 0.0000345, "34.5 µs"},
		{seconds, 0, "0 ns"},
		{seconds, 12.34, "12.3 s"},
		{bytesUnit, 123456, "123 kB"},
		{bytesUnit, -2e6, "-2.00 MB"},
		{count, 1000, "1000"},
		{count, 0.25, "0.25"},
		{perSecond, 99.96, "100 /s"},
	} {
		if got := test.unit.format(test.value); got != test.want {
			t.Errorf("%v %s is written as %q, want %q", test.value, test.unit, got, test.want)
		}
	}
	if got := group(1234567); got != "1,234,567" {
		t.Errorf("group(1234567) = %s", got)
	}
}

func TestLags(t *testing.T) {
	r := newResult(&row{
		name:    "row",
		metrics: []metric{{Name: "time", Unit: seconds}, {Name: "rate", Unit: perSecond, More: true}, {Name: "heap", Unit: bytesUnit}, {Name: "objects", Info: true}},
		subjects: []subject{
			{name: "sdk"}, {name: "better"}, {name: "about the same"}, {name: "floor", aside: true},
		},
	}, 2, [][]values{
		{{"time": 1, "rate": 10, "heap": 20, "objects": 5}, {"time": 3, "rate": 10, "heap": 30, "objects": 5}},
		{{"time": 1.5, "rate": 20, "heap": 10, "objects": 1}, {"time": 1.5, "rate": 20, "heap": 22, "objects": 1}},
		{{"time": 1.95, "rate": 10.4}, {"time": 1.95, "rate": 10.4}},
		{{"time": 0.1, "rate": 100}, {"time": 0.1, "rate": 100}},
	})
	var got []string
	for _, l := range (&results{Rows: []*result{r}}).lags() {
		got = append(got, fmt.Sprint(l.metric, " ", l.peer, " ", l.overlaps))
	}
	if want := []string{"time better true", "rate better false", "heap better false"}; !slices.Equal(got, want) {
		t.Errorf("lags are %q, want %q", got, want)
	}
}

// informerResults returns results of informers whose figures are n objects times a slope, and
// something fixed.
func informerResults(slope, fixed float64) *results {
	r := &results{Environment: environment{Go: "go1.26.0", Cores: 2}}
	for _, n := range []int{1000, 10_000} {
		for _, row := range informerRows(n, everyRun) {
			measured := make([][]values, len(row.subjects))
			for i := range row.subjects {
				v := values{}
				for _, m := range row.metrics {
					v[m.Name] = slope*float64(n) + fixed
				}
				measured[i] = []values{v}
			}
			r.Rows = append(r.Rows, newResult(&row, 1, measured))
		}
	}
	for _, row := range latencyRows() {
		measured := make([][]values, len(row.subjects))
		measured[0] = []values{{"cpu per event": 0.0005, "received per event": 9000}}
		r.Rows = append(r.Rows, newResult(&row, 1, measured))
	}
	r.Growth = fitGrowth(r.Rows)
	return r
}

func TestScalePageExtendsTheLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scale.md")
	if err := writeScale(file, informerResults(2000, 1e6)); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| settled heap | 2.00 kB | 1.00 MB | 1.000 | 201 MB | 51.0 MB |", // 2 kB × 100,000 + 1 MB, and × 25,000
		"| CPU time of an event | 500 µs | 500 ms of CPU a second | 125 ms of CPU a second |",
		"| received by an event | 9.00 kB | 9.00 MB/s | 2.25 MB/s |",
		"with 1,000, 10,000 objects",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("page has no %q:\n%s", want, page)
		}
	}
	if err := writeScale(file, &results{}); err == nil {
		t.Error("a page without figures was written")
	}
}

func TestChartShowsTheBestPeer(t *testing.T) {
	informer, rotation := informerRows(10_000, everyRun)[1], rotateRows()[0]
	r := &results{Rows: []*result{
		newResult(&informer, 1, [][]values{{{"time": 0.02}}, {{"time": 0.03}}, {{"time": 0.01}}, {{"time": 0.001}}, nil, nil}),
		newResult(&rotation, 1, [][]values{{{"received": 0}}, {{"received": 12}}}),
	}}
	file := filepath.Join(t.TempDir(), "chart.svg")
	if err := drawChart(file, r); err != nil {
		t.Fatal(err)
	}
	chart, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer chart.Close()
	texts := map[string]bool{}
	for decoder := xml.NewDecoder(chart); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			texts[strings.TrimSpace(string(text))] = true
		}
	}
	for _, want := range []string{"Informer of 10,000 DataPlanes", "time until synced", "20.0 ms", "10.0 ms", "dynamic", "0 B", "12.0 B", "client-go"} {
		if !texts[want] {
			t.Errorf("the chart shows no %q: %v", want, texts)
		}
	}
	for _, unwanted := range []string{"controller-runtime", "floor", "Wait for Ready"} {
		if texts[unwanted] {
			t.Errorf("the chart shows %s, which is not the best peer, or was not measured", unwanted)
		}
	}
	if err := drawChart(file, &results{}); err == nil {
		t.Error("a chart without figures was drawn")
	}
}

// The pages in docs are written from the results beside them.
func TestDocsAreWrittenFromTheResults(t *testing.T) {
	root := filepath.Join("..", "..")
	r, err := readResults(filepath.Join(root, "hack", "bench", "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Environment.Quick || r.Environment.busy() {
		t.Error("the results are those of a quick run, or of a busy machine")
	}
	dir := t.TempDir()
	c := &config{scale: filepath.Join(dir, "scale.md"), svg: filepath.Join(dir, "bench.svg"), page: filepath.Join(dir, "benchmarks.md")}
	page := readFile(t, filepath.Join(root, "docs", "benchmarks.md"))
	if err := os.WriteFile(c.page, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.write(r); err != nil {
		t.Fatal(err)
	}
	for written, kept := range map[string]string{c.page: "docs/benchmarks.md", c.svg: "docs/bench.svg", c.scale: "docs/scale.md"} {
		if readFile(t, written) != readFile(t, filepath.Join(root, filepath.FromSlash(kept))) {
			t.Errorf("%s is not of hack/bench/results.json: run ./hack/bench.sh --docs --from hack/bench/results.json", kept)
		}
	}
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPageTellsWhereTheSDKIsBehind(t *testing.T) {
	row := row{
		name: "rest-config", metrics: perCall,
		subjects: []subject{{name: "sdk"}, {name: "unverified"}, {name: "other"}, {name: "floor", aside: true}},
	}
	r := newResult(&row, 2, [][]values{
		{{"time": 100e-9, "allocs": 2, "allocated": 0}},
		{{"time": 10e-9}},
		{{"allocs": 1}},
		{{"time": 50e-9, "allocs": 2, "allocated": 0}},
	})
	text := pageText(&results{Rows: []*result{r}})
	for _, want := range []string{
		"| `rest-config`, time | 100 ns | unverified: 10.0 ns | an error that names the field",
		"does so takes 50.0 ns.",
		"| `rest-config`, allocs | 2 | other: 1 | not explained |",
		"| `rest-config`, time | 100 ns | 50.0 ns | not explained |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("text has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "allocs | 2 | 2") || strings.Contains(text, "allocated | 0") {
		t.Errorf("text names what is no more than the floor:\n%s", text)
	}

	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte("before\n"+pageBegin+"old\n"+pageEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second changes nothing
		if err := updatePage(file, &results{Rows: []*result{r}}); err != nil {
			t.Fatal(err)
		}
		if got, want := readFile(t, file), "before\n"+pageBegin+text+pageEnd+"after\n"; got != want {
			t.Errorf("page is %q, want %q", got, want)
		}
	}
	if err := os.WriteFile(file, []byte("no marks\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := updatePage(file, &results{}); err == nil {
		t.Error("a page without marks was written")
	}
}
