#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Makes everything that is generated: deep copies, the CRDs, the clientset, the
# informers, the listers and the apply configurations. Needs Go and git.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

module=github.com/openchoreo/dataplane-sdk-go
api=$module/apis/openchoreo/v1alpha1
trees=(applyconfigurations clientset informers internal/schema listers)

export GOFLAGS=-mod=readonly GOWORK=off

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Built first: nothing is removed before everything that makes it anew is there.
go -C hack/codegen build -o "$tmp/bin/" tool ./crds
generate() { "$tmp/bin/$1" --go-header-file hack/boilerplate.go.txt "${@:2}"; }

# Clean, then generate: a file that is no longer generated must not stay.
rm -rf "${trees[@]}"
rm -f apis/openchoreo/v1alpha1/zz_generated.* apis/openchoreo/crds/*.yaml

generate deepcopy-gen --output-file zz_generated.deepcopy.go "$api"

# The Go types have the fields of two generations of OpenChoreo, a definition those of one.
"$tmp/bin/controller-gen" crd paths=./apis/openchoreo/v1alpha1 output:crd:dir="$tmp/crds"
"$tmp/bin/crds" "$tmp/crds/openchoreo.dev_dataplanes.yaml" \
  apis/openchoreo/crds/openchoreo.dev_dataplanes.yaml apis/openchoreo/crds/openchoreo.dev_dataplanes_v1.yaml
cp "$tmp/crds/openchoreo.dev_clusterdataplanes.yaml" apis/openchoreo/crds/

# The schema goes to a file in a step of its own, so that a failure stops the script.
generate openapi-gen --output-file openapi.go --report-filename /dev/null \
  --output-dir "$tmp/openapi" --output-pkg $module/hack/codegen/openapi \
  "$api" k8s.io/apimachinery/pkg/apis/meta/v1
printf '{"Replace": {"%s": "%s"}}' "$PWD/hack/codegen/openapi/openapi.go" "$tmp/openapi/openapi.go" >"$tmp/overlay.json"
go -C hack/codegen run -overlay "$tmp/overlay.json" ./modelsschema >"$tmp/openapi.json"

generate applyconfiguration-gen --openapi-schema "$tmp/openapi.json" \
  --output-dir applyconfigurations --output-pkg $module/applyconfigurations "$api"
cp "$tmp/openapi.json" applyconfigurations/internal/openapi.json

generate client-gen --clientset-name versioned --input-base "" --input "$api" \
  --apply-configuration-package $module/applyconfigurations \
  --output-dir clientset --output-pkg $module/clientset

generate lister-gen --output-dir listers --output-pkg $module/listers "$api"

generate informer-gen --listers-package $module/listers \
  --versioned-clientset-package $module/clientset/versioned \
  --output-dir informers --output-pkg $module/informers "$api"

# One release must build and work with client-go 0.33 to 0.37, which generated code doesn't. Each
# patch says why it is there, and one that doesn't fit any more is an error. The files stand beside
# the generated ones, or in place of them: package comments, and code that the patches use.
mkdir internal/schema
mv applyconfigurations/internal/internal.go internal/schema/schema.go
# The ceiling makes git take a copy of this tree, inside another repository, for no part of that.
GIT_CEILING_DIRECTORIES=$(dirname "$PWD") git apply hack/codegen/patches/*.patch
cp -R hack/codegen/_files/. .
gofmt -w "${trees[@]}"
