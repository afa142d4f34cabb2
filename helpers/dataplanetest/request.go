// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
)

// react answers all actions except watches.
func (s *store) react(action clienttesting.Action) (handled bool, _ runtime.Object, _ error) {
	if err := s.checkPath(action); err != nil {
		return true, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	object, err := s.answer(action)
	if err != nil || object == nil {
		return true, nil, asStatus(err)
	}
	return true, object, nil
}

// asStatus returns an error as clients see it. For unexpected errors, API servers answer 500.
func asStatus(err error) error {
	if status := apierrors.APIStatus(nil); err == nil || errors.As(err, &status) {
		return err
	}
	return failure(http.StatusInternalServerError, "", err.Error())
}

// failure returns a StatusError without details.
func failure(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

func (s *store) answer(action clienttesting.Action) (runtime.Object, error) {
	switch action := action.(type) {
	case clienttesting.ListActionImpl:
		return s.list(action.Namespace, action.ListOptions)
	case clienttesting.GetActionImpl:
		if _, err := parseVersion(action.GetOptions.ResourceVersion); err != nil {
			return nil, err
		}
		return s.decodeResult(s.get(action.Namespace, action.Name))
	case clienttesting.CreateActionImpl:
		return s.decodeResult(s.create(action))
	case clienttesting.UpdateActionImpl:
		return s.decodeResult(s.update(action))
	case clienttesting.PatchActionImpl:
		return s.decodeResult(s.patch(action))
	case clienttesting.DeleteActionImpl:
		return nil, s.delete(action.Namespace, action.Name, action.DeleteOptions)
	case clienttesting.DeleteCollectionActionImpl:
		return nil, s.deleteCollection(action)
	default:
		return nil, fmt.Errorf("unknown action %T", action)
	}
}

func (s *store) decodeResult(raw *unstructured.Unstructured, err error) (runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	return s.decode(raw)
}

// checkPath refuses names for which client-go sends no request, and paths that API servers don't
// serve.
func (s *store) checkPath(action clienttesting.Action) error {
	if name, named := nameIn(action); named {
		if name == "" {
			return errors.New("resource name may not be empty")
		}
		if faults := rest.IsValidPathSegmentName(name); len(faults) > 0 {
			return fmt.Errorf("invalid resource name %q: %v", name, faults)
		}
	}
	if subresource := action.GetSubresource(); subresource != "" && subresource != status {
		name, _ := nameIn(action)
		return apierrors.NewNotFound(s.resource(), name)
	}
	if s.namespaced && action.GetNamespace() == "" && action.GetVerb() != "list" {
		return apierrors.NewGenericServerResponse(http.StatusNotFound, action.GetVerb(), s.resource(), "", "", 0, true)
	}
	return nil
}

// nameIn returns the name in the path of a request, if there is one.
func nameIn(action clienttesting.Action) (name string, named bool) {
	switch action := action.(type) {
	case clienttesting.GetActionImpl:
		return action.Name, true
	case clienttesting.UpdateActionImpl:
		object, err := meta.Accessor(action.Object)
		return object.GetName(), err == nil
	case clienttesting.PatchActionImpl:
		return action.Name, true
	case clienttesting.DeleteActionImpl:
		return action.Name, true
	default:
		return "", false
	}
}

// writeRequest has the parameters that all write requests share.
type writeRequest struct {
	namespace, name, subresource string
	manager                      string
	dryRun                       []string
}

func (s *store) create(action clienttesting.CreateActionImpl) (*unstructured.Unstructured, error) {
	options := action.CreateOptions
	if err := invalidOptions("CreateOptions", validation.ValidateCreateOptions(&options)); err != nil {
		return nil, err
	}
	sent, err := s.encode(action.Object)
	if err != nil {
		return nil, err
	}
	if err := inNamespace(sent, action.Namespace); err != nil {
		return nil, err
	}
	delete(sent.Object, status)
	sent.SetUID("")
	sent.SetCreationTimestamp(metav1.Time{})
	sent.SetDeletionTimestamp(nil)
	sent.SetDeletionGracePeriodSeconds(nil)
	withoutDuplicateOwners(sent)
	after := s.manage(newRaw(s.GroupVersionKind), sent, "", options.FieldManager)
	complete(after)
	if err := s.validateNew(after); err != nil {
		return nil, err
	}
	if version, err := parseVersion(after.GetResourceVersion()); err == nil && version != 0 && len(options.DryRun) == 0 {
		return nil, errors.New("resourceVersion should not be set on objects to be created")
	}
	if s.objects[keyOf(after)] != nil {
		return nil, apierrors.NewAlreadyExists(s.resource(), after.GetName())
	}
	return s.write(nil, after, options.DryRun), nil
}

func (s *store) update(action clienttesting.UpdateActionImpl) (*unstructured.Unstructured, error) {
	options := action.UpdateOptions
	if err := invalidOptions("UpdateOptions", validation.ValidateUpdateOptions(&options)); err != nil {
		return nil, err
	}
	sent, err := s.encode(action.Object)
	if err != nil {
		return nil, err
	}
	if err := inNamespace(sent, action.Namespace); err != nil {
		return nil, err
	}
	live, err := s.get(action.Namespace, sent.GetName())
	if err != nil {
		return nil, err
	}
	if uid := sent.GetUID(); uid != "" && uid != live.GetUID() {
		return nil, s.conflict(live, "Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, live.GetUID())
	}
	withoutDuplicateOwners(sent) // unlike a patch, before managers are recorded
	r := writeRequest{action.Namespace, sent.GetName(), action.Subresource, options.FieldManager, options.DryRun}
	return s.replace(live, sent, r)
}

func (s *store) delete(namespace, name string, options metav1.DeleteOptions) error {
	if err := invalidOptions("DeleteOptions", validation.ValidateDeleteOptions(&options)); err != nil {
		return err
	}
	live, err := s.get(namespace, name)
	if err != nil {
		return err
	}
	if p := options.Preconditions; p != nil {
		kind := schema.GroupResource{Group: s.Group, Resource: s.Kind} // API servers put the kind in the place of the resource
		if p.UID != nil && *p.UID != live.GetUID() {
			return apierrors.NewConflict(kind, name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s)", *p.UID, live.GetUID()))
		}
		if p.ResourceVersion != nil && *p.ResourceVersion != live.GetResourceVersion() {
			return apierrors.NewConflict(kind, name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s)",
				*p.ResourceVersion, live.GetResourceVersion()))
		}
	}
	s.remove(live, options)
	return nil
}

func (s *store) deleteCollection(action clienttesting.DeleteCollectionActionImpl) error {
	options := action.DeleteOptions
	selects, err := s.selector(action.Namespace, action.ListOptions)
	if err != nil {
		return err
	}
	if err := invalidOptions("DeleteOptions", validation.ValidateDeleteOptions(&options)); err != nil {
		return err
	}
	for _, raw := range selected(s.objects, selects) {
		if err := s.delete(raw.GetNamespace(), raw.GetName(), options); err != nil {
			return err
		}
	}
	return nil
}

func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind(kind).GroupKind(), "", errs)
}

func invalid(raw *unstructured.Unstructured, errs ...*field.Error) error {
	return apierrors.NewInvalid(raw.GroupVersionKind().GroupKind(), raw.GetName(), errs)
}

func (s *store) conflict(raw *unstructured.Unstructured, format string, args ...any) error {
	return apierrors.NewConflict(s.resource(), raw.GetName(), fmt.Errorf(format, args...))
}

// inNamespace sets an object's namespace to the request's. An object with another namespace is
// refused, unless the request is cluster-scoped.
func inNamespace(raw *unstructured.Unstructured, namespace string) error {
	switch raw.GetNamespace() {
	case namespace:
	case "":
		raw.SetNamespace(namespace)
	default:
		if namespace != "" {
			return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
		raw.SetNamespace("")
	}
	return nil
}

// withoutDuplicateOwners removes duplicate owner references.
func withoutDuplicateOwners(raw *unstructured.Unstructured) {
	var owners []metav1.OwnerReference
	for _, owner := range raw.GetOwnerReferences() {
		if !slices.ContainsFunc(owners, func(other metav1.OwnerReference) bool { return reflect.DeepEqual(other, owner) }) {
			owners = append(owners, owner)
		}
	}
	raw.SetOwnerReferences(owners)
}
