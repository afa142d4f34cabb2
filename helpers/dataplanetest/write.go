// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// complete fills in the fields that the server sets in a new object.
func complete(raw *unstructured.Unstructured) {
	raw.SetUID(uuid.NewUUID())
	raw.SetGeneration(1)
	raw.SetCreationTimestamp(now())
	if prefix := raw.GetGenerateName(); prefix != "" && raw.GetName() == "" {
		const random, longest = 5, 63
		raw.SetName(prefix[:min(len(prefix), longest-random)] + rand.String(random))
	}
}

// validateNew checks a complete object before it is stored for the first time.
func (s *store) validateNew(raw *unstructured.Unstructured) error {
	errs := append(s.validate(raw), validation.ValidateObjectMetaAccessor(raw, s.namespaced, validation.NameIsDNSSubdomain, field.NewPath("metadata"))...)
	if len(errs) > 0 {
		return invalid(raw, errs...)
	}
	return nil
}

// replace stores sent in the place of the live object, or only its status in the place of the live
// status.
func (s *store) replace(live, sent *unstructured.Unstructured, r writeRequest) (*unstructured.Unstructured, error) {
	after := s.reset(live, sent, r.subresource)
	if after = s.manage(live, after, r.subresource, r.manager); !s.fits(sent) {
		after.SetManagedFields(nil) // API servers record managers before they check which part may change
	}
	withoutDuplicateOwners(after)
	return s.finish(live, sent, after, r)
}

// reset returns sent with the part that the request may not change, the status or all else, taken
// from live.
func (s *store) reset(live, sent *unstructured.Unstructured, subresource string) *unstructured.Unstructured {
	changed, kept := sent, live
	if subresource == status {
		changed, kept = live, sent
	}
	after := changed.DeepCopy()
	delete(after.Object, status)
	if value, ok := kept.DeepCopy().Object[status]; ok {
		after.Object[status] = value
	}
	after.SetManagedFields(sent.GetManagedFields())
	return after
}

// finish checks an object that was made from sent, completes and stores it.
func (s *store) finish(live, sent, after *unstructured.Unstructured, r writeRequest) (*unstructured.Unstructured, error) {
	switch version, err := parseVersion(sent.GetResourceVersion()); {
	case err != nil:
		return nil, err
	case version == 0:
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: s.Group, Kind: s.plural}, sent.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update"),
		})
	case sent.GetResourceVersion() != live.GetResourceVersion():
		return nil, s.conflict(live, "the object has been modified; please apply your changes to the latest version and try again")
	case sent.GetAPIVersion() == "":
		return nil, apierrors.NewInternalError(errors.New("object 'apiVersion' is missing"))
	}
	after.SetGeneration(live.GetGeneration())
	if r.subresource == "" && !equality.Semantic.DeepEqual(withoutMetadata(live), withoutMetadata(after)) {
		after.SetGeneration(live.GetGeneration() + 1)
	}
	if after.GetUID() == "" {
		after.SetUID(live.GetUID())
	}
	after.SetCreationTimestamp(live.GetCreationTimestamp())
	if live.GetDeletionTimestamp() != nil {
		after.SetDeletionTimestamp(live.GetDeletionTimestamp())
	}
	if live.GetDeletionGracePeriodSeconds() != nil && after.GetDeletionGracePeriodSeconds() == nil {
		after.SetDeletionGracePeriodSeconds(live.GetDeletionGracePeriodSeconds())
	}
	name := func(name string, _ bool) []string { return path.IsValidPathSegmentName(name) }
	errs := validation.ValidateObjectMetaAccessor(after, s.namespaced, name, field.NewPath("metadata"))
	errs = append(errs, validation.ValidateObjectMetaAccessorUpdate(after, live, field.NewPath("metadata"))...)
	if errs = append(errs, s.validate(after)...); len(errs) > 0 {
		return nil, invalid(after, errs...)
	}
	return s.write(live, after, r.dryRun), nil
}

