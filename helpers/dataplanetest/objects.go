// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"cmp"
	"fmt"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	kubernetesscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
)

// Objects serves objects from memory as an API server does: a handler for [NewServer],
// [Server.SetHandler] and [Gateway.Connect]. It answers get, list and watch, so informers and
// other clients of client-go work on it. [Objects.Set] and [Objects.Delete] change the objects, and
// watches report the changes.
//
//	objects := dataplanetest.NewObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps"}})
//	server := dataplanetest.NewServer(objects)
//
// Lists and watches select by namespace, by labels, and by the fields metadata.name and
// metadata.namespace. A watch continues from the resource version of a list or an event, and ends
// after its timeoutSeconds. The paths /version, /readyz, /livez and /healthz answer, too.
//
// It serves each object only in the object's own version, and knows these kinds:
//
//   - the kinds of client-go's scheme, DataPlane and ClusterDataPlane. Their lists can be empty.
//   - others from the first Set of an object, even after its Delete. Before, the answer is 404, as
//     without a CRD. The resource's name is the kind in lower case, with s, es or ies.
//
// For writes, subresources such as logs, discovery of resources, and metadata alone, it answers an
// error that names dataplanetest.Objects. To serve some of them, wrap Objects in a handler that
// answers them. Without discovery, clients and caches of controller-runtime need a Mapper. It
// refuses watches with sendInitialEvents=true, so that reflectors list and then watch. It doesn't
// validate objects. Lists have no pages, and always hold the current objects. Watches send no
// bookmarks, and only expire if they continue from earlier Objects.
//
// Its methods may be called at any time, from any goroutine.
type Objects struct {
	first uint64 // the resource version before the first change

	mu      sync.Mutex
	kinds   map[schema.GroupVersionResource]schema.GroupVersionKind
	objects map[objectKey]*unstructured.Unstructured // replaced, never modified
	changes []change
	changed chan struct{} // closed with the next change
}

type objectKey struct {
	schema.GroupVersionKind
	types.NamespacedName
}

// NewObjects returns a handler that serves copies of objects; see [Objects.Set].
func NewObjects(objects ...runtime.Object) *Objects {
	o := &Objects{
		// Clients that move here from other Objects list again: their versions are too old.
		first:   uint64(time.Now().UnixMicro()),
		kinds:   map[schema.GroupVersionResource]schema.GroupVersionKind{},
		objects: map[objectKey]*unstructured.Unstructured{},
		changed: make(chan struct{}),
	}
	for _, s := range []*runtime.Scheme{kubernetesscheme.Scheme, scheme.Scheme} {
		for kind := range s.AllKnownTypes() {
			if s.Recognizes(kind.GroupVersion().WithKind(kind.Kind + "List")) {
				o.learn(kind)
			}
		}
	}
	o.Set(objects...)
	return o
}

// Set stores copies of objects, and sends ADDED or MODIFIED to the watches that select them. Each
// object gets a new resource version. An object without a UID or creation time keeps the stored UID
// or time, or gets a new one. All else, such as the status and the generation, is stored as it is.
//
// Objects are of a type of client-go's scheme or this module, or have an apiVersion and kind;
// *unstructured.Unstructured always has. Set panics if an object has no kind or no name. It can't
// check that an object of a namespaced kind has a namespace.
func (o *Objects) Set(objects ...runtime.Object) {
	for _, object := range objects {
		raw := rawOf(object)
		o.mu.Lock()
		o.learn(raw.GroupVersionKind())
		before := o.objects[objectKeyOf(raw)]
		known := cmp.Or(before, &unstructured.Unstructured{})
		raw.SetUID(cmp.Or(raw.GetUID(), known.GetUID(), uuid.NewUUID()))
		if created := raw.GetCreationTimestamp(); created.IsZero() {
			raw.SetCreationTimestamp(cmp.Or(known.GetCreationTimestamp(), now()))
		}
		o.objects[objectKeyOf(raw)] = raw
		o.commit(before, raw)
		o.mu.Unlock()
	}
}

// Delete removes objects, by their kinds, namespaces and names, and sends DELETED to the watches
// that select them. Finalizers are ignored. It panics if an object isn't stored.
func (o *Objects) Delete(objects ...runtime.Object) {
	for _, object := range objects {
		raw := rawOf(object)
		o.mu.Lock()
		before := o.objects[objectKeyOf(raw)]
		if before != nil {
			delete(o.objects, objectKeyOf(raw))
			o.commit(before, nil)
		}
		o.mu.Unlock()
		if before == nil {
			panic(fmt.Sprintf("%s %s isn't stored", raw.GetKind(), keyOf(raw)))
		}
	}
}

// rawOf returns a copy of an object, with its kind.
func rawOf(object runtime.Object) *unstructured.Unstructured {
	gvk := object.GetObjectKind().GroupVersionKind()
	for _, s := range []*runtime.Scheme{kubernetesscheme.Scheme, scheme.Scheme} {
		if known, _, err := s.ObjectKinds(object); err == nil {
			gvk = known[0]
		}
	}
	if gvk.Kind == "" || gvk.Version == "" {
		panic(fmt.Sprintf("%T needs an apiVersion and a kind", object))
	}
	if meta.IsListType(object) {
		panic(gvk.Kind + " is a list: pass its items")
	}
	raw, err := kind{GroupVersionKind: gvk}.encode(object)
	if err != nil {
		panic(err)
	}
	if raw.GetName() == "" {
		panic(gvk.Kind + " needs a name")
	}
	return raw
}

func objectKeyOf(raw *unstructured.Unstructured) objectKey {
	return objectKey{raw.GroupVersionKind(), keyOf(raw)}
}

// learn makes the resource of a kind known, by its regular plural, and with an s and es, for kinds
// such as Gateway and Mesh.
func (o *Objects) learn(kind schema.GroupVersionKind) {
	plural, singular := meta.UnsafeGuessKindToResource(kind)
	o.kinds[plural] = kind
	for _, ending := range []string{"s", "es"} {
		o.kinds[singular.GroupVersion().WithResource(singular.Resource+ending)] = kind
	}
}

// commit records a change at the next resource version, and wakes the watches.
func (o *Objects) commit(before, after *unstructured.Unstructured) {
	o.changes = append(o.changes, change{before, after})
	if after != nil {
		after.SetResourceVersion(o.version(len(o.changes)))
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// version returns the resource version after a number of changes.
func (o *Objects) version(changes int) string {
	return strconv.FormatUint(o.first+uint64(changes), 10)
}
