#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Makes everything that is generated: deep copies, the CRD, the clientset, the
# informers, the listers and the apply configurations. Needs only Go.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

module=github.com/openchoreo/dataplane-sdk-go
api=$module/apis/openchoreo/v1alpha1
trees=(applyconfigurations clientset informers internal/schema listers)

export GOFLAGS=-mod=readonly GOWORK=off

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Built first: nothing is removed before everything that makes it anew is there.
go -C hack/codegen build -o "$tmp/bin/" tool ./compat
generate() { "$tmp/bin/$1" --go-header-file hack/boilerplate.go.txt "${@:2}"; }

# Clean, then generate: a file that is no longer generated must not stay.
rm -rf "${trees[@]}" hack/codegen/openapi
rm -f apis/openchoreo/v1alpha1/zz_generated.* apis/openchoreo/crds/*.yaml

generate deepcopy-gen --output-file zz_generated.deepcopy.go "$api"

"$tmp/bin/controller-gen" crd paths=./apis/openchoreo/v1alpha1 output:crd:dir=apis/openchoreo/crds

# The schema goes to a file in a step of its own, so that a failure stops the script.
generate openapi-gen --output-file zz_generated.openapi.go --report-filename /dev/null \
  --output-dir hack/codegen/openapi --output-pkg $module/hack/codegen/openapi \
  "$api" k8s.io/apimachinery/pkg/apis/meta/v1
go -C hack/codegen run ./modelsschema >"$tmp/openapi.json"

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

"$tmp/bin/compat" .
gofmt -w "${trees[@]}"