// validate checks the kind, the apiVersion and the types of values. It doesn't know the other rules
// of a CRD.
func (s *store) validate(raw *unstructured.Unstructured) (errs field.ErrorList) {
	if raw.GetKind() != s.Kind {
		errs = append(errs, field.Invalid(field.NewPath("kind"), raw.GetKind(), "must be "+s.Kind))
	}
	if version := s.GroupVersion().String(); raw.GetAPIVersion() != version {
		errs = append(errs, field.Invalid(field.NewPath("apiVersion"), raw.GetAPIVersion(), "must be "+version))
	}
	if _, err := s.decode(raw); err != nil {
		path, wrong := field.NewPath(status), new(json.UnmarshalTypeError)
		if errors.As(err, &wrong) && wrong.Field != "" {
			path = field.NewPath(wrong.Field)
		}
		errs = append(errs, field.Invalid(path, "", err.Error()))
	}
	if path := nullIn(raw.Object, nil); path != nil {
		errs = append(errs, field.Invalid(path, nil, "must not be null"))
	}
	return errs
}

// nullIn returns the path of a null field outside the metadata. Apply leaves one when it removes all
// that a field holds.
func nullIn(fields map[string]any, path *field.Path) *field.Path {
	for name, value := range fields {
		child, _ := value.(map[string]any)
		switch found := path.Child(name); {
		case path == nil && name == "metadata":
		case value == nil:
			return found
		case nullIn(child, found) != nil:
			return nullIn(child, found)
		}
	}
	return nil
}

func withoutMetadata(raw *unstructured.Unstructured) map[string]any {
	rest := map[string]any{}
	for key, value := range raw.Object {
		if key != "metadata" {
			rest[key] = value
		}
	}
	return rest
}

// parseVersion parses a resource version. It returns 0 if there is none.
func parseVersion(version string) (uint64, error) {
	if version == "" {
		return 0, nil
	}
	return strconv.ParseUint(version, 10, 64)
}

// remove deletes an object, or marks it as deleted if it waits for finalizers.
func (s *store) remove(live *unstructured.Unstructured, options metav1.DeleteOptions) {
	after := live.DeepCopy()
	after.SetFinalizers(finalizersToDelete(live.GetFinalizers(), options))
	if len(after.GetFinalizers()) == 0 {
		if len(options.DryRun) == 0 {
			s.commit(live, nil)
		}
		return
	}
	if live.GetDeletionTimestamp() == nil {
		at := now()
		after.SetDeletionTimestamp(&at)
		after.SetGeneration(live.GetGeneration() + 1)
	}
	immediately := int64(0)
	after.SetDeletionGracePeriodSeconds(&immediately)
	s.write(live, after, options.DryRun)
}

// finalizersToDelete returns the finalizers of an object that is deleted with options. The options
// decide about the garbage collector's finalizers; without a policy, they stay.
func finalizersToDelete(finalizers []string, options metav1.DeleteOptions) []string {
	var collector string
	switch orphan, policy := options.OrphanDependents, options.PropagationPolicy; { //nolint:staticcheck // API servers still take it
	case orphan != nil && *orphan, orphan == nil && policy != nil && *policy == metav1.DeletePropagationOrphan:
		collector = metav1.FinalizerOrphanDependents
	case orphan == nil && policy != nil && *policy == metav1.DeletePropagationForeground:
		collector = metav1.FinalizerDeleteDependents
	case orphan == nil && policy == nil:
		if i := slices.IndexFunc(finalizers, ofCollector); i >= 0 {
			collector = finalizers[i]
		}
	}
	if slices.Contains(finalizers, collector) && !slices.ContainsFunc(finalizers, func(f string) bool { return f != collector && ofCollector(f) }) {
		return finalizers
	}
	kept := slices.DeleteFunc(slices.Clone(finalizers), ofCollector)
	if collector != "" {
		kept = append(kept, collector)
	}
	return kept
}

func ofCollector(finalizer string) bool {
	return finalizer == metav1.FinalizerOrphanDependents || finalizer == metav1.FinalizerDeleteDependents
}
