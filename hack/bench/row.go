// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// row compares the SDK with what else does the same.
type row struct {
	name     string
	title    string
	metrics  []metric
	subjects []subject // the first is the SDK

	// objects is how many DataPlanes of realistic size the API server has; 0 is a row that
	// takes no API server, or objects of its own.
	objects int
	// onPlane says that the row takes a control plane.
	onPlane bool
	// fresh gives each measurement a process of its own, in place of one for all of a subject.
	fresh bool
	// rounds is how many measurements of each subject count, with --quick and without it.
	// One more round comes before those, and does not count, unless the row is fresh.
	rounds [2]int
	// scope leaves the row out of some runs.
	scope scope
	// prepare makes what the parent knows and the processes of the subjects need. It may be
	// nil.
	prepare func(ctx context.Context, f *fixture, in *input) error
	// cleanup removes what prepare has made in the control plane. It may be nil.
	cleanup func(ctx context.Context, f *fixture) error
	// drive is what the parent does while a subject is measured, when that asks for it: the
	// cost of writing must not count as that of reading. It returns how much it has done.
	drive func(ctx context.Context, f *fixture, in *input) (int, error)
}

// scope says of which runs a row is.
type scope int

const (
	everyRun scope = iota
	quickRun
	fullRun
)

// metric is something that a row measures. Less is better, unless more is.
type metric struct {
	Name string `json:"name"`
	Unit unit   `json:"unit"`
	More bool   `json:"moreIsBetter,omitempty"`
	// Info marks what tells how a measurement went, and is no cost.
	Info bool `json:"info,omitempty"`
}

// unit is that of a value. Times are in seconds, and sizes in bytes.
type unit string

const (
	seconds   unit = "s"
	bytesUnit unit = "B"
	count     unit = ""
	perSecond unit = "/s"
)

// subject is one of those that a row compares.
type subject struct {
	name string
	how  string // it is used, in a few words
	// aside keeps the subject out of the verdict whether the SDK is behind: it is the
	// physical floor, or does something else than the SDK's.
	aside bool
	env   []string
	start func(ctx context.Context, in *input) (measureFunc, error)
}

// measureFunc makes one measurement. It may call drive once or several times, to have the
// parent do its part.
type measureFunc func(ctx context.Context, drive func() (int, error)) (values, error)

// values are by the name of their metric. What a machine can't tell is absent.
type values map[string]float64

// input is what the process of a subject is told.
type input struct {
	Quick      bool                            `json:"quick"`
	Objects    int                             `json:"objects,omitempty"`
	Root       string                          `json:"root"`
	Dir        string                          `json:"dir"`               // for files, which the parent removes
	Profile    string                          `json:"profile,omitempty"` // the folder to write profiles to
	Server     *server                         `json:"server,omitempty"`
	DataPlanes []*openchoreov1alpha1.DataPlane `json:"dataPlanes,omitempty"`
	Rotated    []*openchoreov1alpha1.DataPlane `json:"rotated,omitempty"` // DataPlanes with other credentials of the same users
}

func rows() []row {
	return slices.Concat(
		clientRows(),
		remoteRows(),
		fleetRows(),
		rotateRows(),
		programRows(),
		writeRows(),
		waitRows(),
		latencyRows(),
		// What comes next adds objects to the control plane, more with each row.
		informerRows(1_000, everyRun),
		informerRows(3_000, quickRun),
		readRows(3_000, quickRun),
		informerRows(10_000, fullRun),
		readRows(10_000, fullRun),
		informerRows(30_000, fullRun),
	)
}
