// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"mime"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// initialEvents finds the bookmark that ends the initial events in the body of a watch. Only an
// object with the bookmark's annotation, which Kubernetes reserves, contains these bytes: JSON
// escapes quotes inside strings, and protobuf's lengths aren't text.
type initialEvents struct {
	annotation []byte
	read       []byte // the last bytes read, fewer than the annotation has
}

// newInitialEvents returns nil for an encoding that it can't read.
func newInitialEvents(contentType string) *initialEvents {
	const key = metav1.InitialEventsAnnotationKey
	mediaType, _, _ := mime.ParseMediaType(contentType) // "" matches no case
	switch mediaType {
	case "application/json":
		return &initialEvents{annotation: []byte(`"` + key + `":`)}
	case "application/vnd.kubernetes.protobuf":
		// An entry of a map: field 1 and its length, field 2 and its length.
		return &initialEvents{annotation: []byte("\n" + string(rune(len(key))) + key + "\x12\x04true")}
	}
	return nil
}

// endIn reports whether the annotation ends in p, the next bytes of the body.
func (e *initialEvents) endIn(p []byte) bool {
	most := len(e.annotation) - 1
	across := slices.Concat(e.read, p[:min(len(p), most)])
	if bytes.Contains(across, e.annotation) || bytes.Contains(p, e.annotation) {
		return true
	}
	if len(p) >= most {
		across = p
	}
	e.read = append(e.read[:0], across[max(0, len(across)-most):]...)
	return false
}

// endInitialEvents records that the initial events have ended. From now on, the request is a watch
// like others.
func (r *request) endInitialEvents() {
	r.events, r.unlimited = nil, true
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	r.initial, r.beganAt = false, time.Now()
	if s.handedOver() {
		r.cutWatchSoon()
	}
}
