// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
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
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(p.out, "      "+strings.ReplaceAll(text, "\n", "\n      "))
}

// table prints what the conditions of a DataPlane say.
func (p *printer) table(report helpers.Report) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONDITION\tVERDICT\tBECAUSE\tOBSERVED\tREASON\tMESSAGE")
	for _, v := range report.Verdicts {
		observed := "-"
		if v.ObservedGeneration > 0 {
			observed = fmt.Sprintf("%d of %d", v.ObservedGeneration, report.Generation)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", v.Type, v.Status, v.Code, observed, orDash(v.Reason), orDash(v.Message))
	}
	w.Flush()
	for line := range strings.Lines(text.String()) {
		p.line("%s", strings.TrimRight(line, " \n"))
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func gitVersion(body []byte) (string, error) {
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return "", fmt.Errorf("reading its version: %w", err)
	}
	return info.GitVersion, nil
}
