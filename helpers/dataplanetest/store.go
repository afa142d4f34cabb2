// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

const status = "status" // the only subresource; the object itself is the subresource ""

// store keeps the objects of a kind as API servers and etcd do: as JSON, with a sequence of all
// changes. Each change makes a new resource version.
type store struct {
	kind
	managers map[string]*managedfields.FieldManager // by subresource

	mu      sync.Mutex
	objects map[types.NamespacedName]*unstructured.Unstructured // replaced, never modified
	changes []change                                            // the first has resource version 2
	changed chan struct{}                                       // closed with the next change
	unowned map[types.NamespacedName]bool                       // seeded objects that never had managed fields
}

// change is a change of an object: before is nil in a creation, after in a deletion.
type change struct{ before, after *unstructured.Unstructured }

func newStore(kind kind) *store {
	return &store{
		kind:     kind,
		managers: map[string]*managedfields.FieldManager{"": newFieldManager(kind, ""), status: newFieldManager(kind, status)},
		objects:  map[types.NamespacedName]*unstructured.Unstructured{},
		changed:  make(chan struct{}),
		unowned:  map[types.NamespacedName]bool{},
	}
}

// seed stores an object as it is, and fills in a missing UID, generation and creation time.
func (s *store) seed(object runtime.Object) {
	raw, err := s.encode(object)
	if err != nil {
		panic(err)
	}
	switch name := dataplane.Name(raw.GetNamespace(), raw.GetName()); {
	case raw.GetName() == "":
		panic(s.Kind + " needs a name")
	case s.objects[keyOf(raw)] != nil:
		panic(fmt.Sprintf("two %ss %s", s.Kind, name))
	case s.namespaced && raw.GetNamespace() == "":
		panic(fmt.Sprintf("%s %s needs a namespace", s.Kind, name))
	case !s.namespaced && raw.GetNamespace() != "":
		panic(fmt.Sprintf("%s %s must have no namespace", s.Kind, name))
	}
	raw.SetUID(cmp.Or(raw.GetUID(), uuid.NewUUID()))
	raw.SetGeneration(cmp.Or(raw.GetGeneration(), 1))
	if created := raw.GetCreationTimestamp(); created.IsZero() {
		raw.SetCreationTimestamp(now())
	}
	s.unowned[keyOf(raw)] = true
	s.commit(nil, raw)
}

func keyOf(raw *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: raw.GetNamespace(), Name: raw.GetName()}
}

// get returns a copy of an object as API servers read it: without the empty metadata and unknown
// fields that some writes store.
func (s *store) get(namespace, name string) (*unstructured.Unstructured, error) {
	stored := s.objects[types.NamespacedName{Namespace: namespace, Name: name}]
	if stored == nil {
		return nil, apierrors.NewNotFound(s.resource(), name)
	}
	raw := stored.DeepCopy()
	_, err := s.clean(raw)
	return raw, err
}

// selected returns the objects that a function selects, in the order of etcd's keys.
func selected[K comparable](objects map[K]*unstructured.Unstructured, selects func(*unstructured.Unstructured) bool) []*unstructured.Unstructured {
	var selected []*unstructured.Unstructured
	for _, raw := range objects {
		if selects(raw) {
			selected = append(selected, raw)
		}
	}
	slices.SortFunc(selected, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(keyOf(a).String(), keyOf(b).String())
	})
	return selected
}

func (s *store) list(namespace string, options metav1.ListOptions) (runtime.Object, error) {
	selects, err := s.selector(namespace, options)
	if err != nil {
		return nil, err
	}
	if _, err := parseVersion(options.ResourceVersion); err != nil {
		return nil, apierrors.NewBadRequest("invalid resource version: " + err.Error())
	}
	list, err := scheme.Scheme.New(s.GroupVersion().WithKind(s.Kind + "List"))
	if err != nil {
		return nil, err
	}
	var items []runtime.Object
	for _, raw := range selected(s.objects, selects) {
		item, err := s.decode(raw)
		if err != nil {
			return nil, err
		}
		item.GetObjectKind().SetGroupVersionKind(s.GroupVersionKind) // typed clients clear it in all other answers
		items = append(items, item)
	}
	if err := meta.SetList(list, items); err != nil {
		return nil, err
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	accessor.SetResourceVersion(s.resourceVersion())
	return list, nil
}

// write stores an object, unless nothing has changed or it is a dry run, and returns it. If the
// object was deleted and has no finalizers left, write removes it.
//
// As on API servers, nothing has changed only if the object equals both what get returns and what is
// stored. The two differ after an Apply with empty labels, annotations or finalizers, so the same Apply
// changes the object again.
func (s *store) write(before, after *unstructured.Unstructured, dryRun []string) *unstructured.Unstructured {
	after.SetSelfLink("")
	switch sent, stored := untimed(after), s.objects[keyOf(after)]; {
	case before != nil && equality.Semantic.DeepEqual(untimed(before), sent) && equality.Semantic.DeepEqual(untimed(stored), sent):
		return before
	case len(dryRun) > 0:
		return after
	case before != nil && before.GetDeletionTimestamp() != nil && len(after.GetFinalizers()) == 0:
		s.commit(before, nil)
		return after
	default:
		return s.commit(before, after)
	}
}

// untimed returns a copy of an object without the times of its managed fields.
func untimed(raw *unstructured.Unstructured) *unstructured.Unstructured {
	raw = raw.DeepCopy()
	entries := raw.GetManagedFields()
	for i := range entries {
		entries[i].Time = nil
	}
	raw.SetManagedFields(entries)
	return raw
}

// commit records a change, stores the new object with the next resource version, and returns it.
func (s *store) commit(before, after *unstructured.Unstructured) *unstructured.Unstructured {
	s.changes = append(s.changes, change{before, after})
	if after != nil {
		after.SetResourceVersion(s.resourceVersion())
		s.objects[keyOf(after)] = after
		if len(after.GetManagedFields()) > 0 {
			delete(s.unowned, keyOf(after))
		}
	} else {
		delete(s.objects, keyOf(before))
		delete(s.unowned, keyOf(before))
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return after
}

// resourceVersion returns the resource version of the last change. It is never 0, which has
// another meaning in the options of lists and watches.
func (s *store) resourceVersion() string { return strconv.Itoa(len(s.changes) + 1) }
