// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/applyconfigurations"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
)

var (
	resource = v1alpha1.Resource("dataplanes")
	kind     = v1alpha1.SchemeGroupVersion.WithKind("DataPlane")
)

const status = "status" // the only subresource; the object itself is the subresource ""

// store keeps DataPlanes as etcd and the API server do: all changes, one after the other,
// each of which makes a resource version.
type store struct {
	managers map[string]*managedfields.FieldManager // by subresource

	mu      sync.Mutex
	objects map[types.NamespacedName]*v1alpha1.DataPlane // never modified
	changes []change                                     // the resource version of the first is 2
	changed chan struct{}                                // closed with the next change
}

// change is a change of an object, which before its creation and after its deletion is nil.
type change struct{ before, after *v1alpha1.DataPlane }

func newStore(objects []*v1alpha1.DataPlane) *store {
	s := &store{
		managers: map[string]*managedfields.FieldManager{},
		objects:  map[types.NamespacedName]*v1alpha1.DataPlane{},
		changed:  make(chan struct{}),
	}
	for _, subresource := range []string{"", status} {
		manager, err := managedfields.NewDefaultFieldManager(applyconfigurations.NewTypeConverter(nil),
			scheme.Scheme, scheme.Scheme, scheme.Scheme, kind, kind.GroupVersion(), subresource, nil)
		if err != nil {
			panic(err)
		}
		s.managers[subresource] = manager
	}
	for _, dp := range objects {
		dp = dp.DeepCopy()
		if s.objects[keyOf(dp)] != nil {
			panic(fmt.Sprintf("two DataPlanes %s", keyOf(dp)))
		}
		dp.UID = cmp.Or(dp.UID, uuid.NewUUID())
		dp.Generation = cmp.Or(dp.Generation, 1)
		if dp.CreationTimestamp.IsZero() {
			dp.CreationTimestamp = now()
		}
		s.commit(nil, dp)
	}
	return s
}

func keyOf(dp *v1alpha1.DataPlane) types.NamespacedName {
	return types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}
}

