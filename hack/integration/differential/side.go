// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// side is one server and its answers so far. Steps refer to answers by index, because each server
// has different UIDs and resource versions.
type side struct {
	Server
	kind     behaviours.Kind
	objects  []*v1alpha1.DataPlane // as writes returned them
	versions map[string]int        // numbers that replace resource versions and UIDs in comparisons
	watches  []openWatch
}

type openWatch struct {
	watch.Interface
	name string
	last string // the name of the object whose event with endMark ends the comparison
}

func newSide(kind behaviours.Kind, server Server) *side {
	return &side{Server: server, kind: kind, versions: map[string]int{}}
}

func (s *side) stop() {
	for _, watch := range s.watches {
		watch.Stop()
	}
}

func (s *side) client(namespace int) openchoreotyped.DataPlaneInterface {
	return s.kind.Client(s.Client, s.Namespaces[namespace])
}

// everywhere returns a client for the objects of all namespaces.
func (s *side) everywhere() openchoreotyped.DataPlaneInterface { return s.kind.Client(s.Client, "") }

// object returns a copy of one of the objects from earlier writes, or an empty object.
func (s *side) object(i int) *v1alpha1.DataPlane {
	if len(s.objects) == 0 {
		return &v1alpha1.DataPlane{}
	}
	return s.objects[i%len(s.objects)].DeepCopy()
}

// awaitLastWrite waits until the cache of an API server has the last write that returned an object.
// Until then, an Apply with empty metadata may be compared with an older object, and change nothing.
func (s *side) awaitLastWrite(ctx context.Context) {
	if len(s.objects) == 0 {
		return
	}
	last := s.objects[len(s.objects)-1]
	client := s.kind.Client(s.Client, last.Namespace)
	_, _ = client.Get(ctx, last.Name, metav1.GetOptions{ResourceVersion: last.ResourceVersion}) // fails if the object was deleted
}

// answer returns the outcome of a request that returns an object.
func (s *side) answer(dp *v1alpha1.DataPlane, err error) outcome {
	if err != nil {
		return failure(err)
	}
	return outcome{compared: s.normal(dp)}
}

func (s *side) list(list *v1alpha1.DataPlaneList, err error) outcome {
	if err != nil {
		return failure(err)
	}
	lines := []string{fmt.Sprintf("%d objects, resource version %t", len(list.Items), list.ResourceVersion != "")}
	for i := range list.Items {
		lines = append(lines, s.normal(&list.Items[i]))
	}
	return outcome{compared: strings.Join(lines, "\n")}
}

// index matches the index of a list item in the path of a field.
var index = regexp.MustCompile(`\[\d+\]`)

// failure returns the outcome of an error: its code, its reason, its kind, and the fields of metadata
// and options in its causes. The fake doesn't validate other fields. Messages, the types of causes
// and the indexes of items may differ, because the fake's apimachinery and the API server are of
// different minors.
func failure(err error) outcome {
	if err == nil {
		return outcome{compared: "ok"}
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return outcome{compared: "no answer", message: err.Error()}
	}
	var kind string
	var causes []string
	if details := status.Status().Details; details != nil {
		kind = details.Group + "/" + details.Kind
		for _, cause := range details.Causes {
			if cause.Field == behaviours.NoField || strings.HasPrefix(cause.Field, "spec") || strings.HasPrefix(cause.Field, "status") {
				continue
			}
			causes = append(causes, index.ReplaceAllString(cause.Field, ""))
		}
	}
	slices.Sort(causes)
	return outcome{compared: fmt.Sprint(status.Status().Code, status.Status().Reason, " ", kind, slices.Compact(causes)), message: err.Error()}
}

// normal returns an object for comparison: without its times, and with numbers in the place of
// resource versions and UIDs.
func (s *side) normal(dp *v1alpha1.DataPlane) string {
	dp = dp.DeepCopy()
	dp.ResourceVersion = s.standIn(dp.ResourceVersion)
	dp.UID = types.UID(s.standIn(string(dp.UID)))
	if !dp.CreationTimestamp.IsZero() {
		dp.CreationTimestamp = metav1.Unix(1, 0)
	}
	if dp.DeletionTimestamp != nil {
		at := metav1.Unix(2, 0)
		dp.DeletionTimestamp = &at
	}
	for i, namespace := range s.Namespaces {
		if dp.Namespace == namespace {
			dp.Namespace = fmt.Sprint("namespace ", i)
		}
	}
	for i := range dp.ManagedFields {
		dp.ManagedFields[i].Time = nil
	}
	slices.SortFunc(dp.ManagedFields, func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Manager, b.Manager), cmp.Compare(a.Subresource, b.Subresource))
	})
	if dp.GenerateName != "" {
		dp.Name = fmt.Sprint(len(dp.Name), " characters")
	}
	data, err := json.MarshalIndent(dp, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// standIn returns the number of a resource version or UID, in the order of their first appearance.
func (s *side) standIn(value string) string {
	if value == "" {
		return ""
	}
	if _, seen := s.versions[value]; !seen {
		s.versions[value] = len(s.versions)
	}
	return fmt.Sprint("#", s.versions[value])
}

func (s *side) addWatch(name, last string, watcher watch.Interface, err error) outcome {
	if err == nil {
		s.watches = append(s.watches, openWatch{watcher, name, last})
	}
	return failure(err)
}

// nextEvent returns the next event of a watch, and whether it is the last.
func (s *side) nextEvent(t *testing.T, i int) (_ outcome, end bool) {
	t.Helper()
	for {
		select {
		case event, open := <-s.watches[i].ResultChan():
			if !open {
				return outcome{compared: "the watch has ended"}, true
			}
			if event.Type == watch.Error {
				return failure(apierrors.FromObject(event.Object)), true
			}
			dp := behaviours.AsDataPlane(event.Object)
			mark := dp.Annotations[metav1.InitialEventsAnnotationKey]
			switch {
			case event.Type != watch.Bookmark:
				end := dp.Name == s.watches[i].last && dp.Annotations[endMark] != ""
				return outcome{compared: string(event.Type) + " " + s.normal(dp)}, end
			case mark != "":
				return outcome{compared: fmt.Sprint(event.Type, " ", dp.ResourceVersion != "", " ", mark)}, false
			}
			// Other bookmarks are ignored: API servers send them at any time.
		case <-time.After(patience):
			return outcome{compared: "no event was received"}, true
		}
	}
}
