// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

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
	for line := range strings.Lines(report.Table(time.Now())) {
		p.line("%s", strings.TrimSuffix(line, "\n"))
	}
}

func gitVersion(body []byte) (string, error) {
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return "", fmt.Errorf("reading its version: %w", err)
	}
	return info.GitVersion, nil
}