// react answers all actions but watches.
func (s *store) react(action clienttesting.Action) (handled bool, _ runtime.Object, _ error) {
	subresource := action.GetSubresource()
	if subresource != "" && subresource != status || action.GetNamespace() == "" && action.GetVerb() != "list" { // no such path
		return true, nil, apierrors.NewGenericServerResponse(http.StatusNotFound, action.GetVerb(), resource, "", "", 0, true)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var dp *v1alpha1.DataPlane
	var err error
	switch action := action.(type) {
	case clienttesting.ListActionImpl:
		list, err := s.list(action.Namespace, action.ListOptions)
		if err != nil {
			return true, nil, err
		}
		return true, list, nil
	case clienttesting.GetActionImpl:
		dp, err = s.get(action.Namespace, action.Name)
	case clienttesting.CreateActionImpl:
		dp, err = s.create(action)
	case clienttesting.UpdateActionImpl:
		object := action.Object.(*v1alpha1.DataPlane)
		if dp, err = s.get(action.Namespace, object.Name); err == nil {
			dp, err = s.update(dp, object, action.Subresource, action.UpdateOptions.FieldManager, action.UpdateOptions.DryRun)
		}
	case clienttesting.PatchActionImpl:
		if action.PatchType == types.ApplyPatchType {
			dp, err = s.apply(action)
		} else {
			dp, err = s.patch(action)
		}
	case clienttesting.DeleteActionImpl:
		return true, nil, s.delete(action.Namespace, action.Name, action.DeleteOptions)
	case clienttesting.DeleteCollectionActionImpl:
		return true, nil, s.deleteCollection(action)
	default:
		return false, nil, nil
	}
	if err != nil {
		return true, nil, err
	}
	return true, dp.DeepCopy(), nil
}

func (s *store) get(namespace, name string) (*v1alpha1.DataPlane, error) {
	if name == "" { // here and below, client-go sends no request
		return nil, errors.New("resource name may not be empty")
	}
	if faults := rest.IsValidPathSegmentName(name); len(faults) > 0 {
		return nil, fmt.Errorf("invalid resource name %q: %v", name, faults)
	}
	if dp := s.objects[types.NamespacedName{Namespace: namespace, Name: name}]; dp != nil {
		return dp, nil
	}
	return nil, apierrors.NewNotFound(resource, name)
}

func (s *store) list(namespace string, options metav1.ListOptions) (*v1alpha1.DataPlaneList, error) {
	selected, err := selects(namespace, options)
	if err != nil {
		return nil, err
	}
	list := &v1alpha1.DataPlaneList{ListMeta: metav1.ListMeta{ResourceVersion: s.resourceVersion()}}
	for _, dp := range s.objects {
		if selected(dp) {
			list.Items = append(list.Items, *dp.DeepCopy())
		}
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.DataPlane) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list, nil
}

func (s *store) create(action clienttesting.CreateActionImpl) (*v1alpha1.DataPlane, error) {
	dp := action.Object.(*v1alpha1.DataPlane)
	switch dp.Namespace = cmp.Or(dp.Namespace, action.Namespace); {
	case dp.Namespace != action.Namespace:
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	case dp.ResourceVersion != "":
		return nil, apierrors.NewInternalError(errors.New("resourceVersion should not be set on objects to be created"))
	case dp.Name == "" && dp.GenerateName == "":
		return nil, invalid(dp, field.Required(field.NewPath("metadata", "name"), "name or generateName is required"))
	case dp.Name == "":
		dp.Name = dp.GenerateName + rand.String(5)
	}
	if s.objects[keyOf(dp)] != nil {
		return nil, apierrors.NewAlreadyExists(resource, dp.Name)
	}
	initialize(dp)
	dp, err := s.manage("", &v1alpha1.DataPlane{}, dp, action.CreateOptions.FieldManager)
	if err != nil {
		return nil, err
	}
	return s.write(nil, dp, action.CreateOptions.DryRun), nil
}

// initialize sets what a new object doesn't bring itself.
func initialize(dp *v1alpha1.DataPlane) {
	dp.UID, dp.Generation, dp.CreationTimestamp = uuid.NewUUID(), 1, now()
	dp.DeletionTimestamp, dp.DeletionGracePeriodSeconds = nil, nil
	dp.Status = v1alpha1.DataPlaneStatus{}
}

func (s *store) update(before, dp *v1alpha1.DataPlane, subresource, manager string, dryRun []string) (*v1alpha1.DataPlane, error) {
	after, err := prepare(before, dp, subresource)
	if err != nil {
		return nil, err
	}
	if after, err = s.manage(subresource, before, after, manager); err != nil {
		return nil, err
	}
	return s.write(before, after, dryRun), nil
}

// prepare returns what an object becomes when a client replaces it, or its status, by dp.
func prepare(before, dp *v1alpha1.DataPlane, subresource string) (*v1alpha1.DataPlane, error) {
	switch {
	case dp.ResourceVersion == "":
		return nil, invalid(dp, field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update"))
	case dp.UID != "" && dp.UID != before.UID:
		return nil, conflict(dp.Name, "Precondition failed: UID in precondition: %v, UID in object meta: %v", dp.UID, before.UID)
	case dp.ResourceVersion != before.ResourceVersion:
		return nil, conflict(dp.Name, "the object has been modified; please apply your changes to the latest version and try again")
	}
	if subresource == status {
		after := before.DeepCopy()
		after.Status, after.ManagedFields = dp.Status, dp.ManagedFields
		return after, nil
	}
	after := dp.DeepCopy()
	after.Name, after.Namespace, after.UID, after.CreationTimestamp = before.Name, before.Namespace, before.UID, before.CreationTimestamp
	after.DeletionTimestamp, after.DeletionGracePeriodSeconds = before.DeletionTimestamp, before.DeletionGracePeriodSeconds
	after.Status, after.Generation = before.Status, before.Generation
	if !equality.Semantic.DeepEqual(before.Spec, after.Spec) {
		after.Generation++
	}
	for _, finalizer := range after.Finalizers {
		if before.DeletionTimestamp != nil && !slices.Contains(before.Finalizers, finalizer) {
			return nil, invalid(dp, field.Forbidden(field.NewPath("metadata", "finalizers"),
				"no new finalizers can be added if the object is being deleted, found new finalizers "+strconv.Quote(finalizer)))
		}
	}
	return after, nil
}

// patch lets client-go apply a patch, and updates the object to the result.
func (s *store) patch(action clienttesting.PatchActionImpl) (*v1alpha1.DataPlane, error) {
	before, err := s.get(action.Namespace, action.Name)
	if err != nil {
		return nil, err
	}
	if action.PatchType == types.StrategicMergePatchType {
		return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", resource, action.Name,
			"DataPlanes have no strategic merge patches", 0, false)
	}
	patcher := &patcher{before: before}
	if _, _, err := clienttesting.ObjectReaction(patcher)(action); err != nil {
		return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "patch", resource, action.Name, err.Error(), 0, false)
	}
	return s.update(before, patcher.after, action.Subresource, action.PatchOptions.FieldManager, action.PatchOptions.DryRun)
}

// patcher is an object tracker with one object, which keeps what a patch makes of it.
type patcher struct {
	clienttesting.ObjectTracker
	before, after *v1alpha1.DataPlane
}

func (p *patcher) Get(schema.GroupVersionResource, string, string, ...metav1.GetOptions) (runtime.Object, error) {
	return p.before.DeepCopy(), nil
}

func (p *patcher) Patch(_ schema.GroupVersionResource, after runtime.Object, _ string, _ ...metav1.PatchOptions) error {
	p.after = after.(*v1alpha1.DataPlane)
	return nil
}

