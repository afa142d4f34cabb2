// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// apiServer stores one DataPlane and applies status patches like an API server.
type apiServer struct {
	stored        *v1alpha1.DataPlane
	gets, patches int
	options       metav1.PatchOptions
	beforePatch   func(*v1alpha1.DataPlane) // another writer
}

func serve(dp *v1alpha1.DataPlane) *apiServer {
	stored := dp.DeepCopy()
	stored.UID, stored.ResourceVersion = "1", "100"
	return &apiServer{stored: stored}
}

func (s *apiServer) Get(ctx context.Context, _ string, _ metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	s.gets++
	return s.stored.DeepCopy(), ctx.Err()
}

func (s *apiServer) Patch(ctx context.Context, name string, patchType types.PatchType, data []byte, opts metav1.PatchOptions,
	subresources ...string,
) (*v1alpha1.DataPlane, error) {
	s.patches++
	s.options = opts
	if s.beforePatch != nil {
		s.beforePatch(s.stored)
	}
	patch := struct {
		Metadata struct{ ResourceVersion string }
		Status   map[string]json.RawMessage
	}{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	switch err := decoder.Decode(&patch); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case patchType != types.MergePatchType || len(subresources) != 1 || subresources[0] != "status":
		return nil, errors.New("not a merge patch of the status")
	case bytes.Contains(data, []byte(`"lastTransitionTime":null`)):
		return nil, errors.New("status.conditions.lastTransitionTime: must be of type string")
	case patch.Metadata.ResourceVersion != s.stored.ResourceVersion:
		return nil, apierrors.NewConflict(v1alpha1.Resource("dataplanes"), name, errors.New("the object has been modified"))
	}
	patched := s.stored.DeepCopy()
	for field, value := range patch.Status {
		into := any(&patched.Status.ObservedGeneration)
		if field == "conditions" {
			patched.Status.Conditions = nil
			into = &patched.Status.Conditions
		}
		if err := json.Unmarshal(value, into); err != nil {
			return nil, err
		}
	}
	edited(patched)
	if len(opts.DryRun) == 0 {
		s.stored = patched.DeepCopy()
	}
	return patched, nil
}

// failsAfterConflict returns err from the get that follows a conflict.
type failsAfterConflict struct {
	*apiServer
	err error
}

func (f failsAfterConflict) Get(context.Context, string, metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	return nil, f.err
}

type failing struct{ err error }

func (f *failing) Get(context.Context, string, metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	return nil, f.err
}

func (f *failing) Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (*v1alpha1.DataPlane, error) {
	return nil, f.err
}
