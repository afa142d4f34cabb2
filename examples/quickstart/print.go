// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/version"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// printer tells the user what happens, step by step.
type printer struct{ out io.Writer }

func (p *printer) title(text string) { fmt.Fprintf(p.out, "\n%s\n", text) }

func (p *printer) step(number int, title string) { fmt.Fprintf(p.out, "\n%2d. %s\n", number, title) }

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p.out, "      "+format+"\n", args...)
}

// table prints a line for each condition type.
func (p *printer) table(report helpers.Report) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONDITION\tVERDICT\tCODE\tREPORTED\tOBSERVED\tREASON\tMESSAGE")
	for _, v := range report.Verdicts() {
		observed := "-"
		if v.ObservedGeneration > 0 {
			observed = fmt.Sprintf("%d of %d", v.ObservedGeneration, report.Generation)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%q\n", v.Type, v.Status, v.Code,
			cmp.Or(string(v.Reported), "-"), observed, cmp.Or(v.Reason, "-"), v.Message)
	}
	_ = w.Flush() // a Builder returns no error
	for line := range strings.Lines(text.String()) {
		p.line("%s", strings.TrimSpace(line))
	}
}

func gitVersion(body []byte) (string, error) {
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return "", fmt.Errorf("reading its version: %w", err)
	}
	return info.GitVersion, nil
}