func (s *store) apply(action clienttesting.PatchActionImpl) (*v1alpha1.DataPlane, error) {
	options, configuration := action.PatchOptions, &unstructured.Unstructured{}
	if options.FieldManager == "" {
		return nil, apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind("PatchOptions").GroupKind(), "",
			field.ErrorList{field.Required(field.NewPath("fieldManager"), "is required for apply patch")})
	}
	if err := configuration.UnmarshalJSON(action.Patch); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	before, err := s.get(action.Namespace, action.Name)
	if err != nil && (action.Subresource == status || !apierrors.IsNotFound(err)) {
		return nil, err
	}
	if action.Subresource == status {
		meta := configuration.Object["metadata"].(map[string]any)
		maps.DeleteFunc(meta, func(key string, _ any) bool { return key != "name" && key != "resourceVersion" && key != "uid" })
		delete(configuration.Object, "spec")
	} else {
		delete(configuration.Object, status)
	}

	live := &v1alpha1.DataPlane{}
	if before != nil {
		live = before.DeepCopy()
	}
	live.SetGroupVersionKind(kind)
	object, err := s.managers[action.Subresource].Apply(live, configuration, options.FieldManager, options.Force != nil && *options.Force)
	if err != nil {
		return nil, err
	}
	after := object.(*v1alpha1.DataPlane)
	after.TypeMeta = metav1.TypeMeta{}
	if before == nil {
		after.Namespace = action.Namespace
		initialize(after)
	} else if after, err = prepare(before, after, action.Subresource); err != nil {
		return nil, err
	}
	return s.write(before, after, options.DryRun), nil
}

// manage notes in the managed fields of after which fields a manager changes.
func (s *store) manage(subresource string, before, after *v1alpha1.DataPlane, manager string) (*v1alpha1.DataPlane, error) {
	if manager == "" { // API servers take the first word of the User-Agent, too
		manager, _, _ = strings.Cut(rest.DefaultKubernetesUserAgent(), "/")
	}
	before = before.DeepCopy()
	before.SetGroupVersionKind(kind)
	after.SetGroupVersionKind(kind)
	object, err := s.managers[subresource].Update(before, after, manager)
	if err != nil {
		return nil, err
	}
	after = object.(*v1alpha1.DataPlane)
	after.TypeMeta = metav1.TypeMeta{} // typed clients return none
	return after, nil
}

func (s *store) delete(namespace, name string, options metav1.DeleteOptions) error {
	dp, err := s.get(namespace, name)
	if err != nil {
		return err
	}
	if p := options.Preconditions; p != nil {
		if p.UID != nil && *p.UID != dp.UID {
			return conflict(name, "Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, dp.UID)
		}
		if p.ResourceVersion != nil && *p.ResourceVersion != dp.ResourceVersion {
			return conflict(name, "Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v",
				*p.ResourceVersion, dp.ResourceVersion)
		}
	}
	deleted := dp.DeepCopy()
	if dp.DeletionTimestamp == nil {
		markDeleted(deleted)
	}
	s.write(dp, deleted, options.DryRun)
	return nil
}

func (s *store) deleteCollection(action clienttesting.DeleteCollectionActionImpl) error {
	list, err := s.list(action.Namespace, action.ListOptions)
	if err != nil {
		return err
	}
	for i := range list.Items {
		if err := s.delete(list.Items[i].Namespace, list.Items[i].Name, action.DeleteOptions); err != nil {
			return err
		}
	}
	return nil
}

// write stores an object, unless nothing has changed or it is a dry run, and returns it. An
// object that is deleted and has no finalizers is removed.
func (s *store) write(before, after *v1alpha1.DataPlane, dryRun []string) *v1alpha1.DataPlane {
	switch {
	case before != nil && equality.Semantic.DeepEqual(untimed(before), untimed(after)):
		return before
	case len(dryRun) > 0:
		return after
	case after.DeletionTimestamp != nil && len(after.Finalizers) == 0:
		s.commit(before, nil)
		return after
	default:
		return s.commit(before, after)
	}
}

// untimed returns a copy of an object without the times of its managed fields.
func untimed(dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	dp = dp.DeepCopy()
	for i := range dp.ManagedFields {
		dp.ManagedFields[i].Time = nil
	}
	return dp
}

// commit makes a change, gives the object that comes of it a resource version, and returns it.
func (s *store) commit(before, after *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	s.changes = append(s.changes, change{before, after})
	if after != nil {
		after.ResourceVersion = s.resourceVersion()
		s.objects[keyOf(after)] = after
	} else {
		delete(s.objects, keyOf(before))
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return after
}

// resourceVersion is that of the last change. It is never 0, which means something else in
// options of list and watch.
func (s *store) resourceVersion() string { return strconv.Itoa(len(s.changes) + 1) }

func invalid(dp *v1alpha1.DataPlane, err *field.Error) error {
	return apierrors.NewInvalid(kind.GroupKind(), dp.Name, field.ErrorList{err})
}

func conflict(name, format string, args ...any) error {
	return apierrors.NewConflict(resource, name, fmt.Errorf(format, args...))
}
